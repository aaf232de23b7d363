//! What a flight and its readers tell each other: one short mutex, no channel.
//!
//! The flight's task writes what there is to read; readers write where they are and take slices.
//! Invariants: the lock is never held across an await, nor together with another; a reader that
//! waits has left its waker; after [`Board::close`] nobody waits.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::window::Window;
use crate::engine::Want;
use crate::reader::{How, ReadError, SLICE_MAX, WITHHELD_TAIL};
use crate::source::{FetchRange, Origin, PieceSource};
use crate::store::{HeldBlob, PartialBlob, Slice};
use crate::transfer::ReaderId;

/// Beyond the window's end by less than this a reader waits for the window.
const WINDOW_NEAR: u64 = 4 << 20;
/// Where a place is that reads nothing at present.
pub(super) const NOWHERE: u64 = u64::MAX;

pub(crate) struct Board {
    state: Mutex<State>,
    /// A reader waits that has not had a byte yet: it is woken for the first one.
    hungry: AtomicBool,
    /// Tells the flight's task to look at the notes, the window and the hash.
    pub(super) owner: Arc<Notify>,
    /// Tells those who wait for stored bytes without being readers.
    pub(super) arrived: Notify,
    /// Body bytes received, by origin.
    pub(super) came: [AtomicU64; Origin::ALL.len()],
}

#[derive(Default)]
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) total: Option<u64>,
    pub(super) partial: Option<Arc<dyn PartialBlob>>,
    /// From here on bytes pass through memory.
    pub(super) relay: Option<Relay>,
    verified: bool,
    pub(super) held: Option<HeldBlob>,
    error: Option<ReadError>,
    pub(super) seats: BTreeMap<ReaderId, Seat>,
    next_seat: u64,
    notes: Vec<Note>,
}

pub(super) struct Relay {
    pub(super) window: Window,
    /// The next byte to come.
    pub(super) next: u64,
    /// The digest will be known.
    pub(super) whole: bool,
    pub(super) full: bool,
}

pub(super) struct Seat {
    answer: Answer,
    pub(super) at: u64,
    remind_at: u64,
    fed: bool,
    pub(super) ejected: bool,
    waker: Option<Waker>,
}

/// What a read is told.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Waiting,
    Admitted(How),
    Refused(ReadError),
    /// The flight ended without an answer to this reader: it looks again.
    Gone,
}

/// What readers tell the flight; at most a few for each reader.
pub(super) enum Note {
    Joined {
        reader: ReaderId,
        source: Arc<dyn PieceSource>,
        first: FetchRange,
        repository: Option<Arc<str>>,
    },
    /// What an admitted reader, or another place of it, reads.
    Reads {
        reader: ReaderId,
        brought_by: ReaderId,
        source: Arc<dyn PieceSource>,
        range: Range<u64>,
    },
    At {
        reader: ReaderId,
        at: u64,
    },
    Left(ReaderId),
}

/// What a reader finds at its offset.
pub(crate) enum Look {
    Slice(Slice),
    /// Not here, and not coming by here: fetch it apart.
    Apart,
    Error(ReadError),
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

impl Board {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            hungry: AtomicBool::new(false),
            owner: Arc::new(Notify::new()),
            arrived: Notify::new(),
            came: Default::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; `None` when the flight is over.
    pub(crate) fn join(&self, want: &Want) -> Option<ReaderId> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let reader = state.sit(Answer::Waiting, 0);
        let joined = Note::Joined {
            reader,
            source: want.source.clone(),
            first: want.first.clone(),
            repository: want.repository.clone(),
        };
        self.tell(state, joined);
        Some(reader)
    }

    /// Waits for the answer to a [`Board::join`].
    pub(crate) fn poll_answer(&self, reader: ReaderId, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.lock();
        let Some(seat) = state.seats.get_mut(&reader) else {
            return Poll::Ready(Answer::Gone);
        };
        match &seat.answer {
            Answer::Waiting => {
                seat.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            answer => Poll::Ready(answer.clone()),
        }
    }

    /// The blob's size; known to every admitted reader.
    pub(crate) fn total(&self) -> u64 {
        self.lock().total.unwrap_or(0)
    }

    /// Another place for a reader that has been admitted.
    pub(crate) fn sit(&self) -> ReaderId {
        self.lock().sit(Answer::Admitted(How::Joined), NOWHERE)
    }

    /// The place `reader`, of the read that took the place `brought_by`, reads `range`; an empty one
    /// only keeps the flight in the air.
    pub(crate) fn reads(
        &self,
        reader: ReaderId,
        brought_by: ReaderId,
        source: Arc<dyn PieceSource>,
        range: Range<u64>,
    ) {
        let mut state = self.lock();
        if let Some(seat) = state.seats.get_mut(&reader) {
            seat.at = if range.is_empty() {
                NOWHERE
            } else {
                range.start
            };
        }
        let reads = Note::Reads {
            reader,
            brought_by,
            source,
            range,
        };
        self.tell(state, reads);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>, note: Note) {
        if state.closed {
            return;
        }
        state.notes.push(note);
        drop(state);
        self.owner.notify_one();
    }

    /// Gives a place up.
    pub(crate) fn leave(&self, reader: ReaderId) {
        let mut state = self.lock();
        state.seats.remove(&reader);
        self.tell(state, Note::Left(reader));
    }

    /// What there is for a reader at `range.start`, at most up to `range.end`.
    pub(crate) fn poll_look(
        &self,
        reader: ReaderId,
        range: Range<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Look> {
        let (looked, partial, limit) = {
            let mut state = self.lock();
            let looked = state.look(reader, &range, cx);
            if state.must_tell(reader, range.start) {
                self.owner.notify_one();
            }
            (looked, state.partial.clone(), state.limit())
        };
        // The waker is in place: what comes after this look wakes the reader.
        let end = range.end.min(limit).min(range.start + SLICE_MAX);
        if range.start < end
            && !matches!(looked, Seen::Found(Look::Slice(_)) | Seen::Stop(_))
            && let Some(partial) = partial
        {
            let end = partial.first_gap_after(range.start).min(end);
            if range.start < end {
                let missing =
                    || Look::Error(ReadError::Storage("stored bytes are gone".to_owned()));
                let look = partial
                    .slice(range.start..end)
                    .map_or_else(missing, Look::Slice);
                return Poll::Ready(look);
            }
        }
        match looked {
            Seen::Found(look) | Seen::Stop(look) => Poll::Ready(look),
            Seen::Nothing { unfed } => {
                if unfed {
                    self.hungry.store(true, Ordering::Release);
                }
                Poll::Pending
            }
        }
    }

    /// Notes since the last call.
    pub(super) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock().notes)
    }

    pub(super) fn answer(&self, reader: ReaderId, answer: Answer) {
        let mut state = self.lock();
        if let Some(seat) = state.seats.get_mut(&reader) {
            seat.answer = answer;
            if let Some(waker) = seat.waker.take() {
                drop(state);
                waker.wake();
            }
        }
    }

    pub(super) fn remind(&self, reader: ReaderId, at: u64) {
        if let Some(seat) = self.lock().seats.get_mut(&reader) {
            seat.remind_at = at;
        }
    }

    /// The size is known, and this is where stored bytes are.
    pub(super) fn begin(&self, total: u64, partial: Option<Arc<dyn PartialBlob>>) {
        let mut state = self.lock();
        state.total = Some(total);
        state.partial = partial;
    }

    /// Whether a waiting reader has not had a byte yet.
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Acquire)
    }

    /// Wakes the waiting readers that `has_bytes` at their offset.
    pub(super) fn wake(&self, has_bytes: &dyn Fn(u64) -> bool) {
        let mut wakers = Vec::new();
        let mut hungry = false;
        let mut state = self.lock();
        self.hungry.store(false, Ordering::Release);
        for seat in state.seats.values_mut() {
            if seat.waker.is_some() && has_bytes(seat.at) {
                wakers.extend(seat.waker.take());
                seat.fed = true;
            } else {
                hungry |= seat.waker.is_some() && !seat.fed;
            }
        }
        if hungry {
            self.hungry.store(true, Ordering::Release);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.arrived.notify_waiters();
    }

    /// The digest fits: everything may be read.
    pub(super) fn verify(&self, held: Option<HeldBlob>) {
        let mut state = self.lock();
        state.verified = true;
        state.held = held;
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.arrived.notify_waiters();
    }

    /// Nothing more will come. Reads without an answer look for another flight, unless all end.
    pub(super) fn close(&self, error: Option<ReadError>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.closed = true;
        state.notes.clear();
        let ending = matches!(error, Some(ReadError::ShutDown));
        for seat in state.seats.values_mut() {
            if matches!(seat.answer, Answer::Waiting) {
                seat.answer = match ending {
                    true => Answer::Refused(ReadError::ShutDown),
                    false => Answer::Gone,
                };
            }
        }
        if !state.verified {
            state.error = error.or(Some(ReadError::ShutDown));
        }
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.arrived.notify_waiters();
    }
}

/// What [`State::look`] saw without the store.
enum Seen {
    Found(Look),
    /// Final, also if the store has bytes.
    Stop(Look),
    Nothing {
        unfed: bool,
    },
}

impl State {
    fn sit(&mut self, answer: Answer, at: u64) -> ReaderId {
        let reader = ReaderId(self.next_seat);
        self.next_seat += 1;
        let seat = Seat {
            answer,
            at,
            remind_at: u64::MAX,
            fed: false,
            ejected: false,
            waker: None,
        };
        self.seats.insert(reader, seat);
        reader
    }

    /// The end of what may be given away now.
    fn limit(&self) -> u64 {
        let total = self.total.unwrap_or(0);
        match self.verified {
            true => total,
            false => total.saturating_sub(WITHHELD_TAIL),
        }
    }

    fn look(&mut self, reader: ReaderId, range: &Range<u64>, cx: &mut Context<'_>) -> Seen {
        let at = range.start;
        let final_error = matches!(
            self.error,
            Some(ReadError::WrongDigest | ReadError::ShutDown | ReadError::Storage(_))
        );
        if let Some(error) = self.error.clone().filter(|_| final_error) {
            return Seen::Stop(Look::Error(error));
        }
        let end = range.end.min(self.limit()).min(at + SLICE_MAX);
        if let Some(held) = &self.held
            && let Some(slice) = held.slice(at..end)
        {
            return Seen::Found(Look::Slice(slice));
        }
        let alone = self.seats.values().filter(|s| s.at != NOWHERE).count() <= 1;
        let Some(seat) = self.seats.get_mut(&reader) else {
            return Seen::Stop(Look::Error(ReadError::ShutDown));
        };
        seat.at = at;
        if seat.ejected {
            let why = "reader too slow for the memory that stands in for storage";
            return Seen::Stop(Look::Error(ReadError::Storage(why.to_owned())));
        }
        if at < end
            && let Some(relay) = &self.relay
        {
            if let Some(bytes) = relay.window.get(at) {
                let len = usize::try_from(end - at).unwrap_or(usize::MAX);
                let bytes = bytes.slice(..bytes.len().min(len));
                seat.fed = true;
                return Seen::Found(Look::Slice(Slice::from_memory(bytes)));
            }
            let passed = at < relay.next && relay.window.start().is_none_or(|start| start > at);
            let coming = at <= relay.next + WINDOW_NEAR || (alone && relay.whole);
            let to_the_end = range.end > self.total.unwrap_or(0).saturating_sub(WITHHELD_TAIL);
            if passed || !coming || (to_the_end && !relay.whole) {
                return Seen::Found(Look::Apart);
            }
        }
        if let Some(error) = self.error.clone() {
            return Seen::Found(Look::Error(error));
        }
        seat.waker = Some(cx.waker().clone());
        Seen::Nothing { unfed: !seat.fed }
    }

    /// Whether the flight must hear that a reader is at `at`.
    fn must_tell(&mut self, reader: ReaderId, at: u64) -> bool {
        let full = self.relay.as_ref().is_some_and(|relay| relay.full);
        let Some(seat) = self.seats.get_mut(&reader) else {
            return false;
        };
        if at < seat.remind_at || self.closed {
            return full;
        }
        seat.remind_at = u64::MAX;
        self.notes.push(Note::At { reader, at });
        true
    }

    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        let seats = self.seats.values_mut();
        seats.filter_map(|seat| seat.waker.take()).collect()
    }
}
