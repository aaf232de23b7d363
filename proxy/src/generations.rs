//! When a place was last written to through this node, so that nothing believed before counts after.
//!
//! What is believed of a place for a short while (what its tags mean, that something is not there,
//! a question that is being asked) is kept under the place's generation; a write begins the next
//! one, and the reader after it finds nothing. Places share a bounded number of counters: two that
//! share one only make each other ask once more.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::place::Place;

/// Counters; 16 bytes each.
const SLOTS: usize = 1024;

/// A state of a place between two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Generation(u64);

/// The generations of all places.
pub(crate) struct Generations {
    slots: Box<[Slot]>,
    hasher: RandomState,
    start: Instant,
}

#[derive(Default)]
struct Slot {
    count: AtomicU64,
    /// Milliseconds since the start.
    written: AtomicU64,
}

impl Default for Generations {
    fn default() -> Self {
        Self {
            slots: std::iter::repeat_with(Slot::default).take(SLOTS).collect(),
            hasher: RandomState::new(),
            start: Instant::now(),
        }
    }
}

impl Generations {
    /// The one that a place is in.
    pub(crate) fn of(&self, place: &Place) -> Generation {
        Generation(self.slot(place).count.load(Ordering::SeqCst))
    }

    /// The place was written to.
    pub(crate) fn advance(&self, place: &Place) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let slot = self.slot(place);
        slot.written.store(now, Ordering::SeqCst);
        slot.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the place was written to within this time: others may still believe what was before.
    pub(crate) fn is_fresh(&self, place: &Place, within: Duration) -> bool {
        let slot = self.slot(place);
        let written = Duration::from_millis(slot.written.load(Ordering::SeqCst));
        slot.count.load(Ordering::SeqCst) > 0
            && self.start.elapsed().saturating_sub(written) <= within
    }

    fn slot(&self, place: &Place) -> &Slot {
        let hash = self.hasher.hash_one(place);
        &self.slots[(hash % SLOTS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_begins_a_generation() {
        let generations = Generations::default();
        let place = Place {
            registry: "quay.io".parse().unwrap(),
            repository: "org/app".parse().unwrap(),
        };
        let before = generations.of(&place);
        assert!(!generations.is_fresh(&place, Duration::MAX));
        assert_eq!(generations.of(&place), before);
        generations.advance(&place);
        assert_ne!(generations.of(&place), before);
        assert!(generations.is_fresh(&place, Duration::MAX));
    }
}
