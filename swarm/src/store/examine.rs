//! Hashing a held blob's file once more, from its first byte to its last.
//!
//! Invariant: a verdict is of one version of the file: what changed under the hash is hashed again.
//! Deliberately not here: when that is done (a reader's check, the scrub), and what becomes of a
//! rotten file (`shelf`).

use std::num::NonZero;
use std::ops::Range;

use oci::{Digest, Hasher};
use rustix::fs::{Advice, fadvise};

use super::BlobFile;
use super::trust::Trust;

/// One read; also the grain of the scrub's throttling and of every stop.
const WINDOW_BYTES: u64 = 1 << 20;

/// A file that others write to so often is not waited for.
const ROUNDS_MAX: usize = 3;

/// What hashing a held blob again has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Examined {
    /// The digest fits; the file is trusted until it changes.
    Sound,
    /// The digest does not fit, or the disk does not give the bytes.
    Rotten,
    /// It was stopped, or the file changed all the time.
    Undecided,
}

/// What an examination leaves in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// All it has read: somebody is reading the blob.
    Fill,
    /// What was there before.
    Leave,
}

/// Hashes the file. `go_on` is told of each read's bytes and says whether to go on.
pub(super) fn examine(
    digest: &Digest,
    file: &BlobFile,
    trust: &Trust,
    cache: Cache,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Examined {
    for _ in 0..ROUNDS_MAX {
        let Some(version) = trust.version(file) else {
            return Examined::Undecided;
        };
        let found = hash(digest, file, cache, go_on);
        if found == Examined::Undecided {
            return found;
        }
        if trust.version(file) == Some(version) {
            if found == Examined::Sound {
                trust.vouch(version);
            }
            return found;
        }
    }
    Examined::Undecided
}

fn hash(
    digest: &Digest,
    file: &BlobFile,
    cache: Cache,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Examined {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; WINDOW_BYTES.min(file.len()) as usize];
    let mut offset = 0;
    while offset < file.len() {
        let end = file.len().min(offset + WINDOW_BYTES);
        let window = &mut buffer[..(end - offset) as usize];
        // A sector that cannot be read is rot too.
        if !read(file, offset..end, cache, window) {
            return Examined::Rotten;
        }
        hasher.update(window);
        if !go_on(end - offset) {
            return Examined::Undecided;
        }
        offset = end;
    }
    match hasher.finish() == *digest {
        true => Examined::Sound,
        false => Examined::Rotten,
    }
}

fn read(file: &BlobFile, range: Range<u64>, cache: Cache, window: &mut [u8]) -> bool {
    let stays = cache == Cache::Fill || file.resident(range.clone());
    let came = file.read_at(range.start, window).is_ok();
    if !stays {
        let length = NonZero::new(range.end - range.start);
        let _ = fadvise(file.fd(), range.start, length, Advice::DontNeed);
    }
    came
}
