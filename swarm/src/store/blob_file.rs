//! One open blob file and its mapping: places in the file that travel as `Bytes`.
//!
//! Invariant: the file never gets shorter while it is open (eviction unlinks, nothing truncates),
//! so an address in the mapping always has a file page behind it. The mapping exists to give bytes
//! an address that the sender can turn back into `(fd, offset)`; nothing here reads through it.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::error::out_of_range;
use super::{Slice, StoreError};

/// How far apart [`BlobFile::resident`] probes. A hit pays for it: 9 reads of a byte for 2 MiB.
const PROBE_STEP: u64 = 256 << 10;
/// How far apart [`BlobFile::warm`] reads: the kernel's usual readahead window.
const WARM_STEP: u64 = 128 << 10;

/// An open blob file, mapped whole. Dropped with the last slice of it.
#[derive(Debug)]
pub struct BlobFile {
    file: File,
    map: Option<Mmap>,
    len: u64,
}

impl BlobFile {
    /// Takes over an open file of its final length and maps it.
    ///
    /// # Errors
    /// When the file's metadata cannot be read or the mapping fails.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let map = if len == 0 { None } else { Some(map(&file)?) };
        Ok(Self { file, map, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is the empty blob.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The descriptor, for `sendfile`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// A place in the file as bytes, without touching a page; `None` when it is not within.
    pub fn slice(self: &Arc<Self>, range: Range<u64>) -> Option<Slice> {
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?;
        if start > end || range.end > self.len {
            return None;
        }
        let bytes = Bytes::from_owner(Mapped {
            file: Arc::clone(self),
            range: start..end,
        });
        Some(Slice {
            bytes,
            file: Some(Arc::clone(self)),
        })
    }

    /// Where in the file `len` bytes at `pointer` lie; `None` if they are not of this mapping.
    pub fn locate(&self, pointer: *const u8, len: usize) -> Option<u64> {
        let map = self.map.as_ref()?;
        let offset = pointer.addr().checked_sub(map.as_ptr().addr())?;
        let end = offset.checked_add(len)?;
        (end <= map.len()).then_some(offset as u64)
    }

    /// Copies bytes out by `pread`.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the range is not within the file or the disk fails.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(out_of_range());
        }
        // Not `?`: a read never means that the store is full or read-only.
        self.file
            .read_exact_at(buffer, offset)
            .map_err(StoreError::Io)
    }

    /// Whether sending `range` would likely not wait for the disk. Probes one byte of each 256 KiB
    /// (a few microseconds for 2 MiB); says yes where the file system cannot tell.
    pub fn resident(&self, range: Range<u64>) -> bool {
        let end = range.end.min(self.len);
        if range.start >= end {
            return true;
        }
        let probe = |offset| {
            let mut byte = [0];
            let mut buffers = [io::IoSliceMut::new(&mut byte)];
            !matches!(
                preadv2(&self.file, &mut buffers, offset, ReadWriteFlags::NOWAIT),
                Err(Errno::AGAIN)
            )
        };
        (range.start..end).step_by(PROBE_STEP as usize).all(probe) && probe(end - 1)
    }

    /// Reads `range` into the page cache and waits for it. Blocks for as long as the disk takes:
    /// call it from a blocking thread. Failures are left to the send that follows.
    pub fn warm(&self, range: Range<u64>) {
        let end = range.end.min(self.len);
        let Some(length) = end
            .checked_sub(range.start)
            .and_then(std::num::NonZero::new)
        else {
            return;
        };
        // Advice only starts the reads, and no more than a few MiB of them; the preads wait.
        let _ = fadvise(&self.file, range.start, Some(length), Advice::WillNeed);
        let mut byte = [0];
        for offset in (range.start..end).step_by(WARM_STEP as usize) {
            let _ = self.file.read_at(&mut byte, offset);
        }
        let _ = self.file.read_at(&mut byte, end - 1);
    }

    /// Asks the kernel to begin writing dirty pages to disk, without waiting for them. Only a hint.
    pub(super) fn start_write_back(&self, range: Range<u64>) {
        let (Ok(offset), Ok(length)) = (
            range.start.try_into(),
            range.end.saturating_sub(range.start).try_into(),
        ) else {
            return;
        };
        let flags = libc::SYNC_FILE_RANGE_WRITE;
        #[expect(unsafe_code, reason = "rustix has no sync_file_range")]
        // SAFETY: the descriptor is open, and the call takes no pointer.
        let _ = unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, length, flags) };
    }

    /// Whether `metadata` is of this very file.
    pub(super) fn is_of(&self, metadata: &Metadata) -> bool {
        let mine = self.file.metadata();
        mine.is_ok_and(|mine| (mine.dev(), mine.ino()) == (metadata.dev(), metadata.ino()))
    }

    /// The file, for the store that writes and syncs it.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

#[expect(
    unsafe_code,
    reason = "mapping a file is unsafe; see the file's head for why it holds"
)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file is never truncated while mapped, and slices are handed out only of bytes
    // that are present, which the store never writes again. Files of the data folder are private
    // to the process that holds its lock.
    unsafe { Mmap::map(file) }
}

/// A range of a mapping that keeps the file alive.
struct Mapped {
    file: Arc<BlobFile>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        match &self.file.map {
            Some(map) => &map[self.range.clone()],
            None => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn blob(content: &[u8]) -> Arc<BlobFile> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(BlobFile::new(file).unwrap())
    }

    #[test]
    fn a_slice_finds_its_place_again() {
        let file = blob(&[7; 10_000]);
        let slice = file.slice(4_097..9_999).unwrap();
        assert_eq!(slice.bytes.len(), 5_902);
        let part = slice.bytes.slice(100..200);
        assert_eq!(file.locate(part.as_ptr(), part.len()), Some(4_197));
        assert_eq!(file.locate(part.as_ptr(), 10_000), None);
        assert_eq!(file.locate([0u8; 4].as_ptr(), 4), None);
        assert_eq!(part, [7; 100][..]);
    }

    #[test]
    fn ranges_beyond_the_end_are_refused() {
        let file = blob(b"abc");
        assert!(file.slice(0..4).is_none());
        assert!(file.slice(3..3).is_some());
        assert!(file.read_at(2, &mut [0; 2]).is_err());
        assert!(file.read_at(u64::MAX, &mut [0; 2]).is_err());
    }

    #[test]
    fn the_empty_file_is_a_blob() {
        let file = blob(b"");
        assert!(file.is_empty() && file.slice(0..0).unwrap().bytes.is_empty());
        assert!(file.resident(0..10));
        file.warm(0..10);
    }

    #[test]
    fn what_was_warmed_is_resident() {
        let file = blob(&vec![1; 3 << 20]);
        file.warm(0..u64::MAX);
        assert!(file.resident(0..3 << 20) && file.resident(5..6));
    }

    #[test]
    fn what_left_the_cache_is_missed_and_warmed_again() {
        let file = blob(&vec![1; 3 << 20]);
        let kind = rustix::fs::fstatfs(file.file()).unwrap().f_type;
        if i128::from(kind) == i128::from(libc::TMPFS_MAGIC) {
            println!("not checked: a file on tmpfs never leaves the cache");
            return;
        }
        // The page cache belongs to everybody: what is dropped may come back, what is warmed may go.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut missed = false;
        let mut found = false;
        while !(missed && found) {
            assert!(
                std::time::Instant::now() < deadline,
                "missed {missed}, found {found}"
            );
            file.file().sync_all().unwrap();
            fadvise(file.fd(), 0, None, Advice::DontNeed).unwrap();
            missed |= !file.resident(0..3 << 20);
            file.warm(0..3 << 20);
            found |= file.resident(0..3 << 20);
        }
    }
}
