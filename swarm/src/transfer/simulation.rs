//! The state machine against a simulated world: seeded sources that cut, stall, lie and refuse,
//! readers that come, read, lag and leave. A failing run prints its seed.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SEEDS: u64 = 1500;
const READERS_MAX: u64 = 12;

/// What kind of world a source lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Honest,
    /// Gives good bytes and is cut now and then.
    Flaky,
    Unavailable,
    Denies,
    Limits,
    /// Answers and falls silent, or does not answer.
    Stalls,
    /// Gives the whole blob for anything, which its client reports as a wrong answer.
    Rangeless,
    /// Says another size, or sends more than asked.
    Lies,
}

const NATURES: [Nature; 8] = [
    Nature::Honest,
    Nature::Flaky,
    Nature::Unavailable,
    Nature::Denies,
    Nature::Limits,
    Nature::Stalls,
    Nature::Rangeless,
    Nature::Lies,
];

pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

struct SimFetch {
    source: SourceId,
    range: FetchRange,
    head: bool,
    at: u64,
    end: u64,
}

struct SimReader {
    first: FetchRange,
    source: SourceId,
    how: Option<How>,
    at: u64,
    remind_at: u64,
}

struct World {
    seed: u64,
    random: Random,
    total: u64,
    now: Now,
    transfer: Transfer,
    natures: BTreeMap<SourceId, Nature>,
    all_honest: bool,
    fetches: BTreeMap<FetchId, SimFetch>,
    readers: BTreeMap<ReaderId, SimReader>,
    next_reader: u64,
    answered: BTreeSet<SourceId>,
    refusing: BTreeSet<SourceId>,
    forgotten: BTreeSet<SourceId>,
    have: ByteSet,
    before: u64,
    delivered: u64,
    started: u64,
    finished: Option<Option<ReadError>>,
    trace: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tail = self.trace.len().saturating_sub(30);
            eprintln!("seed {}:\n{}", self.seed, self.trace[tail..].join("\n"));
        }
    }
}

impl World {
    fn new(seed: u64, all_honest: bool) -> Self {
        let mut random = Random(seed);
        let sizes = [0, 1, 64 * KIB, MIB, 9 * MIB, 40 * MIB];
        let total = sizes[random.below(6) as usize] + random.below(3) * 77;
        let limits = Limits {
            stall: Duration::from_secs(10),
            head: Duration::from_secs(30),
            linger: Duration::from_secs(60),
        };
        Self {
            seed,
            random,
            total,
            now: Duration::ZERO,
            transfer: Transfer::new(limits),
            natures: BTreeMap::new(),
            all_honest,
            fetches: BTreeMap::new(),
            readers: BTreeMap::new(),
            next_reader: 0,
            answered: BTreeSet::new(),
            refusing: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            have: ByteSet::new(),
            before: 0,
            delivered: 0,
            started: 0,
            finished: None,
            trace: Vec::new(),
        }
    }

    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.trace.push(format!("{:?} {event:?}", self.now));
            for action in self.transfer.on(event, self.now) {
                self.trace.push(format!("    {action:?}"));
                events.extend(self.act(action));
            }
        }
        for (id, fetch) in &self.fetches {
            let place = self
                .transfer
                .place(*id)
                .expect("a running fetch has a place");
            assert_eq!(place.start, fetch.at);
            assert!(!fetch.head || place.end <= self.total);
        }
        assert!(self.fetches.len() <= FETCHES_MAX + 1);
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        assert!(self.finished.is_none(), "nothing after the end");
        match action {
            Action::Fetch {
                fetch,
                source,
                range,
            } => {
                assert!(!self.refusing.contains(&source), "asked after it refused");
                assert!(!self.forgotten.contains(&source), "asked after it left");
                self.started += 1;
                let at = start_of(&range);
                let sim = SimFetch {
                    source,
                    range,
                    head: false,
                    at,
                    end: u64::MAX,
                };
                assert!(self.fetches.insert(fetch, sim).is_none());
            }
            Action::Cancel { fetch } => {
                self.fetches.remove(&fetch);
            }
            Action::Begin { total } => {
                if total == self.total && self.random.one_in(3) {
                    let start = self.random.below(self.total);
                    let end = start + self.random.below(self.total - start);
                    self.have.insert(start..end);
                    self.before = end - start;
                }
                return Some(Event::Begun {
                    present: self.have.clone(),
                });
            }
            Action::Admit { reader, how } => {
                let reader = self
                    .readers
                    .get_mut(&reader)
                    .expect("a reader that is here");
                assert!(reader.how.is_none(), "admitted twice");
                let proven = self.answered.contains(&reader.source);
                assert_eq!(how == How::Started, proven);
                reader.how = Some(how);
            }
            Action::Refuse { reader, error } => {
                let reader = self.readers.remove(&reader).expect("a reader that is here");
                assert!(reader.how.is_none(), "refused after it was admitted");
                if matches!(error, ReadError::Unsatisfiable { .. }) {
                    assert_eq!(reader.first.resolve(self.total), None);
                }
            }
            Action::Relay { .. } => {}
            Action::Remind { reader, at } => {
                let reader = self
                    .readers
                    .get_mut(&reader)
                    .expect("a reader that is here");
                reader.remind_at = at;
            }
            Action::Forget { source } => {
                assert!(self.readers.values().all(|r| r.source != source));
                self.forgotten.insert(source);
            }
            Action::Finish { error } => self.finished = Some(error),
            of_swarm => panic!("there is no swarm here: {of_swarm:?}"),
        }
        None
    }

    fn join(&mut self, nature: Nature) {
        let total = self.total;
        let at = self.random.below(total + 1);
        let first = match self.random.below(6) {
            0 | 1 => FetchRange::All,
            2 => FetchRange::From(0),
            3 => FetchRange::From(at),
            4 => FetchRange::Last(1 + self.random.below(total + 9)),
            _ => FetchRange::Span(at..at + 1 + self.random.below(MIB)),
        };
        let id = ReaderId(self.next_reader);
        let source = SourceId(self.next_reader);
        self.next_reader += 1;
        self.natures.insert(source, nature);
        let reader = SimReader {
            at: first.resolve(total).map_or(0, |range| range.start),
            first: first.clone(),
            source,
            how: None,
            remind_at: u64::MAX,
        };
        self.readers.insert(id, reader);
        self.feed(Event::Joined {
            reader: id,
            source,
            first,
            here: false,
        });
    }

    fn any_reader(&mut self) -> Option<ReaderId> {
        let index = self.random.below(self.readers.len() as u64) as usize;
        self.readers.keys().nth(index).copied()
    }

    fn any_fetch(&mut self) -> Option<FetchId> {
        let index = self.random.below(self.fetches.len() as u64) as usize;
        self.fetches.keys().nth(index).copied()
    }

    /// One step of a fetch, as its source's nature has it.
    fn step_fetch(&mut self, id: FetchId) {
        let Some(fetch) = self.fetches.get(&id) else {
            return;
        };
        let nature = self.natures[&fetch.source];
        if fetch.head {
            self.step_body(id, nature);
        } else {
            self.step_head(id, nature);
        }
    }

    fn step_head(&mut self, id: FetchId, nature: Nature) {
        let fetch = &self.fetches[&id];
        let (source, range) = (fetch.source, fetch.range.clone());
        let fault = match nature {
            Nature::Denies => Some(Fault::Denied),
            Nature::Unavailable => Some(Fault::Unavailable("down".into())),
            Nature::Limits => Some(Fault::Limited {
                retry_after: Some(Duration::from_secs(self.random.below(20))),
            }),
            Nature::Rangeless if range != FetchRange::All => Some(Fault::Wrong("200".into())),
            Nature::Stalls if self.random.one_in(2) => return,
            _ => None,
        };
        let span = range.resolve(self.total);
        if let Some(fault) = fault {
            if fault == Fault::Denied {
                self.refusing.insert(source);
            }
            return self.fail(id, fault);
        }
        let Some(span) = span else {
            let total = self.total;
            self.answered.insert(source);
            return self.fail(id, Fault::Unsatisfiable { total });
        };
        let lies = nature == Nature::Lies && self.transfer.total().is_some();
        let total = self.total + u64::from(lies);
        if !lies {
            self.answered.insert(source);
        }
        let fetch = self.fetches.get_mut(&id).expect("just seen");
        fetch.head = true;
        fetch.end = span.end;
        self.feed(Event::Head {
            fetch: id,
            total,
            start: span.start,
        });
    }

    fn step_body(&mut self, id: FetchId, nature: Nature) {
        let cut = match nature {
            Nature::Flaky | Nature::Rangeless => self.random.one_in(8),
            Nature::Stalls if self.random.one_in(3) => return,
            _ => false,
        };
        let fetch = &self.fetches[&id];
        if cut || fetch.at >= fetch.end {
            return self.fail(id, Fault::Unavailable("cut".into()));
        }
        let left = fetch.end - fetch.at;
        let mut len = (1 + self.random.below(MIB)).min(left);
        if nature == Nature::Lies && self.random.one_in(8) {
            len = left + 1;
        }
        let fetch = self.fetches.get_mut(&id).expect("just seen");
        let kept = len
            .min(left)
            .min(self.transfer.place(id).map_or(0, |p| p.end - p.start));
        self.have.insert(fetch.at..fetch.at + kept);
        fetch.at += kept;
        self.delivered += kept;
        self.feed(Event::Bytes { fetch: id, len });
    }

    fn fail(&mut self, id: FetchId, fault: Fault) {
        self.fetches.remove(&id);
        self.feed(Event::Failed {
            fetch: id,
            error: fault.into(),
        });
    }

    /// A reader takes what is there. True when it has all that it wants.
    fn step_reader(&mut self, id: ReaderId) -> bool {
        let Some(reader) = self.readers.get_mut(&id).filter(|r| r.how.is_some()) else {
            return false;
        };
        let range = reader.first.resolve(self.total).expect("it was admitted");
        reader.at = self.have.first_gap_after(reader.at).min(range.end);
        let at = reader.at;
        if at >= reader.remind_at {
            reader.remind_at = u64::MAX;
            self.feed(Event::At { reader: id, at });
        }
        at >= range.end
    }

    /// Time goes by; honest sources are never slow.
    fn step_time(&mut self) {
        let busy: Vec<_> = self.fetches.iter().map(|(id, f)| (*id, f.source)).collect();
        let mut waits = true;
        for (id, source) in busy {
            if matches!(self.natures[&source], Nature::Honest | Nature::Flaky) {
                self.step_fetch(id);
                waits = false;
            }
        }
        let deadline = self.transfer.deadline();
        self.now += Duration::from_millis(100);
        if let Some(deadline) = deadline.filter(|at| waits || *at <= self.now) {
            self.now = self.now.max(deadline);
            if self.finished.is_none() {
                self.feed(Event::Tick);
            }
        }
    }

    fn nature(&mut self) -> Nature {
        let any = NATURES[self.random.below(8) as usize];
        if self.all_honest { Nature::Honest } else { any }
    }

    fn run(&mut self) {
        let nature = self.nature();
        self.join(nature);
        for _ in 0..400 {
            if self.finished.is_some() {
                return self.check_end();
            }
            match self.random.below(12) {
                0 if self.next_reader < READERS_MAX => {
                    let nature = self.nature();
                    self.join(nature);
                }
                1 if self.random.one_in(6) => {
                    if let Some(reader) = self.any_reader() {
                        self.readers.remove(&reader);
                        self.feed(Event::Left { reader });
                    }
                }
                2 => self.step_time(),
                3 | 4 => {
                    if let Some(reader) = self.any_reader() {
                        self.step_reader(reader);
                    }
                }
                _ => {
                    if let Some(fetch) = self.any_fetch() {
                        self.step_fetch(fetch);
                    }
                }
            }
        }
        if self.finished.is_none() {
            self.join(Nature::Honest);
        }
        self.settle();
        self.check_end();
    }

    /// Nobody comes any more, one honest reader stays: everybody admitted gets everything.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            if self.finished.is_some() {
                return;
            }
            let readers: Vec<_> = self.readers.keys().copied().collect();
            let mut done = true;
            for reader in readers {
                done &= self.step_reader(reader) || !self.readers.contains_key(&reader);
            }
            if done && self.fetches.is_empty() {
                return;
            }
            self.step_time();
        }
        panic!("does not come to an end");
    }

    fn check_end(&mut self) {
        assert!(self.started < 400, "{} fetches", self.started);
        if let Some(Some(error)) = &self.finished {
            let honest = |s: &SourceId| self.natures[s] == Nature::Honest;
            let left = self.readers.values().any(|r| honest(&r.source));
            assert!(!left, "given up with an honest source: {error}");
        }
        if self.all_honest {
            let twice = self
                .delivered
                .saturating_sub(self.have.covered_len() - self.before);
            let allowed = 2 * NEAR * (self.started.saturating_sub(1));
            assert!(
                twice <= allowed + MIB,
                "{twice} bytes came twice in {}",
                self.started
            );
        }
    }
}

#[test]
fn worlds_with_every_kind_of_source() {
    for seed in 0..SEEDS {
        World::new(seed, false).run();
    }
}

#[test]
fn worlds_with_honest_sources() {
    for seed in 0..SEEDS {
        World::new(seed, true).run();
    }
}

#[test]
fn a_seed_runs_the_same_way_twice() {
    for seed in 0..50 {
        let trace = || {
            let mut world = World::new(seed, false);
            world.run();
            std::mem::take(&mut world.trace)
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}
