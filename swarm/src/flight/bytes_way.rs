//! The way of the bytes through a flight: from a fetch into the store, to the hash, to the readers.
//!
//! Invariant: what readers and hash get is what the store has; bytes that were there before are read
//! from it, never taken from the wire a second time.

use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use super::{FLUSH, Flight, Purpose, WAKE};
use crate::reader::WITHHELD_TAIL;
use crate::source::Origin;
use crate::store::StoreError;
use crate::transfer::{Event, FetchId};

impl Flight {
    /// Takes the blob up in the store; what the store cannot take passes through memory.
    pub(super) async fn begin(&mut self, total: u64) -> Event {
        if self.purpose == Purpose::PassBy {
            self.board.begin(total, None);
            return Event::NoRoom { fetch: None };
        }
        let (store, digest, tag) = (self.shared.store.clone(), self.digest, self.scope.tag());
        let begun = tokio::task::spawn_blocking(move || store.begin(&digest, tag, total)).await;
        match begun.unwrap_or_else(|error| Err(std::io::Error::other(error).into())) {
            Ok(partial) => {
                let present = partial.present();
                self.partial = Some(partial.clone());
                self.board.begin(total, Some(partial));
                Event::Begun { present }
            }
            Err(error) => {
                self.say_relay(&error);
                self.board.begin(total, None);
                Event::NoRoom { fetch: None }
            }
        }
    }

    pub(super) fn say_relay(&self, error: &StoreError) {
        self.shared
            .counters
            .passed_through
            .fetch_add(1, Ordering::Relaxed);
        tracing::warn!(digest = %self.digest.short(), scope = ?self.scope, %error,
            "cannot store this blob, passing it through");
    }

    pub(super) fn count(&self, origin: Origin, len: u64) {
        self.shared.counters.fetched(origin, len);
        self.board.count(origin, len);
    }

    pub(super) async fn take_frame(&mut self, fetch: FetchId, bytes: Bytes, origin: Origin) {
        let len = bytes.len() as u64;
        self.count(origin, len);
        let Some(place) = self.transfer.place(fetch) else {
            return;
        };
        let kept = usize::try_from(place.end - place.start)
            .map_or(bytes.len(), |room| room.min(bytes.len()));
        let bytes = bytes.slice(..kept);
        let at = place.start..place.start + kept as u64;
        if self.has_stored(fetch, at.start, &bytes).await {
            self.hand_on(at, &bytes);
            self.decide(Event::Bytes { fetch, len }).await;
            self.fresh += kept as u64;
            if self.fresh >= WAKE || self.board.is_hungry() {
                self.wake_readers();
            } else if self.flush_at.is_none() {
                self.flush_at = Some(Instant::now() + FLUSH);
            }
        }
        if let Some(hashing) = &self.hashing {
            hashing.advance(self.transfer.first_gap_after(0));
        }
    }

    /// Puts bytes where readers find them. False if they have no place any more.
    async fn has_stored(&mut self, fetch: FetchId, offset: u64, bytes: &Bytes) -> bool {
        if let Some(partial) = self.partial.as_ref().filter(|_| !self.relaying) {
            match partial.write_at(offset, bytes) {
                Ok(()) => return true,
                Err(error) => self.say_relay(&error),
            }
            let fetch = Some(fetch);
            self.decide(Event::NoRoom { fetch }).await;
        }
        self.relaying && self.transfer.place(fetch).is_some()
    }

    /// Gives bytes that have just come for the first time to the hash, and to the window when the
    /// store does not take them.
    pub(super) fn hand_on(&self, at: Range<u64>, bytes: &Bytes) {
        let gaps = self.transfer.gaps(at.clone());
        if !self.relaying && gaps != [at.clone()] {
            return;
        }
        for gap in gaps {
            let part = (gap.start - at.start) as usize..(gap.end - at.start) as usize;
            let part = bytes.slice(part);
            if self.relaying {
                self.board.relay(gap.start, part.clone());
            }
            if let Some(hashing) = &self.hashing {
                hashing.offer(gap.start, part, self.relaying);
            }
        }
    }

    pub(super) fn wake_readers(&mut self) {
        self.fresh = 0;
        self.flush_at = None;
        let total = self.transfer.total().unwrap_or(0);
        let limit = total.saturating_sub(WITHHELD_TAIL);
        let transfer = &self.transfer;
        self.board
            .wake(&|at| at < limit && transfer.first_gap_after(at) > at);
    }

    /// The digest fits: lets the readers go on to the end, and has the store keep the blob. True if
    /// it is held now.
    pub(super) async fn keep(&mut self) -> bool {
        self.board.verify(None);
        let Some(partial) = self.partial.take().filter(|_| !self.relaying) else {
            return false;
        };
        let published = tokio::task::spawn_blocking(move || partial.publish()).await;
        match published.unwrap_or_else(|error| Err(std::io::Error::other(error).into())) {
            Ok(held) => {
                self.board.verify(Some(held));
                true
            }
            Err(error) => {
                tracing::error!(digest = %self.digest.short(), %error, "cannot keep a verified blob");
                false
            }
        }
    }

    pub(super) fn drop_wrong_bytes(&self) {
        self.shared
            .counters
            .wrong_digests
            .fetch_add(1, Ordering::Relaxed);
        let sources: Vec<_> = self.sources.values().map(|s| s.name().to_owned()).collect();
        tracing::error!(digest = %self.digest, scope = ?self.scope, ?sources,
            "bytes do not have their digest, dropped");
        for source in self.sources.values() {
            source.doubt(&self.digest);
        }
        if let Some(partial) = &self.partial {
            partial.discard();
        }
    }
}
