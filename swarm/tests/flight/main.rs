//! The flight end to end over in-memory sources: one fetch for many readers, bytes as they arrive,
//! deep ranges, cuts, stalls, lies, readers coming and going, restarts, full disks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

mod failing;
mod origin;
mod reading;
mod rotten;
mod storing;

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use oci::{Algorithm, Digest};
use origin::{Scripted, content};
use swarm::store::{Examined, Limits, MinFree, Options};
use swarm::{
    BlobReader, BlobStore, ByteSet, DiskStore, Engine, EngineOptions, Fault, FetchRange,
    FlightScope, HeldBlob, How, MemoryStore, PartialBlob, ReadError, ScopeTag, Slice, StoreError,
    Usage, Want,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// A guard against hanging, never a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

fn engine() -> Engine {
    engine_over(MemoryStore::new(Limits::cap(1 << 30)))
}

fn engine_over(store: impl BlobStore) -> Engine {
    Engine::new(Arc::new(store), options())
}

/// An engine that loses patience with sources quickly.
fn hasty_engine() -> Engine {
    let options = EngineOptions {
        stall: Duration::from_millis(300),
        ..options()
    };
    Engine::new(Arc::new(MemoryStore::new(Limits::cap(1 << 30))), options)
}

fn options() -> EngineOptions {
    EngineOptions {
        hash_threads: 2,
        ..EngineOptions::default()
    }
}

fn disk(folder: &Path) -> DiskStore {
    let mut options = Options::new(folder, Limits::cap(1 << 30));
    options.min_free = MinFree::Bytes(0);
    DiskStore::open(options).unwrap()
}

fn want(digest: &Digest, first: FetchRange, source: &Arc<Scripted>) -> Want {
    Want {
        digest: *digest,
        scope: FlightScope::new("registry.example"),
        first,
        repository: None,
        source: source.clone(),
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("within the test's patience")
}

async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// All that a stream gives: the bytes before its end or error.
async fn collect(reader: &BlobReader, range: Range<u64>) -> (Vec<u8>, Option<ReadError>) {
    let mut stream = reader.stream(range);
    let mut got = Vec::new();
    while let Some(item) = soon(stream.next()).await {
        match item {
            Ok(slice) => got.extend_from_slice(&slice.bytes),
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}

async fn read_all(engine: &Engine, digest: &Digest, source: &Arc<Scripted>) -> Vec<u8> {
    let reader = soon(engine.read(want(digest, FetchRange::All, source)))
        .await
        .unwrap();
    let (got, error) = collect(&reader, 0..reader.total()).await;
    assert!(error.is_none(), "{error:?}");
    got
}
