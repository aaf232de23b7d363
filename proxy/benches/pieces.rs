//! What a piece costs the node that fetches it: `cargo bench -p proxy --bench pieces`.
//!
//! A child process gives a blob of 256 MiB from disk by the peer port; this one fetches all its
//! pieces, several at once, and drops them. Printed: frame size, rate, and CPU of each side per GiB,
//! for the peers' own client and, beside it, for the client that registries are asked with. On a
//! shaped link: run `pieces give ADDR:PORT` at one end; it prints what to run at the other.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that a person runs"
)]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, header};
use oci::Digest;
use oci::client::{Client, ClientConfig, EndpointOptions, Redirects, Request};
use proxy::metrics::Metrics;
use proxy::peers::{GiveOptions, Giver, Peers};
use swarm::store::{MinFree, Options};
use swarm::{
    BlobStore as _, DiskStore, Engine, EngineOptions, EngineStats, FetchRange, Origin, PeerId,
    PeerMaker as _, ScopeTag, Usage,
};
use tokio_util::sync::CancellationToken;

const BLOB: usize = 256 << 20;
const PIECE: u64 = 512 << 10;
const AT_ONCE: usize = 4;
const RUNS: usize = 7;

fn main() {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match words[..] {
        ["give", at] => runtime.block_on(give(at.parse().unwrap())),
        ["take", at, digest] => {
            let (at, digest) = (at.parse().unwrap(), digest.parse().unwrap());
            runtime.block_on(take(at, digest, 1, None));
        }
        _ => {
            let mut giver = Command::new(std::env::current_exe().unwrap())
                .args(["give", "127.0.0.1:0"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut said = BufReader::new(giver.stdout.take().unwrap());
            said.read_line(&mut line).unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let (at, digest) = (words[2].parse().unwrap(), words[3].parse().unwrap());
            runtime.block_on(take(at, digest, RUNS, Some(giver.id())));
            giver.kill().unwrap();
            giver.wait().unwrap();
        }
    }
}

async fn give(at: SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::new(folder.path(), swarm::Limits::cap(1 << 30));
    options.min_free = MinFree::Bytes(0);
    let store = Arc::new(DiskStore::open(options).unwrap());
    let blob = vec![7; BLOB];
    let digest = Digest::sha256(&blob);
    let scope = ScopeTag::of("bench");
    let partial = store.begin(&digest, scope, BLOB as u64).unwrap();
    partial.write_at(0, &blob).unwrap();
    partial.publish().unwrap();
    drop(blob);
    let engine = Engine::new(store, EngineOptions::default());
    engine.share(&digest);
    let metrics = Metrics::new(Box::new(|| (Usage::default(), EngineStats::default())));
    let giver = Arc::new(Giver::new(engine, metrics, GiveOptions::default()));
    let listener = proxy::http::bind(at).unwrap();
    println!("pieces take {} {digest}", listener.local_addr().unwrap());
    proxy::http::serve(
        listener,
        move |request, _| giver.clone().answer(request),
        proxy::http::Limits::default(),
        Arc::default(),
        CancellationToken::new(),
    )
    .await;
}

async fn take(at: SocketAddr, digest: Digest, runs: usize, giver: Option<u32>) {
    let name = PeerId("bench".into());
    let peer = Peers::default().peer(name, Origin::Peer, &at.to_string());
    let own = async |range: Range<u64>| {
        let source = peer.piece_source(range.start);
        let fetched = source.fetch(&digest, FetchRange::Span(range)).await;
        drain(fetched.unwrap().body.map(Result::unwrap)).await
    };
    measure("peers", runs, giver, own).await;

    let client = Client::new(ClientConfig::bare());
    let options = EndpointOptions {
        named: true,
        ..EndpointOptions::default()
    };
    let endpoint = client.endpoint(&format!("http://{at}"), options).unwrap();
    let plain = async |range: Range<u64>| {
        let mut headers = HeaderMap::new();
        let value = format!("bytes={}-{}", range.start, range.end - 1);
        headers.insert(header::RANGE, HeaderValue::try_from(value).unwrap());
        let path = format!("/v2/swarm/blobs/{digest}");
        let request = Request {
            endpoint: &endpoint,
            method: Method::GET,
            url: endpoint.url(&path).unwrap(),
            headers,
            body: Bytes::new(),
            also_allowed: None,
            redirects: Redirects::Follow,
        };
        let body = client.send(request).await.unwrap().body;
        drain(body.map(Result::unwrap)).await
    };
    measure("plain", runs, giver, plain).await;
}

/// Count of frames.
async fn drain(mut body: impl Stream<Item = Bytes> + Unpin) -> u64 {
    let mut frames = 0;
    while let Some(frame) = body.next().await {
        assert_eq!(frame[0], 7);
        frames += 1;
    }
    frames
}

async fn measure(
    name: &str,
    runs: usize,
    giver: Option<u32>,
    fetch: impl AsyncFn(Range<u64>) -> u64,
) {
    let cpu_of_giver = || giver.map_or(Duration::ZERO, |id| cpu(&id.to_string()));
    let mut seen = Vec::new();
    for _ in 0..runs {
        let (begun, own, other) = (Instant::now(), cpu("self"), cpu_of_giver());
        let pieces = (0..BLOB as u64 / PIECE).map(|piece| piece * PIECE..(piece + 1) * PIECE);
        let frames: u64 = stream::iter(pieces)
            .map(|range| fetch(range))
            .buffer_unordered(AT_ONCE)
            .fold(0, async |sum, frames| sum + frames)
            .await;
        let took = begun.elapsed();
        seen.push((cpu("self") - own, cpu_of_giver() - other, took, frames));
    }
    seen.sort();
    let (own, other, took, frames) = seen[runs / 2];
    let gib = BLOB as f64 / f64::from(1 << 30);
    println!(
        "{name}: {:.0} KiB a frame, {:.0} MiB/s, taking {:.2} and giving {:.2} CPU-s/GiB",
        BLOB as f64 / frames as f64 / 1024.0,
        gib * 1024.0 / took.as_secs_f64(),
        own.as_secs_f64() / gib,
        other.as_secs_f64() / gib,
    );
}

/// User and system time of a process (in ticks of 10 ms).
fn cpu(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
