//! Hashing held blobs again, slowly, to find what the disk has lost.
//!
//! A rotten file goes to `quarantine/` and is forgotten, so the next reader has it fetched again.
//! Invariants: a scrub neither marks use nor keeps a blob from eviction, and leaves the page cache
//! as it found it.

use std::fs::File;
use std::num::NonZero;
use std::time::{Duration, Instant};

use oci::Digest;

use super::BlobFile;
use super::examine::{Cache, Examined, examine};
use super::shelf::Shelf;

/// The first pass must come before the nightly restart of a node that has one.
const FIRST_AFTER: Duration = Duration::from_secs(60 * 60);

/// How fast and how often to scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPace {
    /// Bytes read per second, on average over a pass.
    pub bytes_per_second: NonZero<u64>,
    /// Pause between passes; before the first one at most an hour.
    pub every: Duration,
}

impl Default for ScrubPace {
    /// 16 MiB/s (1 % of a core for sha256) and a day.
    fn default() -> Self {
        Self {
            bytes_per_second: NonZero::new(16 << 20).expect("not zero"),
            every: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl ScrubPace {
    /// How long to wait so that `read_bytes` since `elapsed` ago is not too fast.
    fn pause(&self, read_bytes: u64, elapsed: Duration) -> Duration {
        let due = read_bytes as f64 / self.bytes_per_second.get() as f64;
        Duration::try_from_secs_f64(due)
            .unwrap_or(Duration::MAX)
            .saturating_sub(elapsed)
    }
}

/// What one pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Blobs hashed to their end.
    pub checked_blobs: u64,
    /// Bytes read.
    pub checked_bytes: u64,
    /// Blobs put aside.
    pub rotten: Vec<Digest>,
}

/// The thread's body: passes until the stop.
pub(super) fn run(shelf: &Shelf, pace: Option<ScrubPace>) {
    let Some(pace) = pace else {
        return;
    };
    let mut wait = pace.every.min(FIRST_AFTER);
    while !shelf.keeper.stopped_within(wait) {
        wait = pace.every;
        let report = pass(shelf, Some(pace));
        let (blobs, bytes) = (report.checked_blobs, report.checked_bytes);
        let rotten = report.rotten.len();
        tracing::info!(blobs, bytes, rotten, "scrub pass ended");
    }
}

/// Hashes all blobs that are held now; without a pace, as fast as it can.
pub(super) fn pass(shelf: &Shelf, pace: Option<ScrubPace>) -> ScrubReport {
    let mut digests: Vec<Digest> = shelf.state().index.digests().copied().collect();
    digests.sort();
    let mut report = ScrubReport::default();
    let began = Instant::now();
    for digest in digests {
        let mut go_on = |bytes| {
            report.checked_bytes += bytes;
            let pause = pace.map(|pace| pace.pause(report.checked_bytes, began.elapsed()));
            !shelf.keeper.stopped_within(pause.unwrap_or_default())
        };
        let Some(trust) = shelf.trust(&digest) else {
            continue; // evicted
        };
        let Ok(file) = File::open(shelf.layout.held(&digest)) else {
            continue; // evicted, or not yet synced
        };
        let file = match BlobFile::new(file) {
            Ok(file) => file,
            Err(error) => {
                tracing::error!(%digest, %error, "a held blob cannot be read");
                continue;
            }
        };
        match examine(&digest, &file, &trust, Cache::Leave, &mut go_on) {
            Examined::Sound => report.checked_blobs += 1,
            Examined::Rotten => {
                if shelf.put_aside(&digest, &file) {
                    report.rotten.push(digest);
                }
            }
            Examined::Undecided if shelf.keeper.stopped_within(Duration::ZERO) => break,
            Examined::Undecided => {}
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_makes_up_for_what_was_too_fast() {
        let pace = ScrubPace {
            bytes_per_second: NonZero::new(1_000).unwrap(),
            every: Duration::ZERO,
        };
        let second = Duration::from_secs(1);
        assert_eq!(pace.pause(3_000, second), 2 * second);
        assert_eq!(pace.pause(3_000, 4 * second), Duration::ZERO);
        assert_eq!(pace.pause(0, Duration::ZERO), Duration::ZERO);
    }
}
