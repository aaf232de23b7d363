//! A flight's stored bytes and their origins, for those who are not its readers: other nodes, people.
//!
//! Invariant: looking changes nothing; only the flight's own decisions bring bytes in.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::futures::Notified;

use super::board::Board;
use crate::source::Origin;
use crate::store::{ByteSet, HeldBlob, PartialBlob, Slice};

/// What the store has at an offset.
pub(crate) enum Stock {
    /// Bytes up to here.
    Here(u64),
    /// Nothing yet.
    Awaited,
    /// Nothing, and nothing more will come.
    Over,
}

impl Board {
    pub(super) fn count(&self, origin: Origin, len: u64) {
        self.came[origin as usize].fetch_add(len, Ordering::Relaxed);
    }

    /// Body bytes received so far, in the order of [`Origin::ALL`].
    pub(crate) fn came(&self) -> [u64; Origin::ALL.len()] {
        Origin::ALL.map(|origin| self.came[origin as usize].load(Ordering::Relaxed))
    }

    /// The blob's size, when it is known and bytes are stored.
    pub(crate) fn stocked_total(&self) -> Option<u64> {
        let state = self.lock();
        state
            .total
            .filter(|_| state.partial.is_some() || state.held.is_some())
    }

    /// All that is stored.
    pub(crate) fn stocked(&self) -> ByteSet {
        match self.stores() {
            (_, Some(held)) => ByteSet::of(0..held.total()),
            (Some(partial), None) => partial.present(),
            (None, None) => ByteSet::new(),
        }
    }

    fn stores(&self) -> (Option<Arc<dyn PartialBlob>>, Option<HeldBlob>) {
        let state = self.lock();
        (state.partial.clone(), state.held.clone())
    }

    /// What is stored at the beginning of `range`, as far as its end.
    pub(crate) fn stock(&self, range: Range<u64>) -> Stock {
        let closed = self.lock().closed;
        let here = match self.stores() {
            (_, Some(held)) => range.end.min(held.total()),
            (Some(partial), None) => partial.first_gap_after(range.start).min(range.end),
            (None, None) => range.start,
        };
        match (here > range.start, closed) {
            (true, _) => Stock::Here(here),
            (false, true) => Stock::Over,
            (false, false) => Stock::Awaited,
        }
    }

    /// Stored bytes.
    pub(crate) fn stocked_slice(&self, range: Range<u64>) -> Option<Slice> {
        match self.stores() {
            (_, Some(held)) => held.slice(range),
            (Some(partial), None) => partial.slice(range),
            (None, None) => None,
        }
    }

    /// Resolves when more bytes have come, or none will; counts from this call on.
    pub(crate) fn arrival(&self) -> Notified<'_> {
        // A Notified is told by notify_waiters from its making on.
        self.arrived.notified()
    }
}
