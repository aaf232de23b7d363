//! A cap on the bytes per second that bodies bring in, all of them together.
//!
//! Debt instead of tokens: a frame is passed on as soon as it is there, and pays by making whoever
//! read it wait before the next one. So frames of any size fit, and the socket's own flow control
//! slows the sender.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much unused time may be saved up, as bytes of a burst.
const BURST: Duration = Duration::from_millis(100);

pub(crate) struct Bucket {
    bytes_per_second: u64,
    /// When all that was taken is paid for.
    paid_at: Mutex<Option<Instant>>,
}

impl Bucket {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_at: Mutex::new(None),
        }
    }

    /// Takes `bytes`; the instant before which the taker must not take again.
    pub(crate) fn take(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let until = paid_at.map_or(earliest, |at| at.max(earliest)) + cost;
        *paid_at = Some(until);
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_many_frames() {
        let bucket = Bucket::new(1_000_000);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            if let Some(until) = bucket.take(50_000, now) {
                now = until;
            }
        }
        // 5 MB at 1 MB/s, less the burst.
        assert_eq!(now.duration_since(start).as_millis(), 4900);
    }

    #[test]
    fn unused_time_is_not_saved_for_ever() {
        let bucket = Bucket::new(1_000);
        let start = Instant::now();
        assert!(bucket.take(100, start).is_none());
        let later = start + Duration::from_secs(3600);
        assert!(bucket.take(100, later).is_none());
        let until = bucket.take(1000, later).unwrap();
        assert_eq!(until.duration_since(later), Duration::from_secs(1));
    }
}
