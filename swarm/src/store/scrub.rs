//! Hashing held blobs again, slowly, to find what the disk has lost.
//!
//! A rotten file goes to `quarantine/` and is forgotten, so the next reader has it fetched again.
//! Invariants: a scrub neither marks use nor keeps a blob from eviction, and leaves the page cache
//! as it found it.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use oci::{Digest, Hasher};
use rustix::fs::{Advice, fadvise};

use super::BlobFile;
use super::shelf::Shelf;

/// One read; also the grain of throttling and of the stop.
const WINDOW_BYTES: u64 = 1 << 20;

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
        let Ok(file) = File::open(shelf.layout.held(&digest)) else {
            continue; // evicted, or not yet synced
        };
        match check(&digest, file, &mut go_on) {
            Ok(Verdict::Stopped) => break,
            Ok(Verdict::Sound) => report.checked_blobs += 1,
            Ok(Verdict::Rotten { inode }) => {
                if set_aside(shelf, &digest, inode) {
                    report.rotten.push(digest);
                }
            }
            Err(error) => tracing::error!(%digest, %error, "a held blob cannot be read"),
        }
    }
    report
}

enum Verdict {
    Sound,
    Rotten { inode: u64 },
    Stopped,
}

fn check(digest: &Digest, file: File, go_on: &mut impl FnMut(u64) -> bool) -> io::Result<Verdict> {
    let inode = file.metadata()?.ino();
    let file = BlobFile::new(file)?;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; WINDOW_BYTES as usize];
    let mut offset = 0;
    while offset < file.len() {
        let end = file.len().min(offset + WINDOW_BYTES);
        let window = &mut buffer[..(end - offset) as usize];
        let was_resident = file.resident(offset..end);
        // A sector that cannot be read is rot too.
        if file.read_at(offset, window).is_err() {
            return Ok(Verdict::Rotten { inode });
        }
        if !was_resident {
            let _ = fadvise(
                file.fd(),
                offset,
                NonZero::new(end - offset),
                Advice::DontNeed,
            );
        }
        hasher.update(window);
        if !go_on(end - offset) {
            return Ok(Verdict::Stopped);
        }
        offset = end;
    }
    Ok(match hasher.finish() == *digest {
        true => Verdict::Sound,
        false => Verdict::Rotten { inode },
    })
}

/// Puts the file aside if it is still the one that was read.
fn set_aside(shelf: &Shelf, digest: &Digest, inode: u64) -> bool {
    let mut state = shelf.state();
    let same = std::fs::metadata(shelf.layout.held(digest)).is_ok_and(|now| now.ino() == inode);
    let held = state.index.held(digest);
    let rotten = same && held.is_some_and(|entry| !entry.content.is_unsynced());
    if rotten {
        shelf.set_aside(&mut state, digest, "content does not have its digest");
    }
    rotten
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
