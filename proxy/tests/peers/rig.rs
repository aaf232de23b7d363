//! A node that gives, without a front door; a source in memory with a gate; and peers that lie.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use oci::Digest;
use proxy::http::{Limits, Traffic};
use proxy::metrics::Metrics;
use proxy::peers::{GiveOptions, Giver, Peers};
use swarm::store::{MinFree, Options};
use swarm::{
    BlobReader, DiskStore, Engine, EngineOptions, FetchRange, Fetched, FlightScope, Origin, Peer,
    PeerId, PeerMaker as _, PieceSource, ScopeTag, SourceError, Want,
};
use swarm::{BlobStore as _, EngineStats, Usage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PIECE: u64 = 256 << 10;

/// A node's engine with its peer port.
pub(crate) struct GivingNode {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) metrics: Arc<Metrics>,
    store: Arc<DiskStore>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl GivingNode {
    pub(crate) fn start() -> Self {
        Self::giving(GiveOptions::default())
    }

    pub(crate) fn giving(giving: GiveOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new(folder.path(), swarm::Limits::cap(256 << 20));
        options.min_free = MinFree::Bytes(0);
        options.scrub = None;
        let store = Arc::new(DiskStore::open(options).unwrap());
        let engine = Engine::new(store.clone(), EngineOptions::default());
        let metrics = Metrics::new(Box::new(|| (Usage::default(), EngineStats::default())));
        let giver = Arc::new(Giver::new(engine.clone(), metrics.clone(), giving));
        let listener = proxy::http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let traffic = Arc::<Traffic>::default();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(proxy::http::serve(
            listener,
            move |request, _| giver.clone().answer(request),
            Limits::default(),
            traffic.clone(),
            shutdown.clone(),
        ));
        Self {
            address,
            engine,
            traffic,
            metrics,
            store,
            shutdown,
            server,
            _folder: folder,
        }
    }

    /// Holds a blob, without sharing it.
    pub(crate) fn hold(&self, content: &Bytes) -> Digest {
        let digest = Digest::sha256(content);
        let scope = ScopeTag::of("registry.example");
        let total = content.len() as u64;
        let partial = self.store.begin(&digest, scope, total).unwrap();
        partial.write_at(0, content).unwrap();
        partial.publish().unwrap();
        digest
    }

    /// Holds and shares a blob.
    pub(crate) fn share(&self, content: &Bytes) -> Digest {
        let digest = self.hold(content);
        self.engine.share(&digest);
        digest
    }

    /// Begins to bring in a blob from `source`, shared; it goes on while the reader is kept.
    pub(crate) async fn bring(&self, source: &Arc<Gated>) -> (Digest, BlobReader) {
        let digest = Digest::sha256(&source.content);
        let want = Want {
            digest,
            scope: FlightScope::new("registry.example"),
            first: FetchRange::All,
            repository: None,
            source: source.clone(),
        };
        let reader = self.engine.read(want).await.unwrap();
        self.engine.share(&digest);
        (digest, reader)
    }

    pub(crate) fn peer(&self) -> Arc<dyn Peer> {
        peer_at(self.address, Origin::Peer)
    }

    pub(crate) fn count(&self, which: impl Fn(&Traffic) -> &AtomicU64) -> u64 {
        which(&self.traffic).load(Ordering::Relaxed)
    }

    /// Ends in order; all that is open must close.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.server).await.unwrap();
        within(self.engine.shutdown()).await;
    }
}

pub(crate) fn peer_at(address: SocketAddr, origin: Origin) -> Arc<dyn Peer> {
    let id = PeerId("a peer".into());
    Peers::default().peer(id, origin, &address.to_string())
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.expect("an end within the test's patience")
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    let come = tokio::time::timeout(PATIENCE, wait).await;
    assert!(come.is_ok(), "never: {what}");
}

/// All bytes of an answer, and the frames that they came in.
pub(crate) async fn body(fetched: Fetched) -> Result<(Bytes, usize), SourceError> {
    let (mut all, mut frames) = (Vec::new(), 0);
    let mut body = fetched.body;
    while let Some(frame) = within(body.next()).await {
        all.extend_from_slice(&frame?);
        frames += 1;
    }
    Ok((all.into(), frames))
}

/// Fetches a range and reads all of it.
pub(crate) async fn get(
    source: &dyn PieceSource,
    digest: &Digest,
    range: Range<u64>,
) -> Result<Bytes, SourceError> {
    let fetched = within(source.fetch(digest, FetchRange::Span(range.clone()))).await?;
    assert_eq!(fetched.start, range.start);
    Ok(body(fetched).await?.0)
}

/// Bytes that do not repeat.
pub(crate) fn content(length: usize, seed: u64) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// An upstream in memory that sends nothing beyond its gate.
pub(crate) struct Gated {
    content: Bytes,
    gate: watch::Sender<u64>,
    fetches: AtomicU64,
}

impl Gated {
    pub(crate) fn new(content: &Bytes, gate: u64) -> Arc<Self> {
        Arc::new(Self {
            content: content.clone(),
            gate: watch::channel(gate).0,
            fetches: AtomicU64::new(0),
        })
    }

    pub(crate) fn open(&self) {
        self.gate.send_replace(u64::MAX);
    }

    pub(crate) fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::Relaxed)
    }
}

impl PieceSource for Gated {
    fn origin(&self) -> Origin {
        Origin::Upstream
    }

    fn name(&self) -> &str {
        "gated"
    }

    fn fetch<'a>(
        &'a self,
        _: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let total = self.content.len() as u64;
        let range = range.resolve(total).unwrap();
        let (content, gate) = (self.content.clone(), self.gate.subscribe());
        let start = range.start;
        let frames = stream::unfold((range.start, gate), move |(at, mut gate)| {
            let (content, end) = (content.clone(), range.end);
            async move {
                if at >= end {
                    return None;
                }
                let open = *gate.wait_for(|open| *open > at).await.ok()?;
                let next = end.min(open).min(at + (64 << 10));
                let bytes = content.slice(at as usize..next as usize);
                Some((Ok(bytes), (next, gate)))
            }
        });
        let fetched = Fetched {
            total,
            start,
            body: frames.boxed(),
        };
        Box::pin(async move { Ok(fetched) })
    }
}

/// A peer that answers each request with these very bytes, and closes if it is told to.
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Liar {
    pub(crate) async fn start(answer: impl Into<Vec<u8>>, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<[u8]> = answer.into().into();
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    // One read is one request: the next one comes only after the answer.
                    while socket.read(&mut head).await.is_ok_and(|read| read > 0) {
                        if socket.write_all(&answer).await.is_err() || closes {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            address,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}
