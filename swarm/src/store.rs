//! Where blobs live on a node: complete ones under their digest, arriving ones beside their byte map.
//!
//! Invariants, for every [`BlobStore`]:
//! - What [`BlobStore::open`] gives is complete and was verified by whoever called
//!   [`PartialBlob::publish`]. Whether its file is still as it was then, [`HeldBlob::is_trusted`]
//!   tells, and [`BlobStore::examine`] finds out. The store itself hashes only there, in
//!   [`BlobStore::put`] and in a scrub.
//! - A byte that is present in a partial blob never changes: a second write of it is skipped. So a
//!   [`Slice`] of present bytes stays what it was, also after publish, discard or eviction.
//! - A held handle, a slice or a living partial keeps its blob from being evicted.
//!
//! Deliberately not here: who fetches and who verifies (the flight), and who may read (the front).

mod blob_file;
mod byte_map;
mod byte_set;
mod disk;
mod entries;
mod error;
mod evict;
mod examine;
mod index;
mod keeper;
mod layout;
mod memory;
mod partial;
mod pins;
mod recover;
mod scrub;
mod shelf;
mod space;
mod trust;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use oci::Digest;

use trust::Trust;

pub use blob_file::BlobFile;
pub use byte_set::{ByteSet, ByteSetError};
pub use disk::{Clock, DiskStore, OpenError, Options};
pub use error::StoreError;
pub use examine::Examined;
pub use index::Limits;
pub use memory::MemoryStore;
pub use scrub::{ScrubPace, ScrubReport};
pub use space::{FreeSpace, MinFree, SpaceProbe};

/// Blobs by digest. Methods are blocking; `open` and `usage` take microseconds and may be called
/// from async code, `begin`, `put` and `remove` may unlink or allocate files for milliseconds.
pub trait BlobStore: Send + Sync + 'static {
    /// The blob, if it is held complete and verified. Marks its use. It is not evicted while the
    /// handle, or any slice of it, lives.
    fn open(&self, digest: &Digest) -> Option<HeldBlob>;

    /// Notes that a request reads the held blob that did not have it brought in: eviction prefers
    /// what was read only once.
    fn read_again(&self, digest: &Digest);

    /// Hashes a held blob again. A sound one is trusted from then on, a rotten one is put aside and
    /// not held any more. `go_on` is called after each step with its bytes, and stops it by `false`.
    /// Blocks for as long as reading and hashing take.
    fn examine(&self, blob: &HeldBlob, go_on: &mut dyn FnMut(u64) -> bool) -> Examined;

    /// Creates, or takes up where it was left, the partial blob of `digest` that `scope` fills, and
    /// reserves `total` bytes for it, evicting if needed.
    ///
    /// Partials of different scopes never share a byte, so unverified bytes of one registry cannot
    /// reach a reader of another. While the returned partial lives a second `begin` with the same
    /// scope gives the same one. Dropping the last handle leaves it resumable, and evictable.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::Full`], [`StoreError::ReadOnly`]: pass the bytes
    /// through instead. [`StoreError::Io`] otherwise, also when a living partial has another total.
    fn begin(
        &self,
        digest: &Digest,
        scope: ScopeTag,
        total: u64,
    ) -> Result<Arc<dyn PartialBlob>, StoreError>;

    /// Forgets the blob and its idle partials. Open handles go on working.
    ///
    /// # Errors
    /// What the file system says; a blob that is not held is no error.
    fn remove(&self, digest: &Digest) -> Result<(), StoreError>;

    /// Exempts `digest` from eviction and expiry, held or not, until unpinned.
    ///
    /// # Errors
    /// When the pin cannot be made durable; it is not set then.
    fn pin(&self, digest: &Digest) -> Result<(), StoreError>;

    /// Undoes [`BlobStore::pin`].
    ///
    /// # Errors
    /// When the change cannot be made durable; the pin stays then.
    fn unpin(&self, digest: &Digest) -> Result<(), StoreError>;

    /// What is held, and what the bounds are.
    fn usage(&self) -> Usage;

    /// Stores a small blob (a manifest, a config) that is in memory already, after checking it.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when `content` does not have `digest`; else as [`BlobStore::begin`].
    fn put(&self, digest: &Digest, content: &[u8]) -> Result<HeldBlob, StoreError> {
        if let Some(held) = self.open(digest) {
            return Ok(held);
        }
        if Digest::of(digest.algorithm(), content) != *digest {
            return Err(StoreError::Mismatch);
        }
        for _ in 0..2 {
            let partial = self.begin(digest, ScopeTag::VERIFIED, content.len() as u64)?;
            partial.write_at(0, content)?;
            // What another process left under this tag is not trusted.
            let mut kept = vec![0; content.len()];
            partial.read_at(0, &mut kept)?;
            if kept == content {
                return partial.publish();
            }
            partial.discard();
        }
        Err(StoreError::Io(std::io::Error::other(
            "file does not keep what was written to it",
        )))
    }
}

/// A blob on its way in. All methods may be called from any thread; those that take no bytes are
/// cheap. Writes go to the page cache and block only when the kernel throttles the disk's writers.
pub trait PartialBlob: Send + Sync {
    /// Length of the whole blob in bytes.
    fn total(&self) -> u64;

    /// Which bytes are there, from this process or from one that was killed. None is verified.
    fn present(&self) -> ByteSet;

    /// The first byte at or after `offset` that is not there; `total` when all are.
    fn first_gap_after(&self, offset: u64) -> u64;

    /// Takes in bytes, in any order. Bytes that are there already are skipped, not compared. On
    /// return the whole range is present and can be read.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::ReadOnly`]: nothing more will fit, but what is present
    /// stays readable. [`StoreError::Io`] also for a range beyond `total`, and after `publish` or
    /// `discard` for bytes that are not there.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError>;

    /// Copies bytes out by `pread`, for hashing and for TLS.
    ///
    /// # Errors
    /// [`StoreError::Io`] when they are not all present, or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError>;

    /// Bytes to send, not copied if they lie in a file; `None` unless all of `range` is present.
    fn slice(&self, range: Range<u64>) -> Option<Slice>;

    /// Makes the blob held. The caller has verified the digest of all `total` bytes. Does not wait
    /// for the disk: from here on [`BlobStore::open`] finds it, and after the background sync its
    /// file has its final name. Slices taken before stay valid. Calling it again is harmless.
    ///
    /// # Errors
    /// [`StoreError::Io`] when bytes are missing or it was discarded before.
    fn publish(&self) -> Result<HeldBlob, StoreError>;

    /// Throws everything away: the bytes were wrong. Slices taken before stay readable.
    fn discard(&self);
}

/// Keeps the partials of different fillers apart; part of a file name, so a hash and not a text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeTag([u8; 8]);

impl ScopeTag {
    /// For bytes that were verified before they were written ([`BlobStore::put`]).
    pub const VERIFIED: Self = Self([0; 8]);

    /// The tag of a scope's name, such as a registry's.
    pub fn of(name: &str) -> Self {
        let digest = Digest::sha256(name.as_bytes());
        let mut tag = [0; 8];
        tag.copy_from_slice(&digest.as_bytes()[..8]);
        Self(tag)
    }
}

impl fmt::Display for ScopeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ScopeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Some bytes of a blob, ready to be sent.
///
/// When `file` is set, `bytes` lies in its mapping and must not be touched by the sender, which
/// finds the place with [`BlobFile::locate`] and uses `sendfile`: a page fault on the mapping would
/// read the disk on an async thread. Both keep the file open and the blob from being evicted.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The bytes, or their place in a mapping.
    pub bytes: Bytes,
    /// The file behind `bytes`; `None` if they are in memory.
    pub file: Option<Arc<BlobFile>>,
}

impl Slice {
    /// Bytes that are in memory.
    pub fn from_memory(bytes: Bytes) -> Self {
        Self { bytes, file: None }
    }
}

/// A complete blob that was verified when it came. Cheap to clone; while one lives the blob is not evicted.
#[derive(Clone, Debug)]
pub struct HeldBlob {
    digest: Digest,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(Arc<BlobFile>, Arc<Trust>),
    Memory(Bytes),
}

impl HeldBlob {
    fn in_file(digest: Digest, file: Arc<BlobFile>, trust: Arc<Trust>) -> Self {
        Self {
            digest,
            content: Content::File(file, trust),
        }
    }

    fn in_memory(digest: Digest, bytes: Bytes) -> Self {
        Self {
            digest,
            content: Content::Memory(bytes),
        }
    }

    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its length in bytes.
    pub fn total(&self) -> u64 {
        match &self.content {
            Content::File(file, _) => file.len(),
            Content::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Its file, if it has one.
    pub fn file(&self) -> Option<&Arc<BlobFile>> {
        self.file_and_trust().map(|(file, _)| file)
    }

    fn file_and_trust(&self) -> Option<(&Arc<BlobFile>, &Trust)> {
        match &self.content {
            Content::File(file, trust) => Some((file, trust)),
            Content::Memory(_) => None,
        }
    }

    /// Whether its whole digest was found to fit in this run of the process and the file has not
    /// changed since. Costs an `fstat`.
    pub fn is_trusted(&self) -> bool {
        let file = self.file_and_trust();
        file.is_none_or(|(file, trust)| trust.holds(file))
    }

    /// Bytes to send; `None` when `range` is not within the blob.
    pub fn slice(&self, range: Range<u64>) -> Option<Slice> {
        match &self.content {
            Content::File(file, _) => file.slice(range),
            Content::Memory(bytes) => {
                slice_of(bytes, range).map(|part| Slice::from_memory(bytes.slice_ref(part)))
            }
        }
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the range is not within the blob or the disk fails.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        match &self.content {
            Content::File(file, _) => file.read_at(offset, buffer),
            Content::Memory(bytes) => {
                let range = offset..offset.saturating_add(buffer.len() as u64);
                let part = slice_of(bytes, range).ok_or_else(error::out_of_range)?;
                buffer.copy_from_slice(part);
                Ok(())
            }
        }
    }

    /// The whole content, copied. For small blobs; the caller has looked at [`HeldBlob::total`].
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails.
    pub fn read_all(&self) -> Result<Bytes, StoreError> {
        match &self.content {
            Content::File(file, _) => {
                let length = usize::try_from(file.len()).map_err(|_| error::out_of_range())?;
                let mut bytes = vec![0; length];
                file.read_at(0, &mut bytes)?;
                Ok(bytes.into())
            }
            Content::Memory(bytes) => Ok(bytes.clone()),
        }
    }
}

/// `bytes[range]` for a range of the wider type; `None` when it is not within.
fn slice_of(bytes: &[u8], range: Range<u64>) -> Option<&[u8]> {
    let start = usize::try_from(range.start).ok()?;
    let end = usize::try_from(range.end).ok()?;
    bytes.get(start..end)
}

/// What a store holds and how far it may go. Bytes are counted in whole blocks of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The hard cap on `held_bytes + partial_bytes`.
    pub cap_bytes: u64,
    /// Complete blobs.
    pub held_bytes: u64,
    /// Reserved for partial blobs.
    pub partial_bytes: u64,
    /// Count of complete blobs.
    pub held_blobs: u64,
    /// Count of partial blobs.
    pub partial_blobs: u64,
    /// Blobs evicted since the start.
    pub evicted_blobs: u64,
    /// Blobs found rotten since the start, by a reader's check or a scrub.
    pub rotten_blobs: u64,
}
