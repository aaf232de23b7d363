//! What a flight does next, decided without I/O: events and the time go in, actions come out.
//!
//! A *demand* is the first byte that somebody misses: each reader has one, and the *fill* (the whole
//! blob, which alone can be verified) has one. Planning makes sure that each demand lies shortly
//! before a running fetch or gets its own, and ends the fetches that serve no demand. All else
//! follows: single flight, resuming a cut fetch where it was cut, changing to the next source, a
//! deep range's own fetch, skipping what is there.
//!
//! Invariants: no byte is asked for twice at a time except to read through a short present run; a
//! failing flight ends after a bounded count of fetches; no source is asked before its wait is over.
//! Deliberately not here: bytes, hashing, clocks, tasks (the flight's driver). Peers will be more
//! sources in the same machine.

mod crowd;
#[cfg(test)]
mod crowd_simulation;
mod event;
mod headless;
mod plan;
#[cfg(test)]
mod simulation;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::reader::{How, ReadError, WITHHELD_TAIL};
use crate::source::{Fault, FetchRange, SourceError};
use crate::store::ByteSet;
use crate::tracker::PeerId;
use crowd::Crowd;
pub(crate) use crowd::{Measure, Order, PieceStep, Told};
pub(crate) use event::{Action, Event, FetchId, Limits, Now, ReaderId, SourceId};
use sources::Sources;

/// A demand so close ahead of a fetch waits for it instead of being fetched on its own; bytes that
/// are there are read through once more for so long, and skipped by a new request beyond that.
pub(crate) const NEAR: u64 = 256 << 10;
/// First bound of a fetch for a reader that asked by range; each next one is twice as long, so that
/// a client that abandons its open range early (containerd's chunks) costs little.
const SPAN_FIRST: u64 = 8 << 20;
/// A reader's next fetch is not begun further ahead of it than this.
const AHEAD: u64 = 8 << 20;
/// Most fetches of one flight at a time.
const FETCHES_MAX: usize = 6;
/// A fetch that brought at least this much counts as progress.
const PROGRESS: u64 = 64 << 10;

/// Bytes that the store does not take.
#[derive(Clone, Copy, Debug)]
struct Relay {
    from: u64,
    whole: bool,
}

/// The state machine of one flight.
#[derive(Debug)]
pub(crate) struct Transfer {
    limits: Limits,
    total: Option<u64>,
    begun: bool,
    /// Bytes that came so far, in the store or through memory.
    present: ByteSet,
    relay: Option<Relay>,
    /// The whole blob is wanted.
    fill: bool,
    fill_spans: u32,
    /// Since when no living reader wants the fill.
    idle_since: Option<Now>,
    readers: BTreeMap<ReaderId, Reader>,
    sources: Sources,
    fetches: BTreeMap<FetchId, Fetch>,
    next_fetch: u64,
    resumed: u64,
    /// When a source that a demand waits for may be asked again.
    retry_at: Option<Now>,
    /// The part in the swarm, where there is one.
    crowd: Option<Crowd>,
    over: bool,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Reader {
    source: SourceId,
    range: ReadRange,
    at: u64,
    admitted: bool,
    /// It reads in the repository that the leader was asked about.
    here: bool,
    /// It reads on to the end without asking again, so the fill need not be cut in spans.
    patient: bool,
    /// Fetches begun for it, for the next one's bound.
    spans: u32,
    remind_at: u64,
}

#[derive(Clone, Debug)]
enum ReadRange {
    Asked(FetchRange),
    Known(Range<u64>),
}

#[derive(Debug)]
struct Fetch {
    source: SourceId,
    range: FetchRange,
    /// Offset of the next byte.
    at: u64,
    /// Where it ends; beyond any blob while the total is unknown.
    end: u64,
    /// The offset at which planning must look at it again.
    stop_at: u64,
    got: u64,
    head: bool,
    paused: bool,
    progress_at: Now,
}

impl Transfer {
    /// A flight that knows nothing yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: None,
            begun: false,
            present: ByteSet::new(),
            relay: None,
            fill: false,
            fill_spans: 0,
            idle_since: None,
            readers: BTreeMap::new(),
            sources: Sources::default(),
            fetches: BTreeMap::new(),
            next_fetch: 0,
            resumed: 0,
            retry_at: None,
            crowd: None,
            over: false,
            actions: Vec::new(),
        }
    }

    /// The same, of the node `me` in a swarm.
    pub(crate) fn in_swarm(mut self, me: PeerId) -> Self {
        self.crowd = Some(Crowd::new(me));
        self
    }

    /// Takes in one event. Actions are to be done in order before the next event.
    pub(crate) fn on(&mut self, event: Event, now: Now) -> Vec<Action> {
        if self.over {
            return Vec::new();
        }
        if self.take_in(event, now) {
            self.plan(now);
        }
        std::mem::take(&mut self.actions)
    }

    /// The blob's size, once known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Where the next byte of a fetch belongs, and where its last one ends.
    pub(crate) fn place(&self, fetch: FetchId) -> Option<Range<u64>> {
        self.fetches.get(&fetch).map(|f| f.at..f.end)
    }

    /// The parts of `range` that have not come.
    pub(crate) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.present.gaps(range)
    }

    /// The first byte at or after `offset` that has not come.
    pub(crate) fn first_gap_after(&self, offset: u64) -> u64 {
        self.present.first_gap_after(offset)
    }

    /// Whether the digest of the whole blob should be worked out as bytes come.
    pub(crate) fn wants_digest(&self) -> bool {
        let possible = self.relay.is_none_or(|relay| relay.whole);
        possible && (self.fill || self.is_whole())
    }

    /// Whether every byte of the blob has come.
    pub(crate) fn is_whole(&self) -> bool {
        self.begun
            && self
                .total
                .is_some_and(|total| self.present.contains(0..total))
    }

    /// Fetches begun where another one had ended too early.
    pub(crate) fn resumed(&self) -> u64 {
        self.resumed
    }

    /// When the next `Tick` is due.
    pub(crate) fn deadline(&self) -> Option<Now> {
        let idle = self.idle_since.map(|since| since + self.limits.linger);
        let stalls = self.fetches.values().filter(|f| !f.paused);
        let stall = stalls.map(|f| f.progress_at + self.patience(f)).min();
        let crowd = self.crowd_deadline();
        [idle, stall, self.retry_at, crowd]
            .into_iter()
            .flatten()
            .min()
    }

    fn patience(&self, fetch: &Fetch) -> Duration {
        if fetch.head {
            self.limits.stall
        } else {
            self.limits.head
        }
    }

    /// True if the plan must be looked at again.
    fn take_in(&mut self, event: Event, now: Now) -> bool {
        match event {
            Event::Bytes { fetch, len } => return self.on_bytes(fetch, len, now),
            Event::Joined {
                reader,
                source,
                first,
                here,
            } => self.on_joined(reader, source, first, here),
            Event::Reads {
                reader,
                source,
                range,
            } => self.on_reads(reader, source, range),
            Event::At { reader, at } => {
                if let Some(reader) = self.readers.get_mut(&reader) {
                    reader.at = reader.at.max(at);
                }
            }
            Event::Left { reader } => {
                self.readers.remove(&reader);
            }
            Event::Head {
                fetch,
                total,
                start,
            } => self.on_head(fetch, total, start, now),
            Event::Begun { present } => {
                self.present = present;
                self.begun = true;
                self.report_present(0..self.total.unwrap_or(0));
            }
            Event::NoRoom { fetch } => self.on_no_room(fetch),
            Event::Paused { fetch, paused } => {
                if let Some(fetch) = self.fetches.get_mut(&fetch) {
                    fetch.paused = paused;
                    fetch.progress_at = now;
                }
                return false;
            }
            Event::Failed { fetch, error } => self.on_failed(fetch, error, now),
            Event::Told(told) => self.on_told(told, now),
            Event::Piece { fetch, step } => return self.on_piece(fetch, step, now),
            Event::Present { peer, has } => self.on_present(&peer, has),
            Event::Tick => {
                self.on_tick(now);
                self.crowd_tick(now);
            }
        }
        true
    }

    fn on_joined(&mut self, reader: ReaderId, source: SourceId, first: FetchRange, here: bool) {
        self.sources.add(source);
        let joined = Reader {
            source,
            at: start_of(&first),
            patient: matches!(first, FetchRange::All | FetchRange::Last(_)),
            range: ReadRange::Asked(first),
            admitted: false,
            here,
            spans: 0,
            remind_at: u64::MAX,
        };
        self.readers.insert(reader, joined);
    }

    fn on_reads(&mut self, reader: ReaderId, source: SourceId, range: Range<u64>) {
        self.sources.add(source);
        let reader = self.readers.entry(reader).or_insert(Reader {
            source,
            range: ReadRange::Known(range.clone()),
            at: range.start,
            admitted: true,
            here: false,
            patient: false,
            spans: 0,
            remind_at: u64::MAX,
        });
        reader.at = range.start;
        reader.range = ReadRange::Known(range);
    }

    fn on_bytes(&mut self, id: FetchId, len: u64, now: Now) -> bool {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return false;
        };
        let kept = len.min(fetch.end - fetch.at);
        // Bytes read through once more are no progress, or a cut at the same place would be for ever.
        let fresh_from = self.present.first_gap_after(fetch.at);
        self.present.insert(fetch.at..fetch.at + kept);
        let came = fetch.at..fetch.at + kept;
        fetch.at += kept;
        fetch.got += fetch.at.saturating_sub(fresh_from);
        fetch.progress_at = now;
        let stops = fetch.at >= fetch.stop_at;
        if len > kept {
            let error = SourceError::wrong("more bytes than asked for");
            self.fail(id, error, now);
            return true;
        }
        self.report_present(came);
        stops
    }

    fn on_head(&mut self, id: FetchId, total: u64, start: u64, now: Now) {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return;
        };
        let agreed = *self.total.get_or_insert(total);
        if agreed != total {
            let why = format!("size {total} instead of {agreed}");
            return self.fail(id, SourceError::wrong(why), now);
        }
        if start != fetch.at {
            let why = format!("begins at {start} instead of {}", fetch.at);
            return self.fail(id, SourceError::wrong(why), now);
        }
        fetch.head = true;
        fetch.progress_at = now;
        self.sources.prove(fetch.source);
        self.learn_total(total);
    }

    /// Cuts everything to the size and asks the store, the first time.
    fn learn_total(&mut self, total: u64) {
        for fetch in self.fetches.values_mut() {
            fetch.end = fetch.end.min(total);
        }
        let asked = |action: &Action| matches!(action, Action::Begin { .. });
        if !self.begun && !self.actions.iter().any(asked) {
            self.actions.push(Action::Begin { total });
        }
    }

    /// Chooses what passes through memory: the rest of the whole blob if it is wanted, else what is
    /// being read. What has come and does not belong there is dropped.
    fn on_no_room(&mut self, fetch: Option<FetchId>) {
        self.begun = true;
        self.go_alone();
        if self.relay.is_some() {
            return;
        }
        let whole = self.fill || self.readers.values().any(|r| r.wants_fill(self.total));
        let starts = self.readers.values().map(|r| r.span(self.total).start);
        let come = fetch.and_then(|id| self.fetches.get(&id)).map(|f| f.at);
        let from = match whole {
            true => self.present.first_gap_after(0),
            false => come.or(starts.min()).unwrap_or(0),
        };
        self.relay = Some(Relay { from, whole });
        self.actions.push(Action::Relay { from, whole });
        if let Some(fetch) = fetch.filter(|_| come != Some(from)) {
            self.fetches.remove(&fetch);
            self.actions.push(Action::Cancel { fetch });
        }
    }

    fn on_failed(&mut self, id: FetchId, error: SourceError, now: Now) {
        match (&error.fault, self.fetches.get(&id)) {
            (_, None) => {}
            (&Fault::Unsatisfiable { total }, Some(fetch))
                if total <= fetch.at && self.total.is_none_or(|known| known == total) =>
            {
                let source = fetch.source;
                self.fetches.remove(&id);
                self.sources.prove(source);
                self.total = Some(total);
                self.learn_total(total);
            }
            (Fault::Unsatisfiable { .. }, Some(_)) => {
                self.fail(id, SourceError::wrong(error.to_string()), now);
            }
            (_, Some(_)) => self.fail(id, error, now),
        }
    }

    fn on_tick(&mut self, now: Now) {
        let late = |f: &Fetch| !f.paused && now >= f.progress_at + self.patience(f);
        let stalled: Vec<_> = self.fetches.iter().filter(|(_, f)| late(f)).collect();
        let stalled: Vec<_> = stalled.into_iter().map(|(&id, _)| id).collect();
        for id in stalled {
            self.actions.push(Action::Cancel { fetch: id });
            self.fail(id, SourceError::unavailable("stalled"), now);
        }
    }

    /// Ends a fetch by its source's fault. The driver has dropped it, or will.
    fn fail(&mut self, id: FetchId, error: SourceError, now: Now) {
        let Some(fetch) = self.fetches.remove(&id) else {
            return;
        };
        self.actions.push(Action::Cancel { fetch: id });
        let refused = matches!(error.fault, Fault::NotFound | Fault::Denied);
        let attempt = sources::Attempt {
            ranged: fetch.range != FetchRange::All,
            progress: fetch.got >= PROGRESS,
            first: self.total.is_none(),
        };
        self.resumed += u64::from(fetch.head && fetch.at < fetch.end);
        self.sources.fail(fetch.source, error.clone(), attempt, now);
        if refused {
            let own = |r: &Reader| !r.admitted && r.source == fetch.source;
            let refused = self.readers.extract_if(.., |_, r| own(r));
            for (reader, _) in refused {
                let error = ReadError::Source(error.clone());
                self.actions.push(Action::Refuse { reader, error });
            }
        }
    }

    fn finish(&mut self, error: Option<ReadError>) {
        let running: Vec<_> = self.fetches.keys().copied().collect();
        self.fetches.clear();
        let cancels = running.into_iter().map(|fetch| Action::Cancel { fetch });
        self.actions.extend(cancels);
        self.cancel_jobs(|_| true);
        for (reader, state) in std::mem::take(&mut self.readers) {
            if !state.admitted {
                let own = self.sources.error_of(state.source).map(ReadError::Source);
                let error = own.or_else(|| error.clone()).unwrap_or(ReadError::ShutDown);
                self.actions.push(Action::Refuse { reader, error });
            }
        }
        self.over = true;
        self.actions.push(Action::Finish { error });
    }
}

impl Reader {
    fn is_unsatisfiable(&self, total: u64) -> bool {
        match &self.range {
            ReadRange::Asked(asked) => asked.resolve(total).is_none(),
            ReadRange::Known(_) => false,
        }
    }

    /// What it reads as far as this is known; the end lies beyond any blob while it is not.
    fn span(&self, total: Option<u64>) -> Range<u64> {
        match (&self.range, total) {
            (ReadRange::Known(range), _) => range.clone(),
            (ReadRange::Asked(asked), Some(total)) => asked.resolve(total).unwrap_or(total..total),
            (ReadRange::Asked(FetchRange::Span(span)), None) => span.clone(),
            (ReadRange::Asked(asked), None) => start_of(asked)..u64::MAX,
        }
    }

    /// It begins near the beginning, or reaches bytes that only a verified blob may give.
    fn wants_fill(&self, total: Option<u64>) -> bool {
        let span = self.span(total);
        let safe_end = total.map_or(u64::MAX, |total| total.saturating_sub(WITHHELD_TAIL));
        (!span.is_empty() && (span.start <= NEAR || span.end > safe_end)) || self.patient
    }
}

/// Where an answer to `range` begins; `Last` waits for the fill, which tells the total.
fn start_of(range: &FetchRange) -> u64 {
    match range {
        FetchRange::All | FetchRange::Last(_) => 0,
        FetchRange::From(start) => *start,
        FetchRange::Span(span) => span.start,
    }
}
