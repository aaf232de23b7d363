//! The plan: every demand lies shortly before a running fetch or gets one; every running fetch serves
//! a demand.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use super::sources::Choice;
use super::{
    AHEAD, Action, FETCHES_MAX, Fetch, FetchId, How, NEAR, Now, ReadError, Reader, ReaderId, Relay,
    SPAN_FIRST, SourceId, Transfer,
};
use crate::source::FetchRange;

/// The first byte that somebody misses.
pub(super) struct Demand {
    at: u64,
    /// Nothing is wanted for it from here on.
    end: u64,
    /// The reader that misses it; none for the fill.
    reader: Option<ReaderId>,
    /// Near enough to be fetched now. If not, it only keeps a running fetch alive.
    now: bool,
}

impl Demand {
    /// The fill's, for these bytes.
    pub(super) fn of_fill(bytes: Range<u64>) -> Self {
        Self {
            at: bytes.start,
            end: bytes.end,
            reader: None,
            now: true,
        }
    }
}

impl Transfer {
    /// Brings fetches in line with demands. Idempotent.
    pub(super) fn plan(&mut self, now: Now) {
        if self.total.is_some() && !self.begun {
            return;
        }
        self.refuse_and_admit();
        self.watch_fill(now);
        if self.readers.is_empty() && !self.fill && !self.is_whole() {
            return self.finish(None);
        }
        self.join_crowd(now);
        self.plan_fetches(now);
        self.plan_headless(now);
        if self.over {
            return;
        }
        self.set_stops();
        self.remind();
        self.prune_sources();
    }

    pub(super) fn plan_fetches(&mut self, now: Now) {
        let mut needed = BTreeSet::new();
        let (mut stuck, mut waits) = (false, false);
        for demand in self.demands() {
            match self.covering(demand.at) {
                Some(fetch) => {
                    needed.insert(fetch);
                }
                None if demand.now && needed.len() < FETCHES_MAX => {
                    match self.start(&demand, now) {
                        Ok(fetch) => {
                            needed.insert(fetch);
                        }
                        Err(Choice::Nobody) => stuck = true,
                        Err(_) => waits = true,
                    }
                }
                None => {}
            }
        }
        let headless = self.is_headless();
        let brings = |f: &Fetch| headless && self.present.first_gap_after(f.at) < f.end;
        let unneeded = |(id, f): &(&FetchId, &Fetch)| !needed.contains(id) && !brings(f);
        let unneeded = self.fetches.iter().filter(unneeded).map(|(&id, _)| id);
        for fetch in unneeded.collect::<Vec<_>>() {
            self.cancel(fetch);
        }
        if self.crowd_fills() {
            // A reader that its own source does not serve waits for what the swarm brings.
            return;
        }
        if stuck && self.fetches.is_empty() {
            let error = self.sources.last_error().map(ReadError::Source);
            return self.finish(Some(error.unwrap_or(ReadError::ShutDown)));
        }
        self.retry_at = self.sources.next_retry(now).filter(|_| waits);
    }

    /// Tells waiting readers what the size means for them.
    fn refuse_and_admit(&mut self) {
        let Some(total) = self.total else { return };
        let public = self.is_public();
        let asked: BTreeSet<SourceId> = self
            .fetches
            .values()
            .filter(|f| !f.head)
            .map(|f| f.source)
            .collect();
        let mut refused = Vec::new();
        for (&id, reader) in self.readers.iter_mut().filter(|(_, r)| !r.admitted) {
            if reader.is_unsatisfiable(total) {
                refused.push(id);
            } else if !asked.contains(&reader.source) {
                reader.admitted = true;
                let how = if self.sources.is_proven(reader.source) {
                    How::Started
                } else if public && reader.here {
                    How::Shared
                } else {
                    How::Joined
                };
                self.actions.push(Action::Admit { reader: id, how });
            }
        }
        for reader in refused {
            self.readers.remove(&reader);
            let error = ReadError::Unsatisfiable { total };
            self.actions.push(Action::Refuse { reader, error });
        }
    }

    /// Starts, keeps and ends the wish for the whole blob.
    fn watch_fill(&mut self, now: Now) {
        let wanted = self.readers.values().any(|r| r.wants_fill(self.total));
        let nothing_stored = self.total.is_none() || self.relay.is_some();
        if wanted {
            self.fill = true;
            self.idle_since = None;
        } else if self.fill {
            let since = *self.idle_since.get_or_insert(now);
            let lingered = now >= since + self.limits.linger;
            if lingered || (self.readers.is_empty() && nothing_stored) {
                self.fill = false;
                self.idle_since = None;
            }
        }
    }

    /// The fill's demand first, then the readers' by age.
    fn demands(&self) -> Vec<Demand> {
        let end = self.total.unwrap_or(u64::MAX);
        if let Some(relay) = self.relay {
            return self.relay_demand(relay).into_iter().collect();
        }
        let at = self.present.first_gap_after(0);
        let swarm_fills = self.crowd_fills();
        let fill = (self.fill && at < end && !swarm_fills).then_some(Demand {
            at,
            end,
            reader: None,
            now: true,
        });
        let of_reader = |(&id, reader): (&ReaderId, &Reader)| {
            if swarm_fills && (self.total.is_none() || reader.wants_fill(self.total)) {
                return None;
            }
            let (from, missing) = self.missing_of(reader)?;
            Some(Demand {
                at: missing.start,
                end: missing.end,
                reader: Some(id),
                now: missing.start - from <= AHEAD,
            })
        };
        let readers = self.readers.iter().filter_map(of_reader);
        fill.into_iter().chain(readers).collect()
    }

    /// Bytes that pass through memory come in order, once, for all.
    fn relay_demand(&self, relay: Relay) -> Option<Demand> {
        let at = self.present.first_gap_after(relay.from);
        let ends = self.readers.values().map(|r| r.span(self.total).end);
        let whole = self.fill && relay.whole;
        let end = if whole { self.total } else { ends.max() }?;
        (at < end).then_some(Demand {
            at,
            end,
            reader: None,
            now: true,
        })
    }

    /// Where the reader is, and what it misses next.
    fn missing_of(&self, reader: &Reader) -> Option<(u64, Range<u64>)> {
        let span = reader.span(self.total);
        let from = reader.at.max(span.start);
        let at = self.present.first_gap_after(from);
        (at < span.end).then_some((from, at..span.end))
    }

    /// The running fetch that will bring `at` soon. A fetch that has run into a longer run of bytes
    /// that are there covers nothing beyond it, and so ends; a shorter run is read through.
    fn covering(&self, at: u64) -> Option<FetchId> {
        let near = if self.sources.any_ranged() {
            NEAR
        } else {
            u64::MAX
        };
        let covers = |f: &&Fetch| f.at <= at && at < f.end && at - f.at <= near;
        let running = self.fetches.iter().filter(|(_, f)| covers(f));
        running
            .max_by_key(|(id, f)| (f.at, f.head, Reverse(*id)))
            .map(|(&id, _)| id)
    }

    pub(super) fn start(&mut self, demand: &Demand, now: Now) -> Result<FetchId, Choice> {
        let reader = demand.reader.and_then(|id| self.readers.get(&id));
        let choice = self.sources.choose(reader.map(|r| r.source), now);
        let Choice::Ask { source, ranged } = choice else {
            return Err(choice);
        };
        let whole = self.total.unwrap_or(u64::MAX);
        let (at, end) = if ranged {
            (demand.at, self.bound_of(demand))
        } else {
            (0, whole)
        };
        let range = match (at, end == whole) {
            (0, true) => FetchRange::All,
            (_, true) => FetchRange::From(at),
            (_, false) => FetchRange::Span(at..end),
        };
        match demand.reader.and_then(|id| self.readers.get_mut(&id)) {
            Some(reader) => reader.spans += 1,
            None => self.fill_spans += 1,
        }
        let fetch = FetchId(self.next_fetch);
        self.next_fetch += 1;
        self.actions.push(Action::Fetch {
            fetch,
            source,
            range: range.clone(),
        });
        let state = Fetch {
            source,
            range,
            at,
            end,
            stop_at: end,
            got: 0,
            head: false,
            paused: false,
            progress_at: now,
        };
        self.fetches.insert(fetch, state);
        Ok(fetch)
    }

    /// How far a new fetch goes: to the next bytes that are there or coming, and no further than a
    /// reader that asked by range will read for sure.
    fn bound_of(&self, demand: &Demand) -> u64 {
        let (spans, patient) = match demand.reader.and_then(|id| self.readers.get(&id)) {
            Some(reader) => (reader.spans, false),
            None => (self.fill_spans, self.fill_is_patient()),
        };
        let span = match patient {
            true => u64::MAX,
            false => SPAN_FIRST.saturating_mul(1 << spans.min(20)),
        };
        let mut end = demand.end.min(demand.at.saturating_add(span));
        if let Some(run) = self.present.iter().find(|run| run.start > demand.at)
            && run.end - run.start > NEAR
        {
            end = end.min(run.start);
        }
        let ahead = self.fetches.values().map(|f| f.at);
        ahead.filter(|&at| at > demand.at).fold(end, u64::min)
    }

    /// Nobody who reads now is likely to leave early, or nobody reads at all.
    fn fill_is_patient(&self) -> bool {
        self.readers.is_empty() || self.readers.values().any(|r| r.patient)
    }

    fn cancel(&mut self, fetch: FetchId) {
        self.fetches.remove(&fetch);
        self.actions.push(Action::Cancel { fetch });
    }

    /// Each fetch is looked at again where it ends, or where it meets bytes or another fetch.
    fn set_stops(&mut self) {
        let places: Vec<u64> = self.fetches.values().map(|f| f.at).collect();
        for fetch in self.fetches.values_mut() {
            let gap = self.present.first_gap_after(fetch.at);
            let run = self.present.iter().map(|run| run.start);
            let ahead = run.chain(places.iter().copied()).chain([gap]);
            let next = ahead.filter(|&at| at > fetch.at).min();
            fetch.stop_at = next.map_or(fetch.end, |next| next.min(fetch.end));
        }
    }

    /// Asks to be told when a reader comes near enough to what it misses.
    fn remind(&mut self) {
        let mut reminders = Vec::new();
        for (&id, reader) in self.readers.iter().filter(|(_, r)| r.admitted) {
            let at = match self.missing_of(reader) {
                Some((from, missing)) if missing.start - from > AHEAD => missing.start - AHEAD,
                _ => u64::MAX,
            };
            if at != reader.remind_at {
                reminders.push((id, at));
            }
        }
        for (id, at) in reminders {
            if let Some(reader) = self.readers.get_mut(&id) {
                reader.remind_at = at;
            }
            self.actions.push(Action::Remind { reader: id, at });
        }
    }

    fn prune_sources(&mut self) {
        let used: BTreeSet<SourceId> = self
            .readers
            .values()
            .map(|r| r.source)
            .chain(self.fetches.values().map(|f| f.source))
            .collect();
        for source in self.sources.prune(&|id| used.contains(&id)) {
            self.actions.push(Action::Forget { source });
        }
    }
}
