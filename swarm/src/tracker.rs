//! Who else wants a blob: the way to the supernode that leads its distribution.
//!
//! A flight joins with [`Tracker::join`] and from then on hears [`Word`]s and says [`Report`]s.
//! Invariant: a tracker never blocks a flight; whatever is wrong with it ends in [`Word::Lost`].
//! Deliberately not here: which piece a flight fetches when nobody leads it (the transfer).

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use oci::Digest;
use tokio::sync::mpsc;

use crate::piece::{Layout, PieceDigest, PieceIndex};
use crate::source::{Origin, PieceSource, SourceError};
use crate::store::ByteSet;

/// Leads flights: in production the supernodes that are told on the command line.
pub trait Tracker: Send + Sync + 'static {
    /// This node's name within the swarm, as other nodes know it.
    fn me(&self) -> PeerId;

    /// Takes part in the distribution of a blob; `None` when nobody leads now.
    ///
    /// Returns at once. Dropping the [`Membership`] leaves.
    fn join(&self, wish: Wish) -> Option<Membership>;

    /// Tells that a public blob is held complete, so that others may have it from here.
    fn held(&self, digest: &Digest, total: u64);

    /// Tells that it is not held any more.
    fn gone(&self, digest: &Digest);
}

/// What a flight wants.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The blob.
    pub digest: Digest,
    /// The registry's canonical name.
    pub registry: String,
    /// The repository, in which the blob must be public to be shared.
    pub repository: String,
    /// Bytes that are there from before, and the size they belong to.
    pub present: Option<(u64, ByteSet)>,
    /// The first byte that a reader misses.
    pub reading_at: u64,
}

/// A flight's place in the distribution of its blob.
#[derive(Debug)]
pub struct Membership {
    /// What the leader says. Bounded; it ends after [`Word::Lost`] or [`Word::Refused`].
    pub words: mpsc::Receiver<Word>,
    /// What the flight says.
    pub reports: Arc<dyn Reports>,
}

/// The flight's way to speak. Never blocks; what cannot be sent any more is dropped.
pub trait Reports: Send + Sync + fmt::Debug + 'static {
    /// Says one thing about the flight's blob.
    fn say(&self, report: Report);
}

/// What the leader of a distribution says to a flight.
#[derive(Clone, Debug)]
pub enum Word {
    /// The leader has taken the wish in (its acknowledgement).
    Heard,
    /// The blob is public in that repository; this is how it is cut.
    Accepted(Layout),
    /// It does not lead this blob: fetch it without the swarm.
    Refused {
        /// The reason, for the log.
        why: String,
    },
    /// Digests of pieces, from the owner.
    Pieces(Vec<(PieceIndex, PieceDigest)>),
    /// Other nodes that take part, for the time when nobody leads. Not the leader itself.
    Mates(Vec<Arc<dyn Peer>>),
    /// Fetch these.
    Fetch(Vec<Instruction>),
    /// The leader is gone (no sign of life, or the stream broke). Mates and piece digests stay good.
    Lost,
}

/// One piece, from one peer.
#[derive(Clone)]
pub struct Instruction {
    /// The piece.
    pub piece: PieceIndex,
    /// Who has it, or is about to have it: the request may be held there for a moment.
    pub from: Arc<dyn Peer>,
    /// Smaller first, here and at the sender.
    pub order: u64,
}

impl fmt::Debug for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.piece, self.from.id())
    }
}

/// Another node (or the leader itself) as a source of pieces.
pub trait Peer: PieceSource + fmt::Debug {
    /// Names it within the swarm; equal ids are the same node.
    fn id(&self) -> &PeerId;

    /// The source that asks this peer for a piece of a blob which it may not have yet: the peer holds
    /// the request for a moment and serves smaller `order` first.
    fn piece_source(&self, order: u64) -> Arc<dyn PieceSource>;

    /// The checked bytes of a blob that this peer would give now; none of a blob it does not share.
    fn present<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<ByteSet, SourceError>>;
}

/// Makes peers of the names and addresses that a leader tells.
pub trait PeerMaker: Send + Sync + 'static {
    /// The peer at `address` (`host:port` of its peer port, or of a supernode's seed port).
    fn peer(&self, id: PeerId, origin: Origin, address: &str) -> Arc<dyn Peer>;
}

/// A node's name within the swarm: random, new at every start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub Arc<str>);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a flight tells its leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A piece is there and checked; from whom, or from upstream.
    Got {
        /// The piece.
        piece: PieceIndex,
        /// The peer that gave it; none: upstream, or it was there.
        from: Option<PeerId>,
    },
    /// A peer did not give a piece.
    Failed {
        /// The piece.
        piece: PieceIndex,
        /// The peer.
        from: PeerId,
        /// What was wrong with it.
        fault: PeerFault,
    },
    /// The blob is complete and verified; the node keeps it and can give it.
    Complete,
}

/// What was wrong with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerFault {
    /// Not reached, or it broke off.
    Unreachable,
    /// It does not have the piece.
    Missing,
    /// It sent wrong bytes.
    Wrong,
    /// It was too slow.
    Slow,
}
