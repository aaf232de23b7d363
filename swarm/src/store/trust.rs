//! Whether a held blob's file is the one whose digest was found to fit.
//!
//! A file is trusted while its whole digest was found to fit in this run of the process (it landed,
//! or was examined) and it is the same as then: device, inode, size, and the times of its last
//! writes. Looking costs one `fstat`. Invariant: a change by anybody but the store ends the trust;
//! the store's own changes of name, mode and access time, which move the change time, do not.
//! Not seen: bits that the disk itself loses, and writes within the clock tick of the look before;
//! the scrub finds those.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::BlobFile;

/// What is known of one held blob's file. Its lock is never held across a call of the store.
#[derive(Debug, Default)]
pub(super) struct Trust {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    latest: Option<Stamp>,
    version: Version,
    fits: Option<Version>,
    /// Changes of our own under way.
    ours: u32,
}

/// Counts the changes by others that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Version(u64);

/// What of a file's metadata moves when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Trust {
    /// The file's present version; none when the file system does not tell.
    pub(super) fn version(&self, file: &BlobFile) -> Option<Version> {
        let stamp = Stamp::of(file.file()).ok()?;
        Some(self.known().see(stamp))
    }

    /// Whether the file has the content whose digest fitted.
    pub(super) fn holds(&self, file: &BlobFile) -> bool {
        let Ok(stamp) = Stamp::of(file.file()) else {
            return false;
        };
        let mut known = self.known();
        let version = known.see(stamp);
        known.fits == Some(version)
    }

    /// The digest of all bytes was found to fit, and the file was at `version` before and after.
    pub(super) fn vouch(&self, version: Version) {
        self.known().fits = Some(version);
    }

    /// Makes a change of our own that leaves the content as it is.
    pub(super) fn through<T>(&self, file: &BlobFile, change: impl FnOnce() -> T) -> T {
        let before = Stamp::of(file.file());
        let mut known = self.known();
        if let Ok(before) = before {
            known.see(before);
        }
        known.ours += 1;
        drop(known);
        let done = change();
        let after = Stamp::of(file.file());
        let mut known = self.known();
        if let Ok(after) = after {
            known.see(after);
        }
        known.ours -= 1;
        done
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn see(&mut self, stamp: Stamp) -> Version {
        let same = self.latest.is_some_and(|latest| match self.ours {
            0 => latest == stamp,
            _ => latest.same_content(&stamp),
        });
        if !same {
            self.version.0 += 1;
        }
        self.latest = Some(stamp);
        self.version
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let now = file.metadata()?;
        Ok(Self {
            device: now.dev(),
            inode: now.ino(),
            len_bytes: now.len(),
            modified: (now.mtime(), now.mtime_nsec()),
            changed: (now.ctime(), now.ctime_nsec()),
        })
    }

    /// The same but for the change time.
    fn same_content(&self, other: &Self) -> bool {
        let changed = self.changed;
        *self == Self { changed, ..*other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(modified: i64, changed: i64) -> Stamp {
        Stamp {
            device: 1,
            inode: 2,
            len_bytes: 3,
            modified: (modified, 0),
            changed: (changed, 0),
        }
    }

    #[test]
    fn a_change_by_others_ends_the_trust_and_its_undoing_does_not_bring_it_back() {
        let mut known = Known::default();
        let first = known.see(stamp(1, 1));
        known.fits = Some(first);
        assert_eq!(known.see(stamp(1, 1)), first);
        assert_ne!(known.see(stamp(1, 2)), first);
        assert_ne!(known.see(stamp(1, 1)), first);
    }

    #[test]
    fn under_a_change_of_ours_only_the_content_counts() {
        let mut known = Known::default();
        let first = known.see(stamp(1, 1));
        known.ours = 1;
        assert_eq!(known.see(stamp(1, 2)), first);
        assert_ne!(known.see(stamp(2, 2)), first);
        let second = known.see(stamp(2, 3));
        known.ours = 0;
        assert_eq!(known.see(stamp(2, 3)), second);
        assert_ne!(known.see(stamp(2, 4)), second);
    }

    #[test]
    fn a_file_that_is_written_is_another_one_and_a_renamed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        std::fs::write(&path, b"content").unwrap();
        let file = BlobFile::new(File::open(&path).unwrap()).unwrap();
        let trust = Trust::default();
        assert!(!trust.holds(&file));
        trust.vouch(trust.version(&file).unwrap());
        assert!(trust.holds(&file));
        let moved = folder.path().join("moved");
        let renamed = trust.through(&file, || std::fs::rename(&path, &moved));
        renamed.unwrap();
        assert!(trust.holds(&file));
        trust.through(&file, || std::fs::write(&moved, b"another").unwrap());
        // Within one tick of the clock a write does not show: one more, after it.
        let stamp = Stamp::of(file.file()).unwrap();
        while Stamp::of(file.file()).unwrap() == stamp {
            std::fs::write(&moved, b"another").unwrap();
        }
        assert!(!trust.holds(&file));
    }
}
