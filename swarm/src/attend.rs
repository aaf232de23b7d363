//! Attending supernodes: the [`Tracker`] of production, over one gRPC stream to each of them.
//!
//! Which supernode leads a blob is a rendezvous hash over those that live, so nodes agree without
//! asking. A supernode that is silent for a second, or whose stream breaks, has lost its flights;
//! new ones go to the next in rank, or to nobody. Invariant: nothing here makes a flight wait.
//! Deliberately not here: what a flight does with what it is told (the flight), and how bytes are
//! asked of a peer ([`PeerMaker`]).

pub mod address;
mod link;
mod node;
pub mod outbox;
mod rank;
mod session;

use std::fmt;
use std::sync::Arc;

use oci::Digest;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use address::Verdict;
pub use rank::weight;

use crate::tracker::{Membership, PeerId, PeerMaker, Tracker, Wish};
use crate::wire::{self, Holdings, node_says};
use link::Link;
use node::{Node, holding};
use session::Session;

/// Preheats that wait for the node; more are refused.
const PREHEATS_MAX: usize = 1024;

/// How a node attends.
#[derive(Clone)]
pub struct AttendOptions {
    /// `host:port` of each supernode's control port. An order is not needed.
    pub supernodes: Vec<String>,
    /// What people call this node.
    pub name: String,
    /// The host under which other nodes reach it; `None`: the address that the supernode sees.
    pub advertise: Option<String>,
    /// Its peer port.
    pub peer_port: u16,
    /// Where it stands: near nodes are asked first. Empty: not told.
    pub zone: String,
    /// Within the zone. Empty: not told.
    pub rack: String,
    /// Makes peers of what supernodes tell.
    pub peers: Arc<dyn PeerMaker>,
}

impl fmt::Debug for AttendOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttendOptions")
            .field("supernodes", &self.supernodes)
            .field("name", &self.name)
            .field("advertise", &self.advertise)
            .field("peer_port", &self.peer_port)
            .finish_non_exhaustive()
    }
}

/// A node's place at its supernodes. Its tasks end with the token it was started with.
#[derive(Debug)]
pub struct Attendance {
    node: Arc<Node>,
    links: Vec<Arc<Link>>,
    tasks: TaskTracker,
}

impl Attendance {
    /// Begins to dial every supernode; returns what they ask to be pulled beside it. Must be called
    /// within a tokio runtime.
    pub fn start(
        options: AttendOptions,
        shutdown: &CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<Preheat>) {
        let (preheats, preheating) = mpsc::channel(PREHEATS_MAX);
        let node = Arc::new(Node::new(options, preheats));
        let addresses = node.options.supernodes.iter();
        let links: Vec<Arc<Link>> = addresses
            .map(|address| Arc::new(Link::new(node.clone(), address.clone())))
            .collect();
        let tasks = TaskTracker::new();
        for link in &links {
            tasks.spawn(link.clone().run(shutdown.clone()));
        }
        tasks.close();
        (Arc::new(Self { node, links, tasks }), preheating)
    }

    /// Waits until no task is left, after the token was cancelled.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// How each supernode is, in the order of the options.
    pub fn status(&self) -> Vec<SupernodeStatus> {
        self.links.iter().map(|link| link.status()).collect()
    }

    /// `host:port` at which the owner of a blob serves bytes: the supernode that would lead it now.
    pub fn seed_of(&self, digest: &Digest) -> Option<String> {
        let owner = self
            .sessions()
            .max_by_key(|session| weight(digest, session.supernode()));
        Some(owner?.seed()?.name().to_owned())
    }

    /// Waits until `good` is true of the status; checks it now and at every change.
    ///
    /// Dropping the future stops waiting; give it a deadline.
    pub async fn until(&self, good: impl Fn(&[SupernodeStatus]) -> bool) {
        let mut changes = self.node.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if good(&self.status()) {
                return;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    fn sessions(&self) -> impl Iterator<Item = Arc<Session>> {
        self.links.iter().filter_map(|link| link.session())
    }

    fn tell_all(&self, word: impl Fn(Holdings) -> node_says::Word, digest: &Digest, total: u64) {
        for session in self.sessions() {
            let list = vec![holding(digest, total)];
            session.say(word(Holdings { list }));
        }
    }
}

impl Tracker for Attendance {
    fn me(&self) -> PeerId {
        self.node.me.clone()
    }

    fn join(&self, wish: Wish) -> Option<Membership> {
        let mut ranked: Vec<_> = self
            .sessions()
            .map(|session| (weight(&wish.digest, session.supernode()), session))
            .collect();
        ranked.sort_by(|(one, _), (other, _)| other.cmp(one));
        ranked.iter().find_map(|(_, session)| session.join(&wish))
    }

    fn held(&self, digest: &Digest, total: u64) {
        if self.node.holds(digest, total) {
            self.tell_all(node_says::Word::Held, digest, total);
        }
    }

    fn gone(&self, digest: &Digest) {
        if self.node.lacks(digest) {
            self.tell_all(node_says::Word::Gone, digest, 0);
        }
    }
}

/// How a supernode is, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupernodeStatus {
    /// `host:port` as configured.
    pub address: String,
    /// What it calls itself; empty until it has spoken.
    pub name: String,
    /// Whether it leads flights now.
    pub live: bool,
    /// Why it does not; empty while it does, or before the first try has ended.
    pub why: String,
    /// This node's address as it sees it.
    pub seen_as: String,
    /// What it found out about this node's advertised address.
    pub ours: Option<Verdict>,
    /// What this node found out about its advertised address.
    pub theirs: Option<Verdict>,
    /// Nodes that it has named so far.
    pub nodes: usize,
}

impl SupernodeStatus {
    fn new(address: String) -> Self {
        Self {
            address,
            name: String::new(),
            live: false,
            why: String::new(),
            seen_as: String::new(),
            ours: None,
            theirs: None,
            nodes: 0,
        }
    }
}

/// A blob or manifest that a supernode asks this node to pull before a client does.
#[derive(Debug)]
pub struct Preheat {
    fetch: wire::Fetch,
    session: Arc<Session>,
    answered: bool,
}

impl Preheat {
    fn new(fetch: wire::Fetch, session: Arc<Session>) -> Self {
        Self {
            fetch,
            session,
            answered: false,
        }
    }

    /// The registry's canonical name.
    pub fn registry(&self) -> &str {
        &self.fetch.registry
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.fetch.repository
    }

    /// The digest, as text.
    pub fn digest(&self) -> &str {
        &self.fetch.digest
    }

    /// Whether it is a manifest.
    pub fn is_manifest(&self) -> bool {
        self.fetch.manifest
    }

    /// It is here now, with so many bytes.
    pub fn done(mut self, bytes: u64) {
        self.answer(bytes, String::new());
    }

    /// It could not be had.
    pub fn failed(mut self, why: &str) {
        self.answer(0, why.to_owned());
    }

    fn answer(&mut self, bytes: u64, error: String) {
        self.answered = true;
        self.session.say(node_says::Word::Fetched(wire::Fetched {
            task: self.fetch.task,
            digest: std::mem::take(&mut self.fetch.digest),
            bytes,
            error,
        }));
    }
}

impl Drop for Preheat {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(0, "the node has given it up".to_owned());
        }
    }
}
