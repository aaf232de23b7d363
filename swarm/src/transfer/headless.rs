//! Without a leader: the nodes that know each other for a blob divide the missing pieces by
//! rendezvous hash, fetch each once from upstream, and give it to each other.
//!
//! A piece that a mate is known to have comes from it. One that nobody is known to have belongs to
//! the mate (or us) with the highest weight for it among those that answer: the owner fetches it from
//! upstream by Range, the others ask the owner, who holds their request until it has it.
//! Invariant: with the same live mates, every node finds the same owner; whatever mates do, each
//! piece is in the end fetched from upstream by this node itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::crowd::{Order, Stage};
use super::plan::Demand;
use super::{Action, Now, Transfer};
use crate::piece::PieceIndex;
use crate::source::{Fault, SourceError};
use crate::store::ByteSet;
use crate::tracker::{PeerFault, PeerId};

/// A mate is asked what it has so often.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Mates looked at in one round; more are looked at in turn.
const LOOKS_MAX: usize = 8;
/// Pieces asked of mates at a time.
const JOBS_MAX: usize = 8;
/// Pieces asked of one mate at a time.
const JOBS_PER_MATE: usize = 2;
/// Pieces of our own fetched from upstream at a time.
const OWN_MAX: usize = 2;
/// A mate that failed so often in a row counts as gone.
const FAILURES_MAX: u32 = 2;
/// A piece that its owner did not give so often is fetched from upstream here.
const OWNER_TRIES: u32 = 2;

/// The other nodes that take part.
#[derive(Debug, Default)]
pub(super) struct Mates {
    known: BTreeMap<PeerId, Mate>,
    /// How often the owner of a piece did not give it.
    tries: BTreeMap<PieceIndex, u32>,
    look_at: Option<Now>,
}

#[derive(Debug)]
struct Mate {
    weight: u64,
    has: ByteSet,
    asked_at: Option<Now>,
    being_asked: bool,
    failures: u32,
    /// It lied: never asked again.
    banned: bool,
}

impl Mate {
    fn is_live(&self) -> bool {
        !self.banned && self.failures < FAILURES_MAX
    }
}

impl Mates {
    pub(super) fn add(&mut self, mates: impl Iterator<Item = PeerId>) {
        for id in mates {
            let weight = seed_of(&id);
            self.known.entry(id).or_insert(Mate {
                weight,
                has: ByteSet::new(),
                asked_at: None,
                being_asked: false,
                failures: 0,
                banned: false,
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.known.values().any(Mate::is_live)
    }

    pub(super) fn begin(&mut self, now: Now) {
        self.look_at = Some(now);
    }

    pub(super) fn next_look(&self) -> Option<Now> {
        self.look_at
    }

    pub(super) fn gave(&mut self, id: &PeerId) {
        if let Some(mate) = self.known.get_mut(id) {
            mate.failures = 0;
        }
    }

    pub(super) fn failed(&mut self, id: &PeerId, piece: PieceIndex, fault: PeerFault, now: Now) {
        *self.tries.entry(piece).or_default() += 1;
        let Some(mate) = self.known.get_mut(id) else {
            return;
        };
        match fault {
            PeerFault::Missing => mate.has = ByteSet::new(),
            PeerFault::Wrong => mate.banned = true,
            PeerFault::Unreachable => mate.failures = FAILURES_MAX,
            PeerFault::Slow => mate.failures += 1,
        }
        self.look_at = self.look_at.map(|at| at.min(now + LOOK_EVERY));
    }

    /// Whom to ask now what they have; longest ago first.
    fn looks(&mut self, now: Now) -> Vec<PeerId> {
        if self.look_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.look_at = Some(now + LOOK_EVERY);
        let due = |mate: &Mate| !mate.banned && !mate.being_asked;
        let mut due: Vec<_> = self.known.iter_mut().filter(|(_, m)| due(m)).collect();
        due.sort_by_key(|(_, mate)| mate.asked_at);
        let looks = due.into_iter().take(LOOKS_MAX);
        looks
            .map(|(id, mate)| {
                mate.being_asked = true;
                mate.asked_at = Some(now);
                id.clone()
            })
            .collect()
    }

    fn holders(&self, bytes: std::ops::Range<u64>) -> impl Iterator<Item = &PeerId> {
        let has = move |mate: &Mate| mate.is_live() && mate.has.contains(bytes.clone());
        self.known
            .iter()
            .filter(move |(_, m)| has(m))
            .map(|(id, _)| id)
    }

    /// Who fetches the piece from upstream; `None` if we do.
    fn owner(&self, piece: PieceIndex, me: u64) -> Option<&PeerId> {
        let live = self.known.iter().filter(|(_, mate)| mate.is_live());
        let (id, weight) = live
            .map(|(id, mate)| (id, weigh(mate.weight, piece)))
            .max_by_key(|(_, weight)| *weight)?;
        (weight > weigh(me, piece)).then_some(id)
    }
}

/// A mate's part of the rendezvous hash, the same at every node.
fn seed_of(id: &PeerId) -> u64 {
    let hash = blake3::hash(id.0.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes of 32"))
}

fn weigh(seed: u64, piece: PieceIndex) -> u64 {
    let mut z = seed ^ u64::from(piece.get()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// From whom a missing piece comes.
enum From {
    Mate(PeerId),
    Upstream,
    Later,
}

impl Transfer {
    /// A mate has said what it has, or has not answered.
    pub(super) fn on_present(&mut self, id: &PeerId, has: Option<ByteSet>) {
        let Some(crowd) = &mut self.crowd else { return };
        let Some(mate) = crowd.mates.known.get_mut(id) else {
            return;
        };
        mate.being_asked = false;
        match has {
            Some(has) => {
                mate.has = has;
                mate.failures = 0;
            }
            None => mate.failures += 1,
        }
    }

    pub(super) fn is_headless(&self) -> bool {
        let stage = self.crowd.as_ref().map(|crowd| crowd.stage);
        stage == Some(Stage::Headless)
    }

    pub(super) fn plan_headless(&mut self, now: Now) {
        let Some(crowd) = self.crowd.as_mut() else {
            return;
        };
        if crowd.stage != Stage::Headless {
            return;
        }
        let looks = crowd.mates.looks(now);
        self.actions
            .extend(looks.into_iter().map(|peer| Action::AskPresent { peer }));
        let deserted = self.crowd.as_ref().is_some_and(|c| c.mates.is_empty());
        if deserted {
            self.go_alone();
            return self.plan_fetches(now);
        }
        let Some(layout) = self.layout() else { return };
        let mut own_waits = false;
        let from = layout.piece_at(self.present.first_gap_after(0));
        for piece in from.into_iter().flat_map(|first| layout.pieces_from(first)) {
            let range = layout.range(piece);
            if self.present.contains(range.clone()) || self.is_under_way(piece) {
                continue;
            }
            match self.whence(piece, own_waits) {
                From::Mate(from) => {
                    let order = Order {
                        piece,
                        from,
                        order: u64::from(piece.get()),
                        leader: false,
                    };
                    self.fetch_piece(order, now);
                }
                From::Upstream => {
                    let at = self.present.first_gap_after(range.start);
                    let demand = Demand::of_fill(at..range.end);
                    own_waits = self.start(&demand, now).is_err();
                }
                From::Later => {}
            }
            if self.is_busy(own_waits) {
                break;
            }
        }
        self.retry_at = self.sources.next_retry(now).filter(|_| own_waits);
        self.end_if_stuck(own_waits);
    }

    fn is_under_way(&self, piece: PieceIndex) -> bool {
        let Some(crowd) = &self.crowd else {
            return false;
        };
        let range = crowd.layout.map_or(0..0, |layout| layout.range(piece));
        let gap = self.present.first_gap_after(range.start);
        let fetched = |f: &super::Fetch| f.at <= gap && gap < f.end;
        crowd.is_coming(piece) || self.fetches.values().any(fetched)
    }

    fn is_busy(&self, own_waits: bool) -> bool {
        let jobs = self.crowd.as_ref().map_or(0, |crowd| crowd.jobs.len());
        jobs >= JOBS_MAX && (own_waits || self.fetches.len() >= OWN_MAX)
    }

    fn whence(&self, piece: PieceIndex, own_waits: bool) -> From {
        let Some(crowd) = &self.crowd else {
            return From::Later;
        };
        let load = |id: &PeerId| crowd.jobs.values().filter(|job| job.from == *id).count();
        let free = |id: &&PeerId| load(id) < JOBS_PER_MATE;
        let range = crowd.layout.map_or(0..0, |layout| layout.range(piece));
        let own = !own_waits && self.fetches.len() < OWN_MAX;
        let more = crowd.jobs.len() < JOBS_MAX;
        let given_up = crowd.mates.tries.get(&piece).copied().unwrap_or(0) >= OWNER_TRIES;
        let mut holders = crowd.mates.holders(range).peekable();
        if holders.peek().is_some() {
            let spread = |id: &&PeerId| (load(id), weigh(seed_of(id), piece));
            let holder = holders.filter(free).min_by_key(spread);
            return match holder {
                Some(holder) if more => From::Mate(holder.clone()),
                _ if given_up && own => From::Upstream,
                _ => From::Later,
            };
        }
        match crowd.mates.owner(piece, seed_of(&crowd.me)) {
            Some(owner) if !given_up => match more && free(&owner) {
                true => From::Mate(owner.clone()),
                false => From::Later,
            },
            _ if own => From::Upstream,
            _ => From::Later,
        }
    }

    /// Upstream fails and no mate gives anything: the flight is over.
    fn end_if_stuck(&mut self, own_waits: bool) {
        let idle = self.fetches.is_empty()
            && self
                .crowd
                .as_ref()
                .is_none_or(|crowd| crowd.jobs.is_empty());
        if own_waits && idle && self.retry_at.is_none() && !self.is_whole() {
            self.go_alone();
            let gone = || SourceError::from(Fault::Unavailable("no node and no registry".into()));
            let error = self.sources.last_error().unwrap_or_else(gone);
            self.finish(Some(error.into()));
        }
    }
}
