//! The states of what is on the shelf: held blobs, arriving blobs, and which files are kept open.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use oci::Digest;

use super::BlobFile;
use super::index::{InUse, Index, Limits};
use super::partial::DiskPartial;
use super::trust::Trust;

/// Files kept open and mapped between uses; an open costs 8 us, as much as serving a manifest.
const KEPT_OPEN_MOST: usize = 256;

pub(super) struct State {
    pub(super) index: Index<Held, Filling>,
    /// Digests whose file is kept open, oldest first.
    kept_open: VecDeque<Digest>,
    /// Reserved, but not yet allocated on disk.
    pub(super) unallocated_bytes: u64,
}

/// A complete, verified blob.
pub(super) struct Held {
    /// The file while it has not yet its final name.
    pub(super) unsynced: Option<Arc<BlobFile>>,
    pub(super) kept: Option<Arc<BlobFile>>,
    pub(super) open: Weak<BlobFile>,
    /// The last use that the disk knows.
    pub(super) touched: SystemTime,
    /// What is known of the file's content; handles share it.
    pub(super) trust: Arc<Trust>,
}

/// An arriving blob.
pub(super) enum Filling {
    Opening,
    /// A dead reference means that it is just being dropped.
    Living(Weak<DiskPartial>),
    /// Slices of its file may still be out.
    Idle(Weak<BlobFile>),
}

impl InUse for Held {
    fn in_use(&self) -> bool {
        self.unsynced.is_some() || self.open.strong_count() > usize::from(self.kept.is_some())
    }
}

impl InUse for Filling {
    fn in_use(&self) -> bool {
        match self {
            Self::Opening | Self::Living(_) => true,
            Self::Idle(file) => file.strong_count() > 0,
        }
    }
}

impl Held {
    /// A blob under its final name that nobody has open.
    pub(super) fn closed(touched: SystemTime) -> Self {
        Self {
            unsynced: None,
            kept: None,
            open: Weak::new(),
            touched,
            trust: Arc::default(),
        }
    }

    pub(super) fn is_unsynced_as(&self, file: &Arc<BlobFile>) -> bool {
        let unsynced = self.unsynced.as_ref();
        unsynced.is_some_and(|mine| Arc::ptr_eq(mine, file))
    }

    /// Whether this is the file that is open for its readers.
    pub(super) fn is_open_as(&self, file: &BlobFile) -> bool {
        std::ptr::eq(self.open.as_ptr(), file)
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced.is_some()
    }
}

impl State {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            index: Index::new(limits),
            kept_open: VecDeque::new(),
            unallocated_bytes: 0,
        }
    }

    /// Whether the entry of the partial's key is of this very partial and not of a later one.
    pub(super) fn is_of(&mut self, partial: &DiskPartial) -> bool {
        let entry = self.index.partial(&partial.key);
        entry.is_some_and(|entry| match &entry.content {
            Filling::Living(living) => std::ptr::eq(living.as_ptr(), partial),
            Filling::Opening | Filling::Idle(_) => false,
        })
    }

    pub(super) fn keep_open(&mut self, digest: Digest) {
        self.kept_open.push_back(digest);
        if self.kept_open.len() > KEPT_OPEN_MOST
            && let Some(oldest) = self.kept_open.pop_front()
            && let Some(entry) = self.index.held(&oldest)
        {
            entry.content.kept = None;
        }
    }
}
