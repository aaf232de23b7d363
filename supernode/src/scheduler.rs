//! The scheduler: which node fetches which piece of which blob from whom.
//!
//! A pure state machine: [`Scheduler::on`] takes an [`Event`] and the time, and tells [`Action`]s.
//! Invariant: a node is never told to fetch what it has, or what is on its way to it from a sender
//! that works; the same seed and events give the same actions. Deliberately not here: clocks,
//! sockets, digests of pieces, addresses, and who may have a blob (the book).

mod bits;
mod blob;
mod ending;
mod event;
mod faults;
mod matching;
mod node;
mod outstanding;
mod overdue;
mod pace;
mod pool;
mod rarity;
mod retry;
mod rng;
mod seed;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use swarm::{Layout, PieceIndex, tracker::PeerFault};

use blob::Blob;
use node::Node;
use outstanding::Outstanding;
use overdue::Due;
use rng::Rng;

/// Time since any fixed moment.
pub type Now = std::time::Duration;

/// A node, as the book numbers them: dense from 1; a number may be used again after
/// [`Event::NodeWent`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeKey(pub u32);

impl NodeKey {
    /// The supernode itself, which holds what upstream has given it so far.
    pub const SEED: Self = Self(0);
}

/// A blob, as the book numbers them: dense; a number may be used again after
/// [`Event::BlobDone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey(pub u32);

/// Where a node stands. Empty words: not told, which is a place of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Site {
    /// Links between zones are dear.
    pub zone: Arc<str>,
    /// Within a zone, nodes of one rack are nearer.
    pub rack: Arc<str>,
}

/// How it decides. The defaults are what the lab found best over shaped links, whose queues delay
/// each instruction by one to four piece times; the simulation without such queues wants fewer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pieces asked of a node at once. It sends fewer at a time, in their order: what is asked ahead
    /// bridges the time in which an instruction waits behind pieces in the queues of the links.
    pub up_slots: u16,
    /// Pieces that a node receives at once, over all of its blobs.
    pub down_slots: u16,
    /// Pieces that the seed sends at once, over all blobs.
    pub seed_slots: u16,
    /// Pieces of a blob that are given out before they have reached the seed.
    pub seed_ahead: u16,
    /// How many senders or receivers are looked at for one decision.
    pub sample: usize,
    /// Shortest time after which a piece counts as late.
    pub late_min: Now,
    /// Longest time for which an instruction holds its slots.
    pub give_up: Now,
    /// How long a sender is not asked again after a fault.
    pub avoid: Now,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            up_slots: 8,
            down_slots: 8,
            seed_slots: 12,
            seed_ahead: 2,
            sample: 5,
            late_min: Now::from_millis(400),
            give_up: Now::from_secs(10),
            avoid: Now::from_secs(10),
        }
    }
}

impl Options {
    /// For links without queues, where an instruction takes a fraction of a piece time: a crowd then
    /// comes within 6 % of the bound, and choices are made later.
    pub fn prompt() -> Self {
        Self {
            up_slots: 4,
            down_slots: 4,
            seed_slots: 5,
            seed_ahead: 1,
            ..Self::default()
        }
    }
}

/// What the scheduler is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node's stream has opened.
    NodeCame {
        /// The node.
        node: NodeKey,
        /// Where it stands.
        site: Site,
    },
    /// A node's stream broke; it is out of all blobs.
    NodeWent {
        /// The node.
        node: NodeKey,
    },
    /// No sign of life for a while: not a sender, and given nothing, until it speaks again.
    Silent {
        /// The node.
        node: NodeKey,
    },
    /// A silent node speaks again.
    Spoke {
        /// The node.
        node: NodeKey,
    },
    /// A blob begins to be distributed.
    Blob {
        /// The blob.
        blob: BlobKey,
        /// How it is cut.
        layout: Layout,
        /// Whether the seed has all of it.
        held_by_seed: bool,
    },
    /// A piece has reached the seed and is checked, and all before it.
    SeedHas {
        /// The blob.
        blob: BlobKey,
        /// The piece.
        piece: PieceIndex,
    },
    /// Upstream or the seed's store failed: the seed gives nothing further of this blob.
    SeedGone {
        /// The blob.
        blob: BlobKey,
    },
    /// A node wants a blob.
    Joined {
        /// The node.
        node: NodeKey,
        /// The blob.
        blob: BlobKey,
        /// What it has of it.
        present: Vec<PieceIndex>,
        /// The piece that its first reader is at.
        reading_at: PieceIndex,
    },
    /// A node has a piece, checked.
    Got {
        /// The node.
        node: NodeKey,
        /// The blob.
        blob: BlobKey,
        /// The piece.
        piece: PieceIndex,
        /// Who gave it; none: upstream.
        from: Option<NodeKey>,
    },
    /// A node did not get a piece.
    Failed {
        /// The node.
        node: NodeKey,
        /// The blob.
        blob: BlobKey,
        /// The piece.
        piece: PieceIndex,
        /// Who should have given it.
        from: NodeKey,
        /// What was wrong.
        fault: PeerFault,
    },
    /// A node does not want a blob any more.
    Left {
        /// The node.
        node: NodeKey,
        /// The blob.
        blob: BlobKey,
        /// Whether it holds all of it and gives it to others.
        keeps: bool,
    },
    /// A node holds all of a blob that is being distributed, and gives it to others.
    Holds {
        /// The node.
        node: NodeKey,
        /// The blob.
        blob: BlobKey,
    },
    /// A node has nothing of a blob any more.
    Gone {
        /// The node.
        node: NodeKey,
        /// The blob.
        blob: BlobKey,
    },
    /// A blob is forgotten, with all who have or want it.
    BlobDone {
        /// The blob.
        blob: BlobKey,
    },
    /// [`Scheduler::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell `node` to fetch `piece` from `from`.
    Fetch {
        /// The receiver.
        node: NodeKey,
        /// The blob.
        blob: BlobKey,
        /// The piece.
        piece: PieceIndex,
        /// The sender.
        from: NodeKey,
        /// Smaller first, at both.
        order: u64,
    },
    /// This node sent wrong bytes and is never asked again. For the log.
    Banned {
        /// The liar.
        node: NodeKey,
        /// The blob of which it sent them.
        blob: BlobKey,
    },
}

/// How far the distribution of a blob is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that want it.
    pub wanting: u32,
    /// Nodes that hold all of it and give it.
    pub holding: u32,
    /// Pieces that the seed was told to send.
    pub seed_sends: u64,
    /// Pieces that were told to go from one zone to another (not from the seed).
    pub crossings: u64,
    /// Pieces on their way now.
    pub outstanding: u32,
}

/// Decides for all blobs and nodes of one supernode.
#[derive(Debug)]
pub struct Scheduler {
    options: Options,
    rng: Rng,
    now: Now,
    nodes: Vec<Node>,
    /// Stands for nodes that never came; never here.
    nobody: Node,
    blobs: Vec<Option<Box<Blob>>>,
    sites: node::Sites,
    outstanding: Outstanding,
    due: Due,
    /// Blobs of which the seed may have something to give, served in turn.
    seed_turn: std::collections::VecDeque<BlobKey>,
    /// Count of all instructions so far; the next one's order.
    order: u64,
    typical: pace::Typical,
    /// Count of nodes whose stream is open.
    here: u32,
    /// Nodes under suspicion, to be thought of again when it ends.
    suspects: Vec<NodeKey>,
    /// When members with free slots are tried again.
    retry_at: Option<Now>,
}

impl Scheduler {
    /// One that knows nobody. `seed` makes its choices among equals.
    pub fn new(options: Options, seed: u64) -> Self {
        let nodes = vec![Node::seed(&options)];
        Self {
            options,
            rng: Rng::new(seed),
            now: Now::ZERO,
            nodes,
            nobody: Node::default(),
            blobs: Vec::new(),
            sites: node::Sites::default(),
            outstanding: Outstanding::default(),
            due: Due::default(),
            seed_turn: std::collections::VecDeque::new(),
            order: 0,
            typical: pace::Typical::default(),
            here: 0,
            suspects: Vec::new(),
            retry_at: None,
        }
    }

    /// Takes an event in and adds what is to be done now. `now` never goes back.
    pub fn on(&mut self, event: Event, now: Now, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        self.take(event, actions);
    }

    /// When [`Event::Tick`] is wanted; none: nothing is on its way.
    pub fn deadline(&self) -> Option<Now> {
        self.due.next().into_iter().chain(self.retry_at).min()
    }

    /// How far a blob is; none for one that is not distributed.
    pub fn progress(&self, blob: BlobKey) -> Option<Progress> {
        let blob = self.blob(blob)?;
        Some(blob.progress())
    }

    /// Bytes of memory that it takes, counted, not measured.
    pub fn memory_bytes(&self) -> usize {
        let nodes: usize = self.nodes.iter().map(Node::memory_bytes).sum();
        let blobs: usize = self.blobs.iter().flatten().map(|b| b.memory_bytes()).sum();
        nodes + blobs + self.outstanding.memory_bytes() + self.due.memory_bytes()
    }

    fn node(&self, key: NodeKey) -> &Node {
        self.nodes.get(key.0 as usize).unwrap_or(&self.nobody)
    }

    fn node_mut(&mut self, key: NodeKey) -> &mut Node {
        self.nodes
            .get_mut(key.0 as usize)
            .unwrap_or(&mut self.nobody)
    }

    fn blob(&self, key: BlobKey) -> Option<&Blob> {
        self.blobs.get(key.0 as usize)?.as_deref()
    }

    fn blob_mut(&mut self, key: BlobKey) -> Option<&mut Blob> {
        self.blobs.get_mut(key.0 as usize)?.as_deref_mut()
    }
}
