//! What the book knows of one blob: its cut, its pieces' digests, where it is public, who takes part.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use oci::Digest;
use proxy::place::Place;
use swarm::wire::{PieceDigests, Want, supernode_says::Word};
use swarm::{ByteSet, Layout, PieceDigest, PieceIndex};

use crate::scheduler::{NodeKey, Now};

/// Piece digests in one message: 256 KiB of them.
const DIGESTS_MAX: usize = 8192;

#[derive(Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    /// Known once upstream has answered.
    pub(super) layout: Option<Layout>,
    /// Of the pieces from the first on.
    pub(super) digests: Vec<PieceDigest>,
    pub(super) places: HashMap<Place, Rights>,
    pub(super) members: BTreeMap<NodeKey, Member>,
    pub(super) feed: Feed,
    /// Who was told to fetch a piece whose digest was not known yet.
    pub(super) promised: BTreeMap<u32, Vec<NodeKey>>,
    /// Somebody has come who is not yet named to all.
    pub(super) crowd_grew: bool,
    /// When it was last wanted, in counts of the book.
    pub(super) used: u64,
}

/// What is known of a place's right to the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Upstream is being asked.
    Asking,
    /// Anybody may read it there; believed until then.
    Public(Now),
}

/// How the seed has the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// Not, as far as is known.
    None,
    /// It is being read, and its pieces are hashed.
    Running,
    /// All of it, when that was last seen.
    Held(Now),
}

/// A node's part in it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) flight: u32,
    pub(super) place: Place,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Upstream has not answered yet.
    Waiting(Had),
    /// It takes part.
    In {
        /// Piece digests it was told.
        digests: usize,
        /// Mates it was told.
        mates: BTreeSet<NodeKey>,
    },
}

/// What a node had when it came.
#[derive(Debug)]
pub(super) struct Had {
    present: ByteSet,
    total: u64,
    reading_at: u64,
}

impl Had {
    pub(super) fn of(want: &Want) -> Self {
        let (pairs, _) = want.present.as_chunks::<2>();
        Self {
            present: pairs.iter().map(|[start, end]| *start..*end).collect(),
            total: want.total,
            reading_at: want.reading_at,
        }
    }

    /// The whole pieces among it, and the piece that is read first.
    pub(super) fn pieces(&self, layout: Layout) -> (Vec<PieceIndex>, Option<PieceIndex>) {
        let reading = layout.piece_at(self.reading_at).or(layout.piece(0));
        if self.total != layout.total() || self.present.is_empty() {
            return (Vec::new(), reading);
        }
        let there = |piece: &PieceIndex| self.present.contains(layout.range(*piece));
        (layout.pieces().filter(there).collect(), reading)
    }
}

impl Blob {
    pub(super) fn new(digest: Digest) -> Self {
        Self {
            digest,
            layout: None,
            digests: Vec::new(),
            places: HashMap::new(),
            members: BTreeMap::new(),
            feed: Feed::None,
            promised: BTreeMap::new(),
            crowd_grew: false,
            used: 0,
        }
    }

    /// Whether every piece's digest is known.
    pub(super) fn is_complete(&self) -> bool {
        let count = self.layout.map(|layout| layout.count() as usize);
        count == Some(self.digests.len())
    }

    pub(super) fn is_public(&self, place: &Place, now: Now) -> bool {
        matches!(self.places.get(place), Some(Rights::Public(until)) if now < *until)
    }

    /// Whether anybody wants it, waits for it, or it is being read.
    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.feed != Feed::Running && !self.asks()
    }

    fn asks(&self) -> bool {
        self.places.values().any(|rights| *rights == Rights::Asking)
    }

    /// The digests that a member has not been told; nothing if it has been told all.
    pub(super) fn catch_up(&mut self, node: NodeKey) -> Vec<Word> {
        let Some(Member {
            flight,
            stage: Stage::In { digests: told, .. },
            ..
        }) = self.members.get_mut(&node)
        else {
            return Vec::new();
        };
        let mut words = Vec::new();
        let mut first = *told;
        for part in self.digests[first..].chunks(DIGESTS_MAX) {
            words.push(Word::Pieces(PieceDigests {
                flight: *flight,
                first: u32::try_from(first).unwrap_or(u32::MAX),
                digests: part.iter().flat_map(|one| *one.as_bytes()).collect(),
            }));
            first += part.len();
        }
        *told = first;
        words
    }

    /// Those who take part.
    pub(super) fn taking_part(&self) -> impl Iterator<Item = NodeKey> {
        let members = self.members.iter();
        members
            .filter_map(|(node, member)| matches!(member.stage, Stage::In { .. }).then_some(*node))
    }
}
