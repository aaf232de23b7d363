//! A blob arriving on disk: its file, what of it is there, and the map that survives a kill.
//!
//! Invariant: a present byte is never written again, so slices of the mapping stay what they are.
//! Two writers of overlapping ranges wait for each other; of disjoint ranges they do not.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::byte_map::ByteMap;
use super::error::{closed, other_total, out_of_range};
use super::index::PartialKey;
use super::shelf::Shelf;
use super::trust::Trust;
use super::{BlobFile, ByteSet, HeldBlob, PartialBlob, Slice, StoreError};

/// How much progress a kill may cost.
const RECORD_EVERY_BYTES: u64 = 1 << 20;
/// How much may be dirty before the disk is told to begin: keeps the last sync at 5 ms.
const WRITE_BACK_EVERY_BYTES: u64 = 8 << 20;

pub(super) struct DiskPartial {
    shelf: Arc<Shelf>,
    pub(super) key: PartialKey,
    pub(super) total: u64,
    pub(super) file: Arc<BlobFile>,
    pub(super) trust: Arc<Trust>,
    state: Mutex<State>,
    /// A write ended.
    written: Condvar,
}

struct State {
    stage: Stage,
    present: ByteSet,
    /// Being written now, without the lock.
    writing: Vec<Range<u64>>,
    map: ByteMap,
    /// Present, but not yet in the map.
    unrecorded: ByteSet,
    unrecorded_bytes: u64,
    /// Hull of what was written since the last write-back, and how much that was.
    dirty: Range<u64>,
    dirty_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Filling,
    Published,
    Discarded,
}

impl DiskPartial {
    /// Makes the files of a partial, or takes up what is there. The entry is opening: nobody else
    /// touches these names.
    pub(super) fn open(
        shelf: &Arc<Shelf>,
        key: PartialKey,
        total: u64,
        resume: bool,
    ) -> Result<Arc<Self>, StoreError> {
        let kept = if resume {
            take_up(shelf, &key, total)?
        } else {
            None
        };
        let (file, map, present) = match kept {
            Some(kept) => kept,
            None => create(shelf, &key, total)?,
        };
        Ok(Arc::new(Self {
            shelf: Arc::clone(shelf),
            key,
            total,
            file: Arc::new(BlobFile::new(file).map_err(StoreError::Io)?),
            trust: Arc::default(),
            state: Mutex::new(State {
                stage: Stage::Filling,
                present,
                writing: Vec::new(),
                map,
                unrecorded: ByteSet::new(),
                unrecorded_bytes: 0,
                dirty: 0..0,
                dirty_bytes: 0,
            }),
            written: Condvar::new(),
        }))
    }

    /// This partial, if it is of a blob of `total` bytes.
    pub(super) fn of_total(self: Arc<Self>, total: u64) -> Result<Arc<Self>, StoreError> {
        if self.total == total {
            Ok(self)
        } else {
            Err(other_total())
        }
    }

    /// The blob in this partial's file.
    pub(super) fn held(&self) -> HeldBlob {
        HeldBlob::in_file(self.key.0, Arc::clone(&self.file), Arc::clone(&self.trust))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the parts of the range that are not there, alone in that range.
    fn write_gaps(&self, range: Range<u64>, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.state();
        while state.writing.iter().any(|other| overlap(other, &range)) {
            state = self
                .written
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let gaps = state.present.gaps(range.clone());
        if gaps.is_empty() {
            return Ok(());
        }
        if state.stage != Stage::Filling {
            return Err(closed());
        }
        state.writing.push(range.clone());
        drop(state);
        let result = gaps.iter().try_for_each(|gap| {
            let part = (gap.start - range.start) as usize..(gap.end - range.start) as usize;
            self.file.file().write_all_at(&bytes[part], gap.start)
        });
        let mut state = self.state();
        state.writing.retain(|other| *other != range);
        if result.is_ok() {
            let hint = state.wrote(&gaps, range);
            drop(state);
            if let Some(hint) = hint {
                self.shelf.keeper.write_back(&self.file, hint);
            }
        } else {
            drop(state);
        }
        self.written.notify_all();
        Ok(result?)
    }
}

impl State {
    /// Notes bytes as present; says what the disk should begin to write, if it is time.
    fn wrote(&mut self, gaps: &[Range<u64>], range: Range<u64>) -> Option<Range<u64>> {
        for gap in gaps {
            self.present.insert(gap.clone());
            self.unrecorded.insert(gap.clone());
            self.unrecorded_bytes += gap.end - gap.start;
            self.dirty_bytes += gap.end - gap.start;
        }
        if self.unrecorded_bytes >= RECORD_EVERY_BYTES {
            self.record();
        }
        self.dirty = if self.dirty.is_empty() {
            range
        } else {
            self.dirty.start.min(range.start)..self.dirty.end.max(range.end)
        };
        if self.dirty_bytes < WRITE_BACK_EVERY_BYTES {
            return None;
        }
        self.dirty_bytes = 0;
        Some(std::mem::replace(&mut self.dirty, 0..0))
    }

    fn record(&mut self) {
        let ranges = std::mem::take(&mut self.unrecorded);
        self.unrecorded_bytes = 0;
        if let Err(error) = self.map.append(&ranges) {
            tracing::warn!(%error, "progress of a blob cannot be recorded");
        }
    }
}

impl PartialBlob for DiskPartial {
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
        self.write_gaps(offset..end, bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        if !self.state().present.contains(range) {
            return Err(out_of_range());
        }
        self.file.read_at(offset, buffer)
    }

    fn slice(&self, range: Range<u64>) -> Option<Slice> {
        if !self.state().present.contains(range.clone()) {
            return None;
        }
        self.file.slice(range)
    }

    fn publish(&self) -> Result<HeldBlob, StoreError> {
        let mut state = self.state();
        if !state.present.contains(0..self.total) {
            return Err(out_of_range());
        }
        match state.stage {
            Stage::Published => return Ok(self.held()),
            Stage::Discarded => return Err(closed()),
            Stage::Filling => state.stage = Stage::Published,
        }
        drop(state);
        self.shelf.publish(self)
    }

    fn discard(&self) {
        let mut state = self.state();
        if state.stage != Stage::Filling {
            return;
        }
        state.stage = Stage::Discarded;
        drop(state);
        self.shelf.discard(self);
    }
}

impl Drop for DiskPartial {
    fn drop(&mut self) {
        let mut state = self.state();
        if state.stage == Stage::Filling {
            state.record();
        }
        drop(state);
        self.shelf.idle(self);
    }
}

type Opened = (File, ByteMap, ByteSet);

fn take_up(shelf: &Shelf, key: &PartialKey, total: u64) -> io::Result<Option<Opened>> {
    let opened = File::options()
        .read(true)
        .write(true)
        .open(shelf.layout.partial(key));
    let (file, map) = match (
        opened,
        ByteMap::load(shelf.layout.map(key), shelf.head(total)),
    ) {
        (Ok(file), Ok(map)) => (file, map),
        (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let fits = file.metadata()?.len() == total;
    let loaded = map.filter(|_| fits);
    Ok(loaded.map(|loaded| (file, loaded.map, loaded.present)))
}

fn create(shelf: &Shelf, key: &PartialKey, total: u64) -> Result<Opened, StoreError> {
    shelf.layout.make_folder(&key.0)?;
    let (path, map_path) = (shelf.layout.partial(key), shelf.layout.map(key));
    for leftover in [&path, &map_path] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    allocate(&file, total)?;
    Ok((
        file,
        ByteMap::new(map_path, shelf.head(total)),
        ByteSet::new(),
    ))
}

/// Gives the file its final length, and its blocks where the file system can, so that a full disk
/// is known before the first byte.
fn allocate(file: &File, total: u64) -> Result<(), StoreError> {
    if total == 0 {
        return Ok(());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, total)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(file.set_len(total)?),
        allocated => Ok(allocated?),
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}
