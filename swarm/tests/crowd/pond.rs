//! Nodes in one process, with a leader whose words the test says and peers that it makes.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use oci::{Algorithm, Digest};
use swarm::store::Limits;
use swarm::tracker::{Instruction, Membership, Report, Reports, Wish, Word};
use swarm::{
    ByteSet, Engine, EngineOptions, Fault, FetchRange, Fetched, FlightScope, How, Layout,
    MemoryStore, Origin, Peer, PeerId, PieceDigest, PieceSource, ReadError, SourceError, Tracker,
    Want,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::origin::Scripted;

/// A guard against hanging, never a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("within the test's patience")
}

pub(crate) async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(crate) fn digest_of(blob: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, blob)
}

/// The nodes.
pub(crate) struct Pond {
    pub(crate) engines: Vec<Engine>,
    blob: Bytes,
    leading: Arc<AtomicBool>,
    joins: mpsc::UnboundedReceiver<Lead>,
}

impl Pond {
    pub(crate) fn new(nodes: usize, blob: &Bytes) -> Self {
        let (send, joins) = mpsc::unbounded_channel();
        let leading = Arc::new(AtomicBool::new(true));
        let engine = |node: usize| {
            let tracker = Scripting {
                node,
                blob: blob.clone(),
                leading: leading.clone(),
                joins: send.clone(),
            };
            let options = EngineOptions {
                hash_threads: 1,
                ..EngineOptions::default()
            };
            let store = Arc::new(MemoryStore::new(Limits::cap(1 << 30)));
            Engine::in_swarm(store, options, Arc::new(tracker))
        };
        Self {
            engines: (0..nodes).map(engine).collect(),
            blob: blob.clone(),
            leading,
            joins,
        }
    }

    /// From now on nobody leads.
    pub(crate) fn leaderless(&self) {
        self.leading.store(false, Ordering::Release);
    }

    /// The next flight that joins.
    pub(crate) async fn lead(&mut self) -> Lead {
        soon(self.joins.recv()).await.unwrap()
    }

    /// Reads the whole blob at a node.
    pub(crate) fn read(
        &self,
        node: usize,
        source: &Arc<Scripted>,
        repository: &str,
    ) -> JoinHandleOf<(Vec<u8>, How)> {
        let engine = self.engines[node].clone();
        let want = Want {
            digest: digest_of(&self.blob),
            scope: FlightScope::new("registry.example"),
            first: FetchRange::All,
            repository: Some(Arc::from(repository)),
            source: source.clone(),
        };
        let reading = async move {
            let reader = engine.read(want).await?;
            let mut stream = reader.stream(0..reader.total());
            let mut got = Vec::new();
            while let Some(slice) = stream.next().await {
                got.extend_from_slice(&slice?.bytes);
            }
            Ok((got, reader.how()))
        };
        JoinHandleOf(tokio::spawn(reading))
    }

    /// A peer that holds the blob.
    pub(crate) fn holder(&self, name: &str) -> Arc<Neighbour> {
        self.neighbour(name, Nature::Holds(self.blob.clone()))
    }

    /// A peer that gives wrong bytes for everything.
    pub(crate) fn liar(&self, name: &str) -> Arc<Neighbour> {
        let wrong: Vec<u8> = self.blob.iter().map(|byte| byte ^ 1).collect();
        self.neighbour(name, Nature::Holds(wrong.into()))
    }

    fn neighbour(&self, name: &str, nature: Nature) -> Arc<Neighbour> {
        Arc::new(Neighbour {
            id: PeerId(Arc::from(name)),
            total: self.blob.len() as u64,
            nature,
            asked: Arc::default(),
        })
    }

    /// The other nodes, as `node` sees them.
    pub(crate) fn mates(&self, node: usize) -> Vec<Arc<Neighbour>> {
        let others = (0..self.engines.len()).filter(|other| *other != node);
        others
            .map(|other| {
                let nature = Nature::Node(self.engines[other].clone());
                self.neighbour(&name_of(other), nature)
            })
            .collect()
    }
}

/// A read under way.
pub(crate) struct JoinHandleOf<T>(JoinHandle<Result<T, ReadError>>);

impl<T> Future for JoinHandleOf<T> {
    type Output = Result<T, ReadError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.0.poll_unpin(cx).map(Result::unwrap)
    }
}

fn name_of(node: usize) -> String {
    format!("node-{node}")
}

/// A flight's place, from the leader's side.
pub(crate) struct Lead {
    pub(crate) node: usize,
    pub(crate) wish: Wish,
    pub(crate) layout: Layout,
    blob: Bytes,
    words: mpsc::Sender<Word>,
    reports: mpsc::UnboundedReceiver<Report>,
}

impl Lead {
    pub(crate) async fn say(&self, word: Word) {
        // A flight that is over does not listen any more.
        let _ = soon(self.words.send(word)).await;
    }

    pub(crate) async fn accept(&mut self) {
        self.say(Word::Heard).await;
        self.say(Word::Accepted(self.layout)).await;
    }

    pub(crate) async fn digests(&self, pieces: impl IntoIterator<Item = u32>) {
        let digest = |number| {
            let piece = self.layout.piece(number).unwrap();
            let range = self.layout.range(piece);
            let bytes = &self.blob[range.start as usize..range.end as usize];
            (piece, PieceDigest::of(bytes))
        };
        let digests = pieces.into_iter().map(digest).collect();
        self.say(Word::Pieces(digests)).await;
    }

    pub(crate) async fn fetch(&self, pieces: impl IntoIterator<Item = u32>, from: &Arc<Neighbour>) {
        let instruction = |number| Instruction {
            piece: self.layout.piece(number).unwrap(),
            from: from.clone(),
            order: u64::from(number),
        };
        let list = pieces.into_iter().map(instruction).collect();
        self.say(Word::Fetch(list)).await;
    }

    pub(crate) async fn mates(&self, mates: Vec<Arc<Neighbour>>) {
        let mates = mates.into_iter().map(|mate| mate as Arc<dyn Peer>);
        self.say(Word::Mates(mates.collect())).await;
    }

    pub(crate) async fn report(&mut self) -> Report {
        soon(self.reports.recv()).await.unwrap()
    }

    pub(crate) async fn reports_until(&mut self, last: impl Fn(&Report) -> bool) -> Vec<Report> {
        let mut all = Vec::new();
        loop {
            all.push(self.report().await);
            if last(&all[all.len() - 1]) {
                return all;
            }
        }
    }
}

struct Scripting {
    node: usize,
    blob: Bytes,
    leading: Arc<AtomicBool>,
    joins: mpsc::UnboundedSender<Lead>,
}

#[derive(Debug)]
struct Said(Mutex<mpsc::UnboundedSender<Report>>);

impl Reports for Said {
    fn say(&self, report: Report) {
        let _ = self.0.lock().unwrap().send(report);
    }
}

impl Tracker for Scripting {
    fn me(&self) -> PeerId {
        PeerId(Arc::from(name_of(self.node)))
    }

    fn join(&self, wish: Wish) -> Option<Membership> {
        if !self.leading.load(Ordering::Acquire) {
            return None;
        }
        let (words, heard) = mpsc::channel(64);
        let (said, reports) = mpsc::unbounded_channel();
        let lead = Lead {
            node: self.node,
            wish,
            layout: Layout::of(self.blob.len() as u64),
            blob: self.blob.clone(),
            words,
            reports,
        };
        self.joins.send(lead).unwrap();
        Some(Membership {
            words: heard,
            reports: Arc::new(Said(Mutex::new(said))),
        })
    }

    fn held(&self, _: &Digest, _: u64) {}

    fn gone(&self, _: &Digest) {}
}

/// Another node as a source.
pub(crate) struct Neighbour {
    pub(crate) id: PeerId,
    total: u64,
    nature: Nature,
    asked: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Nature {
    /// All bytes, right or wrong.
    Holds(Bytes),
    /// What this node has, when it has it.
    Node(Engine),
}

impl Neighbour {
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id.0)
    }
}

/// The same neighbour, as the source of one piece.
struct Asked(Arc<Neighbour>);

impl PieceSource for Asked {
    fn origin(&self) -> Origin {
        Origin::Peer
    }

    fn name(&self) -> &str {
        &self.0.id.0
    }

    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        self.0.fetch(digest, range)
    }
}

impl PieceSource for Neighbour {
    fn origin(&self) -> Origin {
        Origin::Peer
    }

    fn name(&self) -> &str {
        &self.id.0
    }

    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let total = self.total;
        let range = range.resolve(total).unwrap();
        Box::pin(async move {
            let bytes = match &self.nature {
                Nature::Holds(blob) => blob.slice(range.start as usize..range.end as usize),
                Nature::Node(engine) => {
                    let offer = engine.offer(digest).ok_or(Fault::NotFound)?;
                    if !offer.wait(range.clone(), Duration::from_secs(5)).await {
                        return Err(Fault::NotFound.into());
                    }
                    let mut stream = Box::pin(offer.stream(range.clone()));
                    let mut all = Vec::new();
                    while let Some(slice) = stream.next().await {
                        all.extend_from_slice(&slice.unwrap().bytes);
                    }
                    all.into()
                }
            };
            let start = range.start;
            let body = stream::iter([Ok(bytes)]).boxed();
            Ok(Fetched { total, start, body })
        })
    }
}

impl Peer for Neighbour {
    fn id(&self) -> &PeerId {
        &self.id
    }

    fn piece_source(&self, _: u64) -> Arc<dyn PieceSource> {
        Arc::new(Asked(Arc::new(Self {
            id: self.id.clone(),
            total: self.total,
            nature: self.nature.clone(),
            asked: self.asked.clone(),
        })))
    }

    fn present<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<ByteSet, SourceError>> {
        let present = match &self.nature {
            Nature::Holds(blob) => Ok(ByteSet::of(0..blob.len() as u64)),
            Nature::Node(engine) => {
                let offer = engine.offer(digest).ok_or(Fault::NotFound.into());
                offer.map(|offer| offer.present())
            }
        };
        Box::pin(std::future::ready(present))
    }
}
