//! The swarm's side of the state machine against a simulated world: leaders that are silent, refuse,
//! freeze and die, peers that lie, hang and vanish, one flaky or dead upstream. A failing run prints
//! its seed, and a seed runs the same way twice.

use std::collections::{BTreeMap, BTreeSet};

use super::simulation::Random;
use super::*;
use crate::piece::{Layout, PieceDigest, PieceIndex};
use crate::tracker::PeerFault;

const SEEDS: u64 = 3000;
const STEPS_MAX: usize = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    /// There is none.
    Absent,
    /// It never hears.
    Deaf,
    /// It hears, and is frozen.
    Frozen,
    Refuses,
    Leads,
    /// It leads until then, and the stream breaks.
    Dies(u64),
    /// It leads until then, and says nothing more.
    Freezes(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbour {
    Holds,
    Lies,
    Hangs,
    Lacks,
    /// It breaks off in the middle.
    Breaks,
}

/// What will happen.
#[derive(Clone, Debug)]
enum Due {
    Say(u32, Told),
    /// The leader gives out some instructions.
    Lead(u32),
    Arrives(FetchId),
    Moves(FetchId),
    Breaks(FetchId, PeerFault),
    Looked(PeerId, Option<ByteSet>),
    Head(FetchId),
    Frame(FetchId),
    UpstreamFails(FetchId),
}

struct World {
    seed: u64,
    random: Random,
    now: u64,
    layout: Layout,
    transfer: Transfer,
    queue: BTreeMap<(u64, u64), Due>,
    next_due: u64,
    leaders: Vec<Leader>,
    leader_lies: bool,
    joins: u32,
    member: bool,
    neighbours: Vec<(PeerId, Neighbour)>,
    pieces: BTreeMap<FetchId, Order>,
    /// Complete pieces whose digest has not come.
    waiting: BTreeSet<FetchId>,
    streams: BTreeMap<FetchId, (u64, u64)>,
    upstream_dead: bool,
    upstream_flaky: bool,
    /// Wrong bytes were taken in while nobody told digests.
    provisional_lie: bool,
    finished: Option<Option<ReadError>>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let layout = Layout::of(1 + random.below(9 << 20));
        let limits = Limits {
            stall: Duration::from_secs(10),
            head: Duration::from_secs(30),
            linger: Duration::from_secs(60),
        };
        let leader = |random: &mut Random| match random.below(8) {
            0 => Leader::Absent,
            1 => Leader::Deaf,
            2 => Leader::Frozen,
            3 => Leader::Refuses,
            4 => Leader::Dies(random.below(3000)),
            5 => Leader::Freezes(random.below(3000)),
            _ => Leader::Leads,
        };
        let neighbour = |random: &mut Random| match random.below(8) {
            0 => Neighbour::Lies,
            1 => Neighbour::Hangs,
            2 => Neighbour::Lacks,
            3 => Neighbour::Breaks,
            _ => Neighbour::Holds,
        };
        let leaders = (0..8).map(|_| leader(&mut random)).collect();
        let count = random.below(6);
        let name = |n| PeerId(std::sync::Arc::from(format!("peer-{n}")));
        let neighbours = (0..count)
            .map(|n| (name(n), neighbour(&mut random)))
            .collect();
        let me = PeerId(std::sync::Arc::from("me"));
        Self {
            seed,
            now: 0,
            layout,
            transfer: Transfer::new(limits).in_swarm(me),
            queue: BTreeMap::new(),
            next_due: 0,
            leaders,
            leader_lies: random.one_in(8),
            joins: 0,
            member: false,
            neighbours,
            pieces: BTreeMap::new(),
            waiting: BTreeSet::new(),
            streams: BTreeMap::new(),
            upstream_dead: random.one_in(6),
            upstream_flaky: random.one_in(3),
            provisional_lie: false,
            finished: None,
            log: Vec::new(),
            random,
        }
    }

    fn later(&mut self, within_ms: u64, due: Due) {
        let in_ms = 1 + self.random.below(within_ms);
        self.due(in_ms, due);
    }

    fn due(&mut self, in_ms: u64, due: Due) {
        self.queue.insert((self.now + in_ms, self.next_due), due);
        self.next_due += 1;
    }

    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.log.push(format!("{} {event:?}", self.now));
            let now = Duration::from_millis(self.now);
            for action in self.transfer.on(event, now) {
                self.log.push(format!("    {action:?}"));
                events.extend(self.act(action));
            }
        }
    }

    fn leader(&self) -> Leader {
        self.leaders[(self.joins.max(1) - 1) as usize % self.leaders.len()]
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        assert!(self.finished.is_none(), "nothing after the end");
        match action {
            Action::Join { .. } => return self.join(),
            Action::Leave => self.member = false,
            Action::FetchPiece { fetch, order } => self.ask_peer(fetch, order),
            Action::AskPresent { peer } => self.look(peer),
            Action::Fetch {
                fetch,
                source,
                range,
            } => {
                assert_eq!(source, SourceId(0));
                let led = self
                    .transfer
                    .crowd
                    .as_ref()
                    .is_some_and(|c| c.stage == crowd::Stage::Led);
                assert!(!led, "a led flight asks no registry");
                let span = range
                    .resolve(self.layout.total())
                    .expect("asked within the blob");
                self.streams.insert(fetch, (span.start, span.end));
                let due = match self.upstream_dead {
                    true => Due::UpstreamFails(fetch),
                    false => Due::Head(fetch),
                };
                self.later(20, due);
            }
            Action::Cancel { fetch } => {
                self.streams.remove(&fetch);
                self.pieces.remove(&fetch);
                self.waiting.remove(&fetch);
            }
            Action::Begin { total } => {
                assert_eq!(total, self.layout.total());
                return Some(Event::Begun {
                    present: ByteSet::new(),
                });
            }
            Action::Finish { error } => self.finished = Some(error),
            Action::Report(_) => assert!(self.member, "only members report"),
            Action::Relay { .. } => panic!("the store takes everything here"),
            Action::Admit { .. } | Action::Refuse { .. } | Action::Remind { .. } => {}
            Action::Forget { .. } => {}
        }
        None
    }

    fn join(&mut self) -> Option<Event> {
        self.joins += 1;
        let term = self.joins;
        self.member = false;
        let leader = self.leader();
        match leader {
            Leader::Absent => return Some(Event::Told(Told::Nobody)),
            Leader::Deaf => {}
            Leader::Frozen => self.later(200, Due::Say(term, Told::Heard)),
            Leader::Refuses => {
                self.later(100, Due::Say(term, Told::Heard));
                self.say_at(200, term, Told::Refused);
            }
            Leader::Leads | Leader::Dies(_) | Leader::Freezes(_) => {
                self.say_at(100, term, Told::Heard);
                self.say_at(110, term, Told::Accepted(self.layout));
                let mates = self.neighbours.iter().map(|(id, _)| id.clone()).collect();
                self.say_at(120, term, Told::Mates(mates));
                self.due(130, Due::Lead(term));
            }
        }
        self.member = true;
        None
    }

    fn say_at(&mut self, in_ms: u64, term: u32, told: Told) {
        self.due(in_ms, Due::Say(term, told));
    }

    /// Some instructions, some digests; and again later.
    fn lead(&mut self, term: u32) {
        match self.leader() {
            Leader::Dies(at) if self.now > at => {
                return self.feed(Event::Told(Told::Lost));
            }
            // The tracker notices the silence.
            Leader::Freezes(at) if self.now > at => return self.say_at(1000, term, Told::Lost),
            _ => {}
        }
        let missing: Vec<_> = self.layout.pieces().collect();
        let missing: Vec<_> = missing
            .into_iter()
            .filter(|piece| !self.transfer.present.contains(self.layout.range(*piece)))
            .collect();
        let mut orders = Vec::new();
        for piece in missing.iter().take(4) {
            let honest = self.random.one_in(3) || self.neighbours.is_empty();
            let from = match honest {
                true => PeerId(std::sync::Arc::from("leader")),
                false => {
                    let n = self.random.below(self.neighbours.len() as u64) as usize;
                    self.neighbours[n].0.clone()
                }
            };
            orders.push(Order {
                piece: *piece,
                from,
                order: 0,
                leader: honest,
            });
        }
        let digests = missing
            .into_iter()
            .map(|piece| (piece, right(piece)))
            .collect();
        match self.random.one_in(2) {
            true => self.feed(Event::Told(Told::Digests(digests))),
            false => self.later(300, Due::Say(term, Told::Digests(digests))),
        }
        if self.member && term == self.joins {
            self.feed(Event::Told(Told::Fetch(orders)));
            self.judge_waiting();
            self.later(100, Due::Lead(term));
        }
    }

    fn nature(&self, id: &PeerId) -> Neighbour {
        let known = self.neighbours.iter().find(|(known, _)| known == id);
        known.map_or(Neighbour::Holds, |(_, nature)| *nature)
    }

    fn ask_peer(&mut self, fetch: FetchId, order: Order) {
        let nature = self.nature(&order.from);
        self.pieces.insert(fetch, order);
        match nature {
            Neighbour::Holds | Neighbour::Lies => self.later(200, Due::Arrives(fetch)),
            Neighbour::Hangs => {}
            Neighbour::Lacks => self.later(50, Due::Breaks(fetch, PeerFault::Missing)),
            Neighbour::Breaks => {
                self.later(50, Due::Moves(fetch));
                self.due(60, Due::Breaks(fetch, PeerFault::Unreachable));
            }
        }
    }

    fn look(&mut self, peer: PeerId) {
        let whole = ByteSet::of(0..self.layout.total());
        let has = match self.nature(&peer) {
            Neighbour::Holds | Neighbour::Lies => Some(whole),
            Neighbour::Lacks => Some(ByteSet::new()),
            Neighbour::Hangs | Neighbour::Breaks => None,
        };
        self.later(500, Due::Looked(peer, has));
    }

    fn arrives(&mut self, fetch: FetchId) {
        let Some(order) = self.pieces.get(&fetch).cloned() else {
            return;
        };
        self.feed(Event::Piece {
            fetch,
            step: PieceStep::Moved,
        });
        let liar = self.nature(&order.from) == Neighbour::Lies;
        let lies = liar || (order.leader && self.leader_lies);
        let step = match self.transfer.measure(order.piece) {
            Measure::Awaited => {
                self.waiting.insert(fetch);
                return;
            }
            Measure::Digest(digest) => {
                assert_eq!(digest, right(order.piece));
                match lies {
                    true => PieceStep::Failed(PeerFault::Wrong),
                    false => PieceStep::Kept,
                }
            }
            Measure::Provisional => {
                self.provisional_lie |= lies;
                PieceStep::Kept
            }
        };
        self.pieces.remove(&fetch);
        self.feed(Event::Piece { fetch, step });
    }

    fn judge_waiting(&mut self) {
        for fetch in std::mem::take(&mut self.waiting) {
            self.arrives(fetch);
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Say(term, told) => {
                if self.member && term == self.joins {
                    self.feed(Event::Told(told));
                    self.judge_waiting();
                }
            }
            Due::Lead(term) if self.member && term == self.joins => self.lead(term),
            Due::Lead(_) => {}
            Due::Arrives(fetch) => self.arrives(fetch),
            Due::Moves(fetch) if self.pieces.contains_key(&fetch) => {
                self.feed(Event::Piece {
                    fetch,
                    step: PieceStep::Moved,
                });
            }
            Due::Moves(_) => {}
            Due::Breaks(fetch, fault) => {
                if self.pieces.remove(&fetch).is_some() {
                    let step = PieceStep::Failed(fault);
                    self.feed(Event::Piece { fetch, step });
                }
            }
            Due::Looked(peer, has) => self.feed(Event::Present { peer, has }),
            Due::Head(fetch) => {
                if let Some((start, _)) = self.streams.get(&fetch).copied() {
                    let total = self.layout.total();
                    self.feed(Event::Head {
                        fetch,
                        total,
                        start,
                    });
                    self.later(20, Due::Frame(fetch));
                }
            }
            Due::Frame(fetch) => self.frame(fetch),
            Due::UpstreamFails(fetch) => {
                if self.streams.remove(&fetch).is_some() {
                    let error = SourceError::unavailable("down");
                    self.feed(Event::Failed { fetch, error });
                }
            }
        }
    }

    fn frame(&mut self, fetch: FetchId) {
        let Some((at, end)) = self.streams.get_mut(&fetch) else {
            return;
        };
        let len = (*end - *at).min(64 << 10);
        *at += len;
        let done = *at == *end;
        self.feed(Event::Bytes { fetch, len });
        let cut = self.upstream_flaky && self.random.one_in(40);
        match (done, cut) {
            (true, _) => {}
            (false, true) => self.later(5, Due::UpstreamFails(fetch)),
            (false, false) => self.later(5, Due::Frame(fetch)),
        }
    }

    /// Runs until the blob is whole or the flight is over.
    fn run(&mut self) {
        let reader = ReaderId(0);
        let joined = Event::Joined {
            reader,
            source: SourceId(0),
            first: FetchRange::All,
            here: true,
        };
        self.feed(joined);
        for _ in 0..STEPS_MAX {
            if self.finished.is_some() || self.transfer.is_whole() {
                return;
            }
            let tick = self.transfer.deadline().map(|at| at.as_millis() as u64 + 1);
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            match (next, tick) {
                (Some(next), tick) if tick.is_none_or(|tick| next <= tick) => {
                    let ((at, _), due) = self.queue.pop_first().expect("there is a next");
                    self.now = at;
                    self.happen(due);
                }
                (_, Some(tick)) => {
                    self.now = self.now.max(tick);
                    self.feed(Event::Tick);
                }
                (_, None) => panic!("nothing more can happen, and the blob is not whole"),
            }
        }
        panic!("it goes on for ever");
    }

    fn check(&self) {
        let helpers = self.neighbours.iter().any(|(_, n)| *n == Neighbour::Holds);
        if !self.upstream_dead {
            assert!(
                self.transfer.is_whole(),
                "upstream alone suffices: {:?}",
                self.finished
            );
        } else if !self.transfer.is_whole() {
            let leaders_help = self.leaders[..self.joins as usize].contains(&Leader::Leads);
            assert!(
                !helpers || !leaders_help || self.leader_lies,
                "leader and peers had it: {:?}",
                self.finished
            );
        }
        // One frozen leader costs its patience, three and a dead peer or two a little more.
        assert!(self.now < 120_000, "took {} ms", self.now);
    }
}

/// The digest of a piece in this world.
fn right(piece: PieceIndex) -> PieceDigest {
    PieceDigest::of(&piece.get().to_le_bytes())
}

fn run(seed: u64) -> Vec<String> {
    let mut world = World::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.run();
        world.check();
    }));
    if outcome.is_err() {
        let from = world.log.len().saturating_sub(60);
        panic!("seed {}:\n{}", world.seed, world.log[from..].join("\n"));
    }
    world.log
}

#[test]
fn every_flight_ends_whole_or_with_a_reason() {
    for seed in 0..SEEDS {
        run(seed);
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    for seed in [1, 77, 1234] {
        assert_eq!(run(seed), run(seed));
    }
}
