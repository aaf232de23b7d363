//! The flight end to end over in-memory sources: one fetch for many readers, bytes as they arrive,
//! deep ranges, cuts, stalls, lies, readers coming and going, restarts, full disks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

mod origin;

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use oci::{Algorithm, Digest};
use origin::{Scripted, content};
use swarm::store::{Limits, MinFree, Options};
use swarm::{
    BlobReader, BlobStore, DiskStore, Engine, EngineOptions, Fault, FetchRange, FlightScope, How,
    MemoryStore, ReadError, Want,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// A guard against hanging, never a measurement.
const PATIENCE: Duration = Duration::from_secs(5);

fn engine() -> Engine {
    engine_over(MemoryStore::new(Limits::cap(1 << 30)))
}

fn engine_over(store: impl BlobStore) -> Engine {
    Engine::new(Arc::new(store), options())
}

/// An engine that loses patience quickly.
fn hasty_engine() -> Engine {
    let options = EngineOptions {
        stall: Duration::from_millis(300),
        linger: Duration::from_millis(300),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_and_algorithms_arrive_whole_and_are_held() {
    let engine = engine();
    let sizes = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 3 * MIB + 17];
    for size in sizes {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let blob = content(size);
            let digest = Digest::of(algorithm, &blob);
            let source = Scripted::new(&blob);
            assert_eq!(
                read_all(&engine, &digest, &source).await,
                blob,
                "{size} {algorithm:?}"
            );
            until(|| engine.held(&digest).is_some()).await;
            let again = soon(engine.read(want(&digest, FetchRange::All, &source)))
                .await
                .unwrap();
            assert_eq!(again.how(), How::Held);
            assert_eq!(collect(&again, 0..size as u64).await.0, blob);
            assert_eq!(source.requests(), [FetchRange::All]);
        }
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_readers_cost_one_fetch() {
    let engine = engine();
    let blob = content(5 * MIB + 3);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate_heads(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (engine, source) = (engine.clone(), source.clone());
        readers.spawn(async move { read_all(&engine, &digest, &source).await });
    }
    until(|| engine.stats().flights_joined == 63).await;
    source.gate_heads(true);
    while let Some(got) = readers.join_next().await {
        assert_eq!(got.unwrap(), blob);
    }
    assert_eq!(source.requests(), [FetchRange::All]);
    assert_eq!(source.sent(), blob.len() as u64);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_byte_leaves_as_it_arrives_and_the_tail_waits_for_the_digest() {
    let engine = engine();
    let blob = content(MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(1);
    let reader = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    assert_eq!((reader.how(), reader.total()), (How::Started, MIB as u64));
    let mut stream = reader.stream(0..MIB as u64);
    let first = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!(first.bytes, blob[..1]);

    source.gate(MIB as u64 - 1);
    let mut got = 1;
    while got < MIB - 64 * KIB {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len();
    }
    assert_eq!(got, MIB - 64 * KIB, "nothing of the tail, all before it");
    assert!(futures_util::poll!(stream.next()).is_pending());
    source.gate(u64::MAX);
    while let Some(slice) = soon(stream.next()).await {
        got += slice.unwrap().bytes.len();
    }
    assert_eq!(got, MIB);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_range_does_not_wait_for_the_beginning() {
    let engine = engine();
    let blob = content(16 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(10);
    let whole = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let deep = 9 * MIB as u64..9 * MIB as u64 + 100_000;
    let first = FetchRange::Span(deep.clone());
    let reader = soon(engine.read(want(&digest, first.clone(), &source)))
        .await
        .unwrap();
    assert_eq!(reader.how(), How::Joined);
    let (got, error) = collect(&reader, deep.clone()).await;
    assert!(error.is_none());
    assert_eq!(got, blob[deep.start as usize..deep.end as usize]);
    assert_eq!(source.requests(), [FetchRange::All, first]);
    source.gate(u64::MAX);
    assert_eq!(collect(&whole, 0..whole.total()).await.0, blob);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_deep_range_alone_fetches_nothing_else() {
    let engine = engine();
    let blob = content(16 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let deep = 9 * MIB as u64..9 * MIB as u64 + 100_000;
    let first = FetchRange::Span(deep.clone());
    let reader = soon(engine.read(want(&digest, first.clone(), &source)))
        .await
        .unwrap();
    assert_eq!(
        (reader.how(), reader.total()),
        (How::Started, 16 * MIB as u64)
    );
    assert_eq!(collect(&reader, deep.clone()).await.0.len(), 100_000);
    drop(reader);
    until(|| engine.stats().flights_in_progress == 0).await;
    assert_eq!(source.requests(), [first]);
    assert_eq!(source.sent(), 100_000);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_first_range_is_answered() {
    let blob = content(3 * MIB);
    let digest = Digest::sha256(&blob);
    let cases = [
        (FetchRange::From(0), 0..3 * MIB),
        (FetchRange::From(2 * MIB as u64), 2 * MIB..3 * MIB),
        (FetchRange::Last(100), 3 * MIB - 100..3 * MIB),
        (FetchRange::Last(1 << 40), 0..3 * MIB),
        (FetchRange::Span(5..1 << 40), 5..3 * MIB),
        (FetchRange::Span(MIB as u64..MIB as u64 + 1), MIB..MIB + 1),
    ];
    for (first, range) in cases {
        let engine = engine();
        let source = Scripted::new(&blob);
        let reader = soon(engine.read(want(&digest, first.clone(), &source)))
            .await
            .unwrap();
        assert_eq!(reader.how(), How::Started, "{first:?}");
        let (got, error) = collect(&reader, range.start as u64..range.end as u64).await;
        assert!(error.is_none(), "{first:?}: {error:?}");
        assert_eq!(got, blob[range], "{first:?}");
        assert!(
            source.sent() <= (3 * MIB + 64 * KIB) as u64,
            "{first:?} cost {}",
            source.sent()
        );
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_beyond_the_end_is_unsatisfiable() {
    let engine = engine();
    let blob = content(MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    for first in [
        FetchRange::From(MIB as u64),
        FetchRange::Span(1 << 30..1 << 31),
        FetchRange::Last(0),
    ] {
        let error = soon(engine.read(want(&digest, first.clone(), &source)))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ReadError::Unsatisfiable { total } if total == MIB as u64),
            "{first:?}: {error:?}"
        );
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_resumed_where_it_was() {
    let size = 2 * MIB as u64;
    let offsets = [0, 1, 64 * 1024, 777_777, size - 64 * 1024, size - 1];
    for offset in offsets {
        let engine = engine();
        let blob = content(size as usize);
        let digest = Digest::sha256(&blob);
        let source = Scripted::new(&blob);
        source.cut_at(offset);
        assert_eq!(
            read_all(&engine, &digest, &source).await,
            blob,
            "cut at {offset}"
        );
        let resumed = if offset == 0 {
            FetchRange::All
        } else {
            FetchRange::From(offset)
        };
        assert_eq!(source.requests(), [FetchRange::All, resumed]);
        assert_eq!(source.sent(), size);
        assert_eq!(engine.stats().resumed, 1);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_source_is_left_for_another() {
    let engine = hasty_engine();
    let blob = content(2 * MIB);
    let digest = Digest::sha256(&blob);
    let (slow, good) = (
        Scripted::named("slow", &blob),
        Scripted::named("good", &blob),
    );
    for _ in 0..9 {
        slow.stall_at(MIB as u64);
    }
    let one = engine
        .read(want(&digest, FetchRange::All, &slow))
        .await
        .unwrap();
    let two = engine
        .read(want(&digest, FetchRange::All, &good))
        .await
        .unwrap();
    assert_eq!((one.how(), two.how()), (How::Started, How::Joined));
    let (one, two) = tokio::join!(collect(&one, 0..1 << 40), collect(&two, 0..1 << 40));
    assert!(one.1.is_none() && two.1.is_none());
    assert_eq!((&one.0[..], &two.0[..]), (&blob[..], &blob[..]));
    assert!(slow.requests().len() >= 2, "once more, then the other");
    assert!(good.requests().contains(&FetchRange::From(MIB as u64)));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_only_stalls_is_given_up() {
    let engine = hasty_engine();
    let blob = content(2 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    for _ in 0..9 {
        source.stall_at(MIB as u64);
    }
    let reader = engine
        .read(want(&digest, FetchRange::All, &source))
        .await
        .unwrap();
    let mut stream = reader.stream(0..reader.total());
    let mut got = Vec::new();
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(slice) => got.extend_from_slice(&slice.bytes),
            Err(error) => break error,
        }
    };
    assert_eq!(got, blob[..MIB], "good bytes first");
    assert!(matches!(error, ReadError::Source(_)), "{error:?}");
    assert!(source.requests().len() <= 6);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_source_refuses_its_reader_only() {
    for fault in [Fault::Denied, Fault::NotFound] {
        let engine = engine();
        let blob = content(MIB);
        let digest = Digest::sha256(&blob);
        let (bad, good) = (
            Scripted::named("bad", &blob),
            Scripted::named("good", &blob),
        );
        bad.gate_heads(false);
        bad.refuse(fault.clone());
        let (first, second) =
            tokio::join!(engine.read(want(&digest, FetchRange::All, &bad)), async {
                until(|| !bad.requests().is_empty()).await;
                let joined = engine.read(want(&digest, FetchRange::All, &good));
                let (joined, ()) = tokio::join!(joined, async {
                    until(|| engine.stats().flights_joined == 1).await;
                    bad.gate_heads(true);
                });
                joined
            });
        assert!(matches!(first, Err(ReadError::Source(e)) if e.fault == fault));
        let second = second.unwrap();
        assert_eq!(second.how(), How::Started);
        assert_eq!(collect(&second, 0..MIB as u64).await.0, blob);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_gives_is_said_at_once() {
    let engine = engine();
    let blob = content(MIB);
    let digest = Digest::sha256(&blob);
    let limited = Fault::Limited {
        retry_after: Some(Duration::from_secs(7)),
    };
    for fault in [
        Fault::NotFound,
        Fault::Denied,
        Fault::Unavailable("down".into()),
        limited,
    ] {
        let source = Scripted::new(&blob);
        source.refuse(fault.clone());
        let error = soon(engine.read(want(&digest, FetchRange::All, &source)))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ReadError::Source(e) if e.fault == fault),
            "{error:?}"
        );
        assert_eq!(source.requests().len(), 1);
        assert_eq!(
            error.retry_after().is_some(),
            matches!(fault, Fault::Limited { .. })
        );
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_reach_nobody_whole_and_nothing_is_kept() {
    for size in [1, 64 * KIB, 3 * MIB] {
        for bad_at in [0, size / 2, size - 1] {
            let folder = tempfile::tempdir().unwrap();
            let engine = engine_over(disk(folder.path()));
            let blob = content(size);
            let digest = Digest::sha256(&blob);
            let mut tampered = blob.to_vec();
            tampered[bad_at] ^= 1;
            let liar = Scripted::named("liar", &tampered.into());
            let mut readers = tokio::task::JoinSet::new();
            for start in [0, 0, size as u64 / 2] {
                let (engine, liar) = (engine.clone(), liar.clone());
                readers.spawn(async move {
                    let first = FetchRange::From(start);
                    let reader = engine.read(want(&digest, first, &liar)).await.unwrap();
                    let (got, error) = collect(&reader, start..reader.total()).await;
                    assert!(matches!(error, Some(ReadError::WrongDigest)), "{error:?}");
                    assert!(got.len() + 64 * KIB <= size.max(64 * KIB));
                });
            }
            while let Some(done) = readers.join_next().await {
                done.unwrap();
            }
            assert!(engine.held(&digest).is_none());
            let honest = Scripted::new(&blob);
            assert_eq!(read_all(&engine, &digest, &honest).await, blob);
            assert_eq!(
                honest.sent(),
                size as u64,
                "nothing of the lie was taken up"
            );
            engine.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_may_leave() {
    let engine = engine();
    let blob = content(4 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(MIB as u64);
    let first = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let second = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    drop(first);
    source.gate(2 * MIB as u64);
    let mut stream = second.stream(0..second.total());
    let mut got = 0;
    while got < 2 * MIB {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len();
    }
    drop((stream, second));
    source.gate(u64::MAX);
    until(|| engine.held(&digest).is_some()).await;
    assert_eq!(source.requests(), [FetchRange::All]);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_nobody_reads_ends() {
    let engine = hasty_engine();
    let blob = content(4 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(MIB as u64);
    let reader = engine
        .read(want(&digest, FetchRange::All, &source))
        .await
        .unwrap();
    drop(reader);
    until(|| engine.stats().flights_in_progress == 0).await;
    assert!(engine.held(&digest).is_none());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_fetches_only_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let size = 24 * MIB;
    let blob = content(size);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let had = 11 * MIB as u64 + 4321;
    source.gate(had);
    let engine = engine_over(disk(folder.path()));
    let reader = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let mut stream = reader.stream(0..size as u64);
    let mut got = 0;
    while got < had {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len() as u64;
    }
    engine.shutdown().await;
    let error = soon(stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ReadError::ShutDown));
    drop((stream, reader, engine));

    let again = Scripted::new(&blob);
    let engine = engine_over(disk(folder.path()));
    assert_eq!(read_all(&engine, &digest, &again).await, blob);
    let missing = size as u64 - had;
    assert!(
        again.sent() <= missing + MIB as u64,
        "{} > {missing} + 1 MiB",
        again.sent()
    );
    until(|| engine.held(&digest).is_some()).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_chunks_cost_little() {
    let engine = engine();
    let size = 30 * MIB;
    let blob = content(size);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let mut chunks = tokio::task::JoinSet::new();
    for start in (0..size).step_by(8 * MIB) {
        let (engine, source, blob) = (engine.clone(), source.clone(), blob.clone());
        chunks.spawn(async move {
            let first = FetchRange::From(start as u64);
            let reader = engine.read(want(&digest, first, &source)).await.unwrap();
            let mut stream = reader.stream(start as u64..reader.total());
            let end = (start + 8 * MIB).min(size);
            let mut at = start;
            while at < end {
                let slice = soon(stream.next()).await.unwrap().unwrap();
                assert_eq!(slice.bytes, blob[at..at + slice.bytes.len()]);
                at += slice.bytes.len();
            }
        });
    }
    while let Some(done) = chunks.join_next().await {
        done.unwrap();
    }
    until(|| engine.held(&digest).is_some()).await;
    assert!(
        source.sent() as f64 <= 1.2 * size as f64,
        "{} bytes",
        source.sent()
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_ranges_serves_all_the_same() {
    let blob = content(6 * MIB);
    let digest = Digest::sha256(&blob);
    for first in [
        FetchRange::All,
        FetchRange::From(3 * MIB as u64),
        FetchRange::Span(MIB as u64..2 * MIB as u64),
    ] {
        let engine = engine();
        let source = Scripted::without_ranges(&blob);
        source.cut_at(5 * MIB as u64);
        let reader = soon(engine.read(want(&digest, first.clone(), &source)))
            .await
            .unwrap();
        let range = first.resolve(reader.total()).unwrap();
        let (got, error) = collect(&reader, range.clone()).await;
        assert!(error.is_none(), "{first:?}: {error:?}");
        assert_eq!(got, blob[range.start as usize..range.end as usize]);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_passes_through() {
    let engine = engine_over(MemoryStore::new(Limits::cap(MIB as u64)));
    let blob = content(24 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate_heads(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (engine, source) = (engine.clone(), source.clone());
        readers.spawn(async move { read_all(&engine, &digest, &source).await });
    }
    until(|| engine.stats().flights_joined == 7).await;
    source.gate_heads(true);
    while let Some(got) = readers.join_next().await {
        assert_eq!(got.unwrap(), blob);
    }
    assert_eq!(source.requests(), [FetchRange::All]);
    assert!(engine.held(&digest).is_none());

    let tampered: Bytes = {
        let mut bytes = blob.to_vec();
        bytes[7] ^= 1;
        bytes.into()
    };
    let liar = Scripted::new(&tampered);
    let reader = soon(engine.read(want(&digest, FetchRange::All, &liar)))
        .await
        .unwrap();
    let (got, error) = collect(&reader, 0..1 << 40).await;
    assert!(matches!(error, Some(ReadError::WrongDigest)), "{error:?}");
    assert!(got.len() <= 24 * MIB - 64 * KIB);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_outside_the_window_fetches_apart() {
    let engine = engine_over(MemoryStore::new(Limits::cap(MIB as u64)));
    let blob = content(40 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(20 * MIB as u64);
    let main = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let mut stream = main.stream(0..main.total());
    let mut got = 0;
    while got < 20 * MIB {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len();
    }
    let deep = 30 * MIB as u64..31 * MIB as u64;
    for range in [deep, 5..100] {
        let first = FetchRange::Span(range.clone());
        let reader = soon(engine.read(want(&digest, first, &source)))
            .await
            .unwrap();
        let (bytes, error) = collect(&reader, range.clone()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(bytes, blob[range.start as usize..range.end as usize]);
    }
    source.gate(u64::MAX);
    while let Some(slice) = soon(stream.next()).await {
        got += slice.unwrap().bytes.len();
    }
    assert_eq!(got, 40 * MIB);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_share_only_verified_bytes() {
    let engine = engine();
    let blob = content(2 * MIB);
    let digest = Digest::sha256(&blob);
    let (one, two) = (Scripted::named("one", &blob), Scripted::named("two", &blob));
    one.gate(MIB as u64);
    let first = soon(engine.read(want(&digest, FetchRange::All, &one)))
        .await
        .unwrap();
    let other = Want {
        scope: FlightScope::new("other.example"),
        ..want(&digest, FetchRange::All, &two)
    };
    let second = soon(engine.read(other)).await.unwrap();
    assert_eq!(second.how(), How::Started);
    assert_eq!(collect(&second, 0..second.total()).await.0, blob);
    one.gate(u64::MAX);
    assert_eq!(collect(&first, 0..first.total()).await.0, blob);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranges_of_one_reader() {
    let engine = engine();
    let blob = content(20 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let ranges = [
        15 * MIB..15 * MIB + 9,
        3 * MIB..3 * MIB + 70_000,
        20 * MIB - 5..20 * MIB,
    ];
    let first = FetchRange::Span(ranges[0].start as u64..ranges[0].end as u64);
    let reader = soon(engine.read(want(&digest, first, &source)))
        .await
        .unwrap();
    for range in ranges {
        let (got, error) = collect(&reader, range.start as u64..range.end as u64).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(got, blob[range]);
    }
    engine.shutdown().await;
}
