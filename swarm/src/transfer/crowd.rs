//! A flight's part in the distribution of its blob among many nodes, decided without I/O.
//!
//! Asked to join, a leader (the supernode that owns the blob) says which piece comes from whom; the
//! flight fetches what it is told, all of it at once, and says what became of it. When the leader is
//! silent or nothing moves, the flight goes on without it: with the mates it knows (`headless`), or
//! alone from its readers' own sources, as if there were no swarm.
//!
//! Invariants: while led, nothing is fetched from upstream but for readers far from the beginning;
//! a piece counts as present only after its bytes were judged and stored. Deliberately not here:
//! which piece is best fetched from whom (the leader's scheduler), bytes, and BLAKE3.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::headless::Mates;
use super::{Action, FetchId, Now, Transfer};
use crate::piece::{Layout, PieceDigest, PieceIndex};
use crate::tracker::{PeerFault, PeerId, Report};

/// A leader that has not said in this time that it heard us is left.
const ACKNOWLEDGED: Duration = Duration::from_millis(300);
/// A led transfer that has begun to move and brings nothing for so long leaves its leader.
const STANDSTILL: Duration = Duration::from_secs(2);
/// A peer that gives no byte of a piece for so long is too slow for it.
const SILENCE: Duration = Duration::from_millis(1000);
/// Leaders tried in one flight: the owner, a successor and one to spare.
const LEADERS_MAX: u32 = 3;

/// How the flight stands to the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has been asked yet.
    Outside,
    /// A leader was asked; it has not answered.
    Asking,
    /// It heard us, and asks upstream if it must.
    Heard,
    /// It tells what to fetch.
    Led,
    /// Nobody leads; mates divide the rest among themselves.
    Headless,
    /// For good: the readers' own sources bring the rest.
    Alone,
}

/// What a leader says, with peers by name.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Heard,
    Accepted(Layout),
    Refused,
    Digests(Vec<(PieceIndex, PieceDigest)>),
    Mates(Vec<PeerId>),
    Fetch(Vec<Order>),
    Lost,
    /// Nobody leads now: the answer to [`Action::Join`].
    Nobody,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) piece: PieceIndex,
    pub(crate) from: PeerId,
    pub(crate) order: u64,
    /// The leader itself gives it: it may hold the request while upstream is slow.
    pub(crate) leader: bool,
}

/// What became of a piece that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceStep {
    /// Bytes of it came.
    Moved,
    /// It was right and is stored.
    Kept,
    /// It did not come from there.
    Failed(PeerFault),
}

/// What a piece's bytes are measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// This digest.
    Digest(PieceDigest),
    /// The digest has not come yet: the bytes wait for it.
    Awaited,
    /// Nobody tells digests any more: only the whole blob's digest will say.
    Provisional,
}

#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) me: PeerId,
    pub(super) stage: Stage,
    since: Now,
    leaders: u32,
    pub(super) layout: Option<Layout>,
    digests: Vec<Option<PieceDigest>>,
    reported: Vec<bool>,
    pub(super) mates: Mates,
    pub(super) jobs: BTreeMap<FetchId, Job>,
    /// When the last byte came that counts, or, before the first, when a peer first failed.
    moved_at: Option<Now>,
    /// Who last gave wrong bytes or broke off: more from there is no movement until a piece of theirs
    /// is right.
    useless: BTreeSet<PeerId>,
}

/// A piece on its way from a peer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) piece: PieceIndex,
    pub(super) from: PeerId,
    leader: bool,
    progress_at: Now,
    moved: bool,
}

impl Crowd {
    pub(super) fn new(me: PeerId) -> Self {
        Self {
            me,
            stage: Stage::Outside,
            since: Now::ZERO,
            leaders: 0,
            layout: None,
            digests: Vec::new(),
            reported: Vec::new(),
            mates: Mates::default(),
            jobs: BTreeMap::new(),
            moved_at: None,
            useless: BTreeSet::new(),
        }
    }

    /// Whether the swarm, not the plan, sees to the fill.
    pub(super) fn fills(&self) -> bool {
        !matches!(self.stage, Stage::Outside | Stage::Alone)
    }

    /// Whether the leader has said that the blob is for everybody.
    pub(super) fn is_public(&self) -> bool {
        self.layout.is_some()
    }

    pub(super) fn is_coming(&self, piece: PieceIndex) -> bool {
        self.jobs.values().any(|job| job.piece == piece)
    }

    fn deadline(&self, head: Duration) -> Option<Now> {
        let leader = match self.stage {
            Stage::Asking => Some(self.since + ACKNOWLEDGED),
            Stage::Heard => Some(self.since + head),
            Stage::Led => self.moved_at.map(|at| at + STANDSTILL),
            Stage::Headless => self.mates.next_look(),
            Stage::Outside | Stage::Alone => None,
        };
        let jobs = self.jobs.values().filter(|job| job.is_timed());
        let silent = jobs.map(|job| job.progress_at + SILENCE).min();
        [leader, silent].into_iter().flatten().min()
    }
}

impl Job {
    /// A leader that is alive may be late with a piece: upstream may be.
    fn is_timed(&self) -> bool {
        self.moved || !self.leader
    }
}

impl Transfer {
    /// How the piece's bytes are judged now.
    pub(crate) fn measure(&self, piece: PieceIndex) -> Measure {
        let Some(crowd) = &self.crowd else {
            return Measure::Provisional;
        };
        let digest = crowd.digests.get(piece.get() as usize).copied().flatten();
        match digest {
            Some(digest) => Measure::Digest(digest),
            None if crowd.stage == Stage::Led => Measure::Awaited,
            None => Measure::Provisional,
        }
    }

    /// The cut of the blob, once a leader has told it.
    pub(crate) fn layout(&self) -> Option<Layout> {
        self.crowd.as_ref()?.layout
    }

    /// Whether other nodes may have the blob from here.
    pub(crate) fn is_public(&self) -> bool {
        self.crowd.as_ref().is_some_and(Crowd::is_public)
    }

    pub(super) fn crowd_fills(&self) -> bool {
        self.crowd.as_ref().is_some_and(Crowd::fills)
    }

    pub(super) fn crowd_deadline(&self) -> Option<Now> {
        if self.is_whole() {
            return None;
        }
        self.crowd.as_ref()?.deadline(self.limits.head)
    }

    /// Asks to take part, when the whole blob is wanted for the first time.
    pub(super) fn join_crowd(&mut self, now: Now) {
        let whole = self.is_whole();
        let Some(crowd) = &mut self.crowd else { return };
        if crowd.stage != Stage::Outside || !self.fill || whole {
            return;
        }
        if self.relay.is_some() {
            // Memory stands in for the store: there is nothing to give to others.
            crowd.stage = Stage::Alone;
            return;
        }
        self.ask_leader(now);
    }

    fn ask_leader(&mut self, now: Now) {
        let reading_at = self.readers.values().map(|r| r.at).min().unwrap_or(0);
        let Some(crowd) = &mut self.crowd else { return };
        crowd.stage = Stage::Asking;
        crowd.since = now;
        crowd.leaders += 1;
        self.actions.push(Action::Join { reading_at });
    }

    pub(super) fn on_told(&mut self, told: Told, now: Now) {
        let Some(crowd) = &mut self.crowd else { return };
        let waits = matches!(crowd.stage, Stage::Asking | Stage::Heard);
        match told {
            Told::Heard if crowd.stage == Stage::Asking => {
                crowd.stage = Stage::Heard;
                crowd.since = now;
            }
            Told::Accepted(layout) if waits => self.on_accepted(layout, now),
            Told::Refused if waits => self.go_alone(),
            Told::Digests(digests) => {
                for (piece, digest) in digests {
                    if let Some(place) = crowd.digests.get_mut(piece.get() as usize) {
                        *place = Some(digest);
                    }
                }
            }
            Told::Mates(mates) => {
                let me = crowd.me.clone();
                crowd
                    .mates
                    .add(mates.into_iter().filter(|mate| *mate != me));
            }
            Told::Fetch(orders) if crowd.stage == Stage::Led => {
                for order in orders {
                    self.take_order(order, now);
                }
            }
            Told::Lost if waits || crowd.stage == Stage::Led => self.lose_leader(now),
            Told::Nobody if waits => self.go_headless(now),
            Told::Heard
            | Told::Accepted(_)
            | Told::Refused
            | Told::Fetch(_)
            | Told::Lost
            | Told::Nobody => {}
        }
    }

    fn on_accepted(&mut self, layout: Layout, now: Now) {
        let known = self.total.is_none_or(|total| total == layout.total());
        let Some(crowd) = &mut self.crowd else { return };
        if !known || crowd.layout.is_some_and(|before| before != layout) {
            return self.go_alone();
        }
        crowd.stage = Stage::Led;
        crowd.moved_at = crowd.moved_at.map(|_| now);
        let count = layout.count() as usize;
        if crowd.layout.replace(layout).is_none() {
            crowd.digests = vec![None; count];
        }
        crowd.reported = vec![false; count];
        self.total = Some(layout.total());
        self.learn_total(layout.total());
        if self.begun {
            self.report_present(0..layout.total());
        }
    }

    fn take_order(&mut self, order: Order, now: Now) {
        let Some(layout) = self.layout() else { return };
        if layout.piece(order.piece.get()).is_none() || !self.begun || self.relay.is_some() {
            return;
        }
        if self.present.contains(layout.range(order.piece)) {
            let piece = order.piece;
            return self.report(Report::Got { piece, from: None });
        }
        let same = |job: &Job| job.piece == order.piece && job.from == order.from;
        let known = self
            .crowd
            .as_ref()
            .is_some_and(|c| c.jobs.values().any(same));
        if !known {
            self.fetch_piece(order, now);
        }
    }

    pub(super) fn fetch_piece(&mut self, order: Order, now: Now) {
        let fetch = FetchId(self.next_fetch);
        self.next_fetch += 1;
        let Some(crowd) = &mut self.crowd else { return };
        let job = Job {
            piece: order.piece,
            from: order.from.clone(),
            leader: order.leader,
            progress_at: now,
            moved: false,
        };
        crowd.jobs.insert(fetch, job);
        self.actions.push(Action::FetchPiece { fetch, order });
    }

    /// True if the plan must be looked at again.
    pub(super) fn on_piece(&mut self, fetch: FetchId, step: PieceStep, now: Now) -> bool {
        let Some(crowd) = &mut self.crowd else {
            return false;
        };
        match step {
            PieceStep::Moved => {
                let Some(job) = crowd.jobs.get_mut(&fetch) else {
                    return false;
                };
                job.progress_at = now;
                job.moved = true;
                if !crowd.useless.contains(&job.from) {
                    crowd.moved_at = Some(now);
                }
                return false;
            }
            PieceStep::Kept => {
                let (Some(job), Some(layout)) = (crowd.jobs.remove(&fetch), crowd.layout) else {
                    return false;
                };
                crowd.mates.gave(&job.from);
                crowd.useless.remove(&job.from);
                crowd.moved_at = Some(now);
                self.present.insert(layout.range(job.piece));
                self.cancel_jobs(|other| other.piece == job.piece);
                self.reported(job.piece, Some(job.from));
            }
            PieceStep::Failed(fault) => {
                let Some(job) = crowd.jobs.remove(&fetch) else {
                    return false;
                };
                self.actions.push(Action::Cancel { fetch });
                self.piece_failed(job, fault, now);
            }
        }
        true
    }

    fn piece_failed(&mut self, job: Job, fault: PeerFault, now: Now) {
        let Some(crowd) = &mut self.crowd else { return };
        // A leader that only names peers that do not give is left as one that has come to a stand.
        crowd.moved_at.get_or_insert(now);
        crowd.mates.failed(&job.from, job.piece, fault, now);
        if matches!(fault, PeerFault::Wrong | PeerFault::Unreachable) {
            crowd.useless.insert(job.from.clone());
        }
        let (piece, from) = (job.piece, job.from);
        self.report(Report::Failed { piece, from, fault });
    }

    /// Tells the leader, once, of the pieces in `range` that are here otherwise than from a peer.
    pub(super) fn report_present(&mut self, range: Range<u64>) {
        let Some(crowd) = self.crowd.as_ref().filter(|c| c.stage == Stage::Led) else {
            return;
        };
        let Some(layout) = crowd.layout else { return };
        let first = range.start / layout.piece_size();
        let end = range.end.div_ceil(layout.piece_size());
        let pieces = (first..end).filter_map(|n| layout.piece(u32::try_from(n).ok()?));
        let pieces = pieces.filter(|piece| {
            let said = crowd.reported.get(piece.get() as usize);
            said == Some(&false) && self.present.contains(layout.range(*piece))
        });
        for piece in pieces.collect::<Vec<_>>() {
            self.reported(piece, None);
        }
    }

    fn reported(&mut self, piece: PieceIndex, from: Option<PeerId>) {
        if let Some(crowd) = &mut self.crowd
            && let Some(said) = crowd.reported.get_mut(piece.get() as usize)
        {
            *said = true;
        }
        self.report(Report::Got { piece, from });
    }

    fn report(&mut self, report: Report) {
        if self.crowd.as_ref().is_some_and(|c| c.stage == Stage::Led) {
            self.actions.push(Action::Report(report));
        }
    }

    pub(super) fn cancel_jobs(&mut self, unwanted: impl Fn(&Job) -> bool) {
        let Some(crowd) = &mut self.crowd else { return };
        for (fetch, _) in crowd.jobs.extract_if(.., |_, job| unwanted(job)) {
            self.actions.push(Action::Cancel { fetch });
        }
    }

    /// The leader is gone: its successor is asked, and until one leads, mates are.
    fn lose_leader(&mut self, now: Now) {
        self.cancel_jobs(|job| job.leader);
        let Some(crowd) = &self.crowd else { return };
        if crowd.leaders < LEADERS_MAX {
            self.ask_leader(now);
        } else {
            self.go_headless(now);
        }
    }

    /// Nobody leads: the rest is divided among the mates, if there are any.
    fn go_headless(&mut self, now: Now) {
        self.cancel_jobs(|job| job.leader);
        let Some(crowd) = &mut self.crowd else { return };
        if crowd.layout.is_none() || crowd.mates.is_empty() || !self.begun {
            return self.go_alone();
        }
        crowd.stage = Stage::Headless;
        crowd.mates.begin(now);
        self.actions.push(Action::Leave);
    }

    pub(super) fn go_alone(&mut self) {
        self.cancel_jobs(|_| true);
        let Some(crowd) = &mut self.crowd else { return };
        if crowd.stage != Stage::Alone {
            crowd.stage = Stage::Alone;
            self.actions.push(Action::Leave);
        }
    }

    pub(super) fn crowd_tick(&mut self, now: Now) {
        let head = self.limits.head;
        let Some(crowd) = &mut self.crowd else { return };
        let late = |job: &Job| job.is_timed() && now >= job.progress_at + SILENCE;
        let silent: Vec<_> = crowd.jobs.extract_if(.., |_, job| late(job)).collect();
        let (stage, since, moved_at) = (crowd.stage, crowd.since, crowd.moved_at);
        for (fetch, job) in silent {
            self.actions.push(Action::Cancel { fetch });
            self.piece_failed(job, PeerFault::Slow, now);
        }
        match stage {
            Stage::Asking if now >= since + ACKNOWLEDGED => self.lose_leader(now),
            Stage::Heard if now >= since + head => self.go_alone(),
            Stage::Led if moved_at.is_some_and(|at| now >= at + STANDSTILL) => {
                self.go_headless(now);
            }
            _ => {}
        }
    }
}
