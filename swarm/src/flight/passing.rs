//! The board of a flight whose bytes pass through memory: the window, and who holds it up.
//!
//! Invariant: what a reader of the window still needs stays, unless that reader is ejected.

use std::task::Waker;

use bytes::Bytes;

use super::board::{Board, NOWHERE, Relay, Seat};
use super::window::Window;

impl Board {
    /// From `from` on bytes pass through memory.
    pub(super) fn begin_relay(&self, from: u64, whole: bool) {
        self.lock().relay.get_or_insert_with(|| Relay {
            window: Window::default(),
            next: from,
            whole,
            full: false,
        });
    }

    /// Takes in bytes that pass through memory.
    pub(super) fn relay(&self, offset: u64, bytes: Bytes) {
        if let Some(relay) = &mut self.lock().relay {
            relay.next = offset + bytes.len() as u64;
            relay.window.put(offset, bytes);
        }
    }

    /// False while the window is full of bytes that a reader still needs.
    pub(super) fn relay_has_room(&self) -> bool {
        let mut state = self.lock();
        let slowest = state
            .seats
            .values()
            .filter(|s| !s.ejected)
            .map(|s| s.at)
            .min();
        let Some(relay) = &mut state.relay else {
            return true;
        };
        relay.full = !relay.window.make_room(slowest.unwrap_or(u64::MAX));
        !relay.full
    }

    /// Ends the readers that hold up all others of a full window; a lone reader may take its time.
    pub(super) fn eject_slowest(&self) {
        let mut state = self.lock();
        let reading = |seat: &&Seat| !seat.ejected && seat.at != NOWHERE;
        let places = || state.seats.values().filter(reading).map(|seat| seat.at);
        let Some(slowest) = places().min() else {
            return;
        };
        if places().count() < 2 {
            return;
        }
        let slow = state.seats.values_mut().filter(|s| s.at == slowest);
        slow.for_each(|seat| seat.ejected = true);
        let wakers = state.take_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}
