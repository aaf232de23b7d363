//! One flight: the task that brings one blob in for all who read it now.
//!
//! The task owns the requests, the partial blob, the hash and the [`Transfer`] that decides; it does
//! what the transfer says and nothing else. Readers see it only through the [`Board`].
//! Invariants: one flight per (scope, digest); bytes reach readers through the store (or the bounded
//! window that stands in for it); whatever ends the task, the board is closed.
//! Deliberately not here: which source is asked for what, and when.

mod board;
mod bytes_way;
mod crowd;
mod lanes;
mod passing;
mod stock;
mod window;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use oci::Digest;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use board::Note;
pub(crate) use board::{Answer, Board, Look};
use lanes::{Lanes, Step};
pub(crate) use stock::Stock;

use crate::engine::{Counters, EngineOptions, FlightScope, Want};
use crate::hashing::{HashPool, Hashing};
use crate::offer::Sharing;
use crate::reader::ReadError;
use crate::source::PieceSource;
use crate::store::{BlobStore, PartialBlob};
use crate::tracker::{Report, Tracker};
use crate::transfer::{Action, Event, FetchId, Limits, Now, SourceId, Transfer};

/// Readers that follow the flight are woken for so many fresh bytes...
const WAKE: u64 = 256 << 10;
/// ... or after this long, whatever is less. The first byte wakes at once.
const FLUSH: Duration = Duration::from_millis(1);
/// Steps taken in a row before other tasks of the runtime get a turn.
const STEPS_MAX: usize = 32;

/// What all flights of an engine use.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) hashes: Arc<HashPool>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) options: EngineOptions,
    pub(crate) tracker: Option<Arc<dyn Tracker>>,
    pub(crate) sharing: Arc<Sharing>,
    pub(crate) ending: CancellationToken,
}

/// Where a flight's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To the store, for everybody.
    Keep,
    /// Past the store, for one reader that cannot be served from a full window.
    PassBy,
}

pub(crate) struct Flight {
    shared: Shared,
    digest: Digest,
    scope: FlightScope,
    purpose: Purpose,
    board: Arc<Board>,
    /// Where a leader is asked whether the blob is public; none: the swarm is not asked.
    repository: Option<Arc<str>>,
    crowd: crowd::Crowd,
    began: Instant,
    transfer: Transfer,
    lanes: Lanes,
    sources: BTreeMap<SourceId, Arc<dyn PieceSource>>,
    partial: Option<Arc<dyn PartialBlob>>,
    /// Bytes do not go to the store any more.
    relaying: bool,
    full_since: Option<Instant>,
    hashing: Option<Hashing>,
    /// Bytes since readers were woken.
    fresh: u64,
    flush_at: Option<Instant>,
    counted_resumes: u64,
    outcome: Option<Outcome>,
}

/// How a flight ends.
enum Outcome {
    Verified,
    Ended(Option<ReadError>),
}

impl Flight {
    pub(crate) fn new(shared: Shared, want: &Want, purpose: Purpose, board: Arc<Board>) -> Self {
        let limits = Limits {
            stall: shared.options.stall,
            head: shared.options.head,
            linger: shared.options.linger,
        };
        let leader = shared.tracker.as_ref().filter(|_| {
            let whole = purpose == Purpose::Keep;
            whole && want.repository.is_some()
        });
        let transfer = match leader {
            Some(tracker) => Transfer::new(limits).in_swarm(tracker.me()),
            None => Transfer::new(limits),
        };
        Self {
            shared,
            digest: want.digest,
            scope: want.scope.clone(),
            purpose,
            board,
            repository: want.repository.clone(),
            crowd: crowd::Crowd::default(),
            began: Instant::now(),
            transfer,
            lanes: Lanes::default(),
            sources: BTreeMap::new(),
            partial: None,
            relaying: false,
            full_since: None,
            hashing: None,
            fresh: 0,
            flush_at: None,
            counted_resumes: 0,
            outcome: None,
        }
    }

    /// Flies until the blob is verified, nobody wants it, or nobody gives it. `landed` is called
    /// before the board closes, so that no new reader finds a flight that is over.
    pub(crate) async fn fly(mut self, landed: impl FnOnce()) {
        let board = self.board.clone();
        let _closes = Closes(board.clone());
        if self.purpose == Purpose::Keep && self.shared.store.open(&self.digest).is_some() {
            // It landed since the readers looked: they look again, and find it held.
            landed();
            return;
        }
        let _counted = InProgress::new(self.shared.counters.clone());
        while self.outcome.is_none() {
            self.turn().await;
        }
        self.lanes.clear();
        let error = match self.outcome.take() {
            Some(Outcome::Verified) => {
                if self.keep().await {
                    self.crowd.say(Report::Complete);
                    self.tell_held();
                }
                None
            }
            Some(Outcome::Ended(error)) => error,
            None => None,
        };
        landed();
        board.close(error);
    }

    /// Tells every supernode, also those that did not lead or come later, of a public blob.
    fn tell_held(&self) {
        if let (Some(tracker), Some(total)) = (&self.shared.tracker, self.transfer.total())
            && self.transfer.is_public()
        {
            tracker.held(&self.digest, total);
        }
    }

    /// Waits for the next thing to happen and sees to it.
    async fn turn(&mut self) {
        let deadline = self.transfer.deadline().map(|at| self.began + at);
        let stuck = self
            .full_since
            .map(|since| since + self.shared.options.stall);
        let timer = [deadline, stuck, self.flush_at].into_iter().flatten().min();
        let ending = self.shared.ending.clone();
        let owner = self.board.owner.clone();
        tokio::select! {
            biased;
            () = ending.cancelled() => {
                self.outcome = Some(Outcome::Ended(Some(ReadError::ShutDown)));
                return;
            }
            () = owner.notified() => self.read_notes().await,
            news = self.crowd.news() => self.take_news(news).await,
            (fetch, step) = poll_fn(|cx| self.lanes.poll_step(cx)) => {
                self.take_step(fetch, step).await;
                self.take_ready_steps().await;
            }
            () = sleep_until(timer.unwrap_or_else(far_off)), if timer.is_some() => {
                self.on_timer().await;
            }
        }
        self.look_after_hash().await;
        self.look_after_room().await;
    }

    /// Goes on with what has come already, without the cost of a turn for each frame.
    async fn take_ready_steps(&mut self) {
        for _ in 1..STEPS_MAX {
            let hash_full = self.hashing.as_ref().is_some_and(Hashing::is_full);
            if self.outcome.is_some() || hash_full || self.relaying {
                return;
            }
            let ready = poll_fn(|cx| Poll::Ready(self.lanes.poll_step(cx))).await;
            let Poll::Ready((fetch, step)) = ready else {
                return;
            };
            self.take_step(fetch, step).await;
        }
        tokio::task::yield_now().await;
    }

    async fn take_step(&mut self, fetch: FetchId, step: Step) {
        match step {
            Step::Head { total, start } if self.crowd.is_piece(fetch) => {
                self.piece_head(fetch, total, start).await;
            }
            Step::Frame { bytes, origin } if self.crowd.is_piece(fetch) => {
                self.take_piece_frame(fetch, bytes, origin).await;
            }
            Step::Failed(error) if self.crowd.is_piece(fetch) => {
                tracing::debug!(digest = %self.digest.short(), %error, "a piece did not come");
                self.piece_broke(fetch, &error).await;
            }
            Step::Head { total, start } => {
                self.decide(Event::Head {
                    fetch,
                    total,
                    start,
                })
                .await;
            }
            Step::Frame { bytes, origin } => self.take_frame(fetch, bytes, origin).await,
            Step::Failed(error) => {
                tracing::debug!(digest = %self.digest.short(), scope = ?self.scope, %error, "fetch failed");
                self.decide(Event::Failed { fetch, error }).await;
            }
        }
    }

    /// Tells the transfer, does what it says, and what follows from that.
    async fn decide(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.transfer.on(event, self.now()) {
                if let Some(next) = self.act(action).await {
                    events.push(next);
                }
            }
        }
        let resumed = self.transfer.resumed();
        let more = resumed - std::mem::replace(&mut self.counted_resumes, resumed);
        self.shared
            .counters
            .resumed
            .fetch_add(more, Ordering::Relaxed);
        self.start_hash();
    }

    async fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Fetch {
                fetch,
                source,
                range,
            } => {
                let source = self.sources.get(&source)?.clone();
                tracing::debug!(digest = %self.digest.short(), source = source.name(), ?range, "fetch");
                self.lanes.add(fetch, source, self.digest, range);
            }
            Action::Join { reading_at } => return self.join(reading_at),
            Action::Leave => self.crowd.leave(),
            Action::Report(report) => self.crowd.say(report),
            Action::FetchPiece { fetch, order } => return self.ask_piece(fetch, order),
            Action::AskPresent { peer } => self.look_at(peer),
            Action::Cancel { fetch } => {
                self.lanes.remove(fetch);
                self.crowd.drop_piece(fetch);
            }
            Action::Begin { total } => return Some(self.begin(total).await),
            Action::Relay { from, whole } => {
                self.relaying = true;
                self.board.begin_relay(from, whole);
            }
            Action::Admit { reader, how } => self.board.answer(reader, Answer::Admitted(how)),
            Action::Refuse { reader, error } => self.board.answer(reader, Answer::Refused(error)),
            Action::Remind { reader, at } => self.board.remind(reader, at),
            Action::Forget { source } => {
                self.sources.remove(&source);
            }
            Action::Finish { error } => {
                self.outcome.get_or_insert(Outcome::Ended(error));
            }
        }
        None
    }

    async fn read_notes(&mut self) {
        for note in self.board.take_notes() {
            let event = match note {
                Note::Joined {
                    reader,
                    source,
                    first,
                    repository,
                } => {
                    let id = SourceId(reader.0);
                    self.sources.insert(id, source);
                    Event::Joined {
                        reader,
                        source: id,
                        first,
                        here: repository.is_some() && repository == self.repository,
                    }
                }
                Note::Reads {
                    reader,
                    brought_by,
                    source,
                    range,
                } => {
                    let id = SourceId(brought_by.0);
                    self.sources.entry(id).or_insert(source);
                    Event::Reads {
                        reader,
                        source: id,
                        range,
                    }
                }
                Note::At { reader, at } => Event::At { reader, at },
                Note::Left(reader) => Event::Left { reader },
            };
            self.decide(event).await;
        }
    }

    async fn on_timer(&mut self) {
        let now = Instant::now();
        if self.flush_at.is_some_and(|at| at <= now) {
            self.wake_readers();
        }
        if self
            .full_since
            .is_some_and(|since| now >= since + self.shared.options.stall)
        {
            self.full_since = Some(now);
            self.board.eject_slowest();
        }
        if self.transfer.deadline().is_some_and(|at| at <= self.now()) {
            self.decide(Event::Tick).await;
        }
    }

    fn start_hash(&mut self) {
        let Some(total) = self.transfer.total() else {
            return;
        };
        let ready = self.partial.is_some() || self.relaying;
        if self.hashing.is_some() || !ready || !self.transfer.wants_digest() {
            return;
        }
        let owner = self.board.owner.clone();
        let pool = &self.shared.hashes;
        let hashing = pool.start(&self.digest, total, self.partial.clone(), owner);
        hashing.advance(self.transfer.first_gap_after(0));
        self.hashing = Some(hashing);
    }

    async fn look_after_hash(&mut self) {
        if self.outcome.is_some() {
            return;
        }
        self.outcome = match self.hashing.as_ref().and_then(Hashing::outcome) {
            None => return,
            Some(Ok(digest)) if digest == self.digest => Some(Outcome::Verified),
            Some(Ok(_)) => {
                self.drop_wrong_bytes();
                Some(Outcome::Ended(Some(ReadError::WrongDigest)))
            }
            Some(Err(why)) => Some(Outcome::Ended(Some(ReadError::Storage(why)))),
        };
    }

    /// Holds fetches back while the hash or the window cannot take more.
    async fn look_after_room(&mut self) {
        let hash_full = self.hashing.as_ref().is_some_and(Hashing::is_full);
        let window_full = self.relaying && !self.board.relay_has_room();
        if window_full {
            self.full_since.get_or_insert_with(Instant::now);
        } else {
            self.full_since = None;
        }
        let next = self.transfer.first_gap_after(0);
        let streams = self.lanes.ids().filter(|id| !self.crowd.is_piece(*id));
        for fetch in streams.collect::<Vec<FetchId>>() {
            let feeds_hash =
                self.relaying || self.transfer.place(fetch).is_some_and(|p| p.start == next);
            let paused = window_full || (hash_full && feeds_hash);
            if self.lanes.pause(fetch, paused) {
                self.decide(Event::Paused { fetch, paused }).await;
            }
        }
    }

    fn now(&self) -> Now {
        self.began.elapsed()
    }
}

/// A timer that is never waited for.
fn far_off() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Closes the board however the flight's task ends.
struct Closes(Arc<Board>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0
            .close(Some(ReadError::Storage("the flight broke off".to_owned())));
    }
}

/// Counts a flight while it lives.
struct InProgress(Arc<Counters>);

impl InProgress {
    fn new(counters: Arc<Counters>) -> Self {
        counters.flights_started.fetch_add(1, Ordering::Relaxed);
        counters.flights_in_progress.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let count: &AtomicU64 = &self.0.flights_in_progress;
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
