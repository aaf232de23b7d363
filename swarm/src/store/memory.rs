//! A store in memory: the same contract as the disk's, for tests and for nodes without a disk.
//!
//! Invariant: as the disk store, a partial outlives its handles until it is evicted. Slices of a
//! partial are copies, so the bytes under them can move.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use oci::Digest;

use super::error::{closed, other_total, out_of_range};
use super::evict::Reads;
use super::index::{InUse, Index, Limits, PartialKey, Shelved};
use super::{
    BlobStore, ByteSet, Examined, HeldBlob, PartialBlob, ScopeTag, Slice, StoreError, Usage,
};

/// Blobs in memory, within a cap.
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    index: Mutex<Index<Arc<[u8]>, Arc<MemoryPartial>>>,
}

impl InUse for Arc<[u8]> {
    fn in_use(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl InUse for Arc<MemoryPartial> {
    fn in_use(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        let index = Mutex::new(Index::new(limits));
        Self {
            shared: Arc::new(Shared { index }),
        }
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index<Arc<[u8]>, Arc<MemoryPartial>>> {
        // Nothing in here panics half-way through a change.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobStore for MemoryStore {
    fn open(&self, digest: &Digest) -> Option<HeldBlob> {
        let mut index = self.shared.index();
        let entry = index.held(digest)?;
        entry.last_use = SystemTime::now();
        Some(held(*digest, &entry.content))
    }

    fn read_again(&self, digest: &Digest) {
        if let Some(entry) = self.shared.index().held(digest) {
            entry.reads = Reads::Again;
        }
    }

    /// Nobody else writes to this memory.
    fn examine(&self, _: &HeldBlob, _: &mut dyn FnMut(u64) -> bool) -> Examined {
        Examined::Sound
    }

    fn begin(
        &self,
        digest: &Digest,
        scope: ScopeTag,
        total: u64,
    ) -> Result<Arc<dyn PartialBlob>, StoreError> {
        let key = (*digest, scope);
        let mut index = self.shared.index();
        let now = SystemTime::now();
        if let Some(entry) = index.partial(&key) {
            entry.last_use = now;
            if entry.len == total {
                return Ok(Arc::clone(&entry.content) as Arc<dyn PartialBlob>);
            }
            if entry.content.in_use() {
                return Err(other_total());
            }
            index.take_partial(&key);
        }
        index.make_room(total, 0, now)?;
        let length = usize::try_from(total).map_err(|_| StoreError::Full)?;
        let partial = Arc::new(MemoryPartial {
            shared: Arc::downgrade(&self.shared),
            key,
            total,
            state: Mutex::new(State {
                stage: Stage::Filling(vec![0; length]),
                present: ByteSet::new(),
            }),
        });
        let entry = Shelved {
            content: Arc::clone(&partial),
            len: total,
            last_use: now,
            reads: Reads::Once,
        };
        index.add_partial(key, entry);
        Ok(partial)
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut index = self.shared.index();
        index.take_held(digest);
        for key in index.idle_partials(digest) {
            index.take_partial(&key);
        }
        Ok(())
    }

    fn pin(&self, digest: &Digest) -> Result<(), StoreError> {
        self.shared.index().pins().insert(*digest);
        Ok(())
    }

    fn unpin(&self, digest: &Digest) -> Result<(), StoreError> {
        self.shared.index().pins().remove(digest);
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.shared.index().usage()
    }
}

struct MemoryPartial {
    shared: Weak<Shared>,
    key: PartialKey,
    total: u64,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    present: ByteSet,
}

enum Stage {
    Filling(Vec<u8>),
    Published(Arc<[u8]>),
    Discarded(Vec<u8>),
}

impl Stage {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Filling(bytes) | Self::Discarded(bytes) => bytes,
            Self::Published(bytes) => bytes,
        }
    }
}

impl MemoryPartial {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes this very partial out of the index, and not a later one of the same key.
    fn leave(&self, index: &mut Index<Arc<[u8]>, Arc<MemoryPartial>>) {
        let shelved = index.partial(&self.key);
        if shelved.is_some_and(|entry| std::ptr::eq(&*entry.content, self)) {
            index.take_partial(&self.key);
        }
    }
}

impl State {
    fn read(&self, range: Range<u64>) -> Option<&[u8]> {
        if !self.present.contains(range.clone()) {
            return None;
        }
        super::slice_of(self.stage.bytes(), range)
    }
}

impl PartialBlob for MemoryPartial {
    fn total(&self) -> u64 {
        self.total
    }

    fn present(&self) -> ByteSet {
        self.state().present.clone()
    }

    fn first_gap_after(&self, offset: u64) -> u64 {
        self.state().present.first_gap_after(offset).min(self.total)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(bytes.len() as u64);
        let end = end
            .filter(|&end| end <= self.total)
            .ok_or_else(out_of_range)?;
        let mut state = self.state();
        let State { stage, present } = &mut *state;
        let gaps = present.gaps(offset..end);
        if gaps.is_empty() {
            return Ok(());
        }
        let Stage::Filling(content) = stage else {
            return Err(closed());
        };
        for gap in gaps {
            let from = &bytes[(gap.start - offset) as usize..(gap.end - offset) as usize];
            content[gap.start as usize..gap.end as usize].copy_from_slice(from);
            present.insert(gap);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let state = self.state();
        buffer.copy_from_slice(state.read(range).ok_or_else(out_of_range)?);
        Ok(())
    }

    fn slice(&self, range: Range<u64>) -> Option<Slice> {
        let state = self.state();
        let part = state.read(range)?;
        Some(Slice::from_memory(Bytes::copy_from_slice(part)))
    }

    fn publish(&self) -> Result<HeldBlob, StoreError> {
        let content: Arc<[u8]> = {
            let mut state = self.state();
            if !state.present.contains(0..self.total) {
                return Err(out_of_range());
            }
            match &mut state.stage {
                Stage::Published(content) => return Ok(held(self.key.0, content)),
                Stage::Discarded(_) => return Err(closed()),
                Stage::Filling(bytes) => {
                    let content: Arc<[u8]> = std::mem::take(bytes).into();
                    state.stage = Stage::Published(Arc::clone(&content));
                    content
                }
            }
        };
        if let Some(shared) = self.shared.upgrade() {
            let mut index = shared.index();
            self.leave(&mut index);
            let entry = Shelved {
                content: Arc::clone(&content),
                len: self.total,
                last_use: SystemTime::now(),
                reads: Reads::Once,
            };
            index.add_held(self.key.0, entry);
        }
        Ok(held(self.key.0, &content))
    }

    fn discard(&self) {
        {
            let mut state = self.state();
            let Stage::Filling(bytes) = &mut state.stage else {
                return;
            };
            state.stage = Stage::Discarded(std::mem::take(bytes));
        }
        if let Some(shared) = self.shared.upgrade() {
            self.leave(&mut shared.index());
        }
    }
}

fn held(digest: Digest, content: &Arc<[u8]>) -> HeldBlob {
    HeldBlob::in_memory(digest, Bytes::from_owner(Arc::clone(content)))
}
