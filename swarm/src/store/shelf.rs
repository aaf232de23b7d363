//! The entries of the disk store and their states, under one lock.
//!
//! A partial is opening, living (somebody holds it), or idle; a held blob is unsynced (verified, on
//! its way to its final name) or final. Each change of a file's name is made together with the
//! change of its entry, under the lock; writing, syncing and unlinking are done without it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use oci::Digest;
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, futimens};

use super::byte_map::{Boot, Head};
use super::disk::Options;
use super::entries::{Filling, Held, State};
use super::error::closed;
use super::index::{PartialKey, Shelved, Victim};
use super::keeper::Keeper;
use super::layout::{Layout, Trash};
use super::partial::DiskPartial;
use super::{BlobFile, HeldBlob, StoreError, Usage};

/// How stale the last use on disk may be: it only orders eviction after a restart.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Shelf {
    pub(super) options: Options,
    pub(super) layout: Layout,
    pub(super) keeper: Keeper,
    boot: Boot,
    state: Mutex<State>,
    /// An entry stopped opening, or a partial became idle.
    changed: Condvar,
    /// Held for as long as anybody may write below the folder.
    _lock: File,
}

impl Shelf {
    pub(super) fn new(options: Options, layout: Layout, lock: File) -> Self {
        let state = State::new(options.limits);
        Self {
            options,
            layout,
            keeper: Keeper::default(),
            boot: Boot::current(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            _lock: lock,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> SystemTime {
        (self.options.clock)()
    }

    /// What the map of a partial of `total` bytes must be of.
    pub(super) fn head(&self, total: u64) -> Head {
        let boot = self.boot;
        Head { total, boot }
    }

    pub(super) fn stop(&self) {
        self.keeper.stop();
    }

    pub(super) fn set_pins(&self, pins: BTreeSet<Digest>) {
        *self.state().index.pins() = pins;
    }

    pub(super) fn usage(&self) -> Usage {
        self.state().index.usage()
    }

    /// The blob, if it is held; a file that vanished or changed its length is forgotten.
    pub(super) fn open(&self, digest: &Digest) -> Option<HeldBlob> {
        let now = self.now();
        let mut state = self.state();
        let entry = state.index.held(digest)?;
        entry.last_use = now;
        let content = &mut entry.content;
        let open = content.unsynced.clone().or_else(|| content.open.upgrade());
        let idle = now.duration_since(content.touched).unwrap_or_default();
        let file = match open {
            Some(file) => file,
            None => match open_file(&self.layout.held(digest), entry.len) {
                Ok(file) => {
                    let content = &mut entry.content;
                    content.open = Arc::downgrade(&file);
                    content.kept = Some(Arc::clone(&file));
                    state.keep_open(*digest);
                    file
                }
                Err(error) => {
                    self.cannot_open(&mut state, digest, &error);
                    return None;
                }
            },
        };
        if idle >= TOUCH_EVERY
            && let Some(entry) = state.index.held(digest)
        {
            entry.content.touched = now;
            touch(&file, now);
        }
        Some(HeldBlob::in_file(*digest, file))
    }

    fn cannot_open(&self, state: &mut State, digest: &Digest, error: &io::Error) {
        let path = self.layout.held(digest);
        let path_shown = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => {
                tracing::warn!(path = %path_shown, "a held blob's file was deleted by others");
                state.index.take_held(digest);
            }
            io::ErrorKind::InvalidData => self.set_aside(state, digest, "wrong length"),
            _ => tracing::error!(path = %path_shown, %error, "a held blob cannot be opened"),
        }
    }

    /// Moves a rotten file to quarantine and forgets it.
    pub(super) fn set_aside(&self, state: &mut State, digest: &Digest, why: &str) {
        let path = self.layout.held(digest);
        state.index.take_held(digest);
        state.index.count_rotten();
        match self.layout.quarantine(&path, digest) {
            Ok(to) => tracing::error!(
                path = %path.display(), to = %to.display(), why,
                "a held blob is rotten and was put aside; it will be fetched again"
            ),
            Err(error) => tracing::error!(
                path = %path.display(), why, %error,
                "a held blob is rotten and cannot be put aside; delete it by hand"
            ),
        }
    }

    /// Creates or takes up a partial; see [`super::BlobStore::begin`].
    pub(super) fn begin(
        self: &Arc<Self>,
        key: PartialKey,
        total: u64,
    ) -> Result<Arc<DiskPartial>, StoreError> {
        let mut trash = Trash::default();
        let now = self.now();
        let mut state = self.state();
        let resume = loop {
            let Some(entry) = state.index.partial(&key) else {
                break false;
            };
            match &entry.content {
                Filling::Living(living) => {
                    if let Some(partial) = living.upgrade() {
                        // The last handle's drop takes the lock.
                        drop(state);
                        return partial.of_total(total);
                    }
                }
                Filling::Opening => {}
                Filling::Idle(_) if entry.len == total => {
                    entry.content = Filling::Opening;
                    entry.last_use = now;
                    break true;
                }
                Filling::Idle(_) => {
                    state.index.take_partial(&key);
                    self.layout.throw_partial(&key, &mut trash);
                    break false;
                }
            }
            // Somebody creates two files, or records a last range: soon done.
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        if !resume {
            self.reserve(&mut state, key, total, &mut trash)?;
        }
        drop(state);
        // What was evicted must be off the disk before more of it is allocated.
        drop(trash);
        let opened = DiskPartial::open(self, key, total, resume);
        self.opened(key, opened, if resume { 0 } else { total })
    }

    fn reserve(
        &self,
        state: &mut State,
        key: PartialKey,
        total: u64,
        trash: &mut Trash,
    ) -> Result<(), StoreError> {
        let need = total.saturating_add(state.unallocated_bytes);
        let short = self.disk_short(need)?;
        let now = self.now();
        let victims = state.index.make_room(total, short, now)?;
        self.throw_victims(victims, trash);
        let entry = Shelved {
            content: Filling::Opening,
            len: total,
            last_use: now,
        };
        state.index.add_partial(key, entry);
        state.unallocated_bytes += total;
        Ok(())
    }

    fn opened(
        &self,
        key: PartialKey,
        opened: Result<Arc<DiskPartial>, StoreError>,
        allocated: u64,
    ) -> Result<Arc<DiskPartial>, StoreError> {
        let mut trash = Trash::default();
        let mut state = self.state();
        state.unallocated_bytes -= allocated;
        match &opened {
            Ok(partial) => {
                if let Some(entry) = state.index.partial(&key) {
                    entry.content = Filling::Living(Arc::downgrade(partial));
                }
            }
            Err(_) => {
                state.index.take_partial(&key);
                self.layout.throw_partial(&key, &mut trash);
            }
        }
        drop(state);
        self.changed.notify_all();
        opened
    }

    /// The partial's last handle is being dropped.
    pub(super) fn idle(&self, partial: &DiskPartial) {
        let now = self.now();
        let mut state = self.state();
        if state.is_of(partial)
            && let Some(entry) = state.index.partial(&partial.key)
        {
            entry.content = Filling::Idle(Arc::downgrade(&partial.file));
            entry.last_use = now;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Gives a verified partial its place among the held, and has it synced in the background.
    pub(super) fn publish(&self, partial: &DiskPartial) -> Result<HeldBlob, StoreError> {
        let digest = partial.key.0;
        let file = Arc::clone(&partial.file);
        let held = HeldBlob::in_file(digest, Arc::clone(&file));
        let mut trash = Trash::default();
        let now = self.now();
        let mut state = self.state();
        if !state.is_of(partial) {
            return Err(closed());
        }
        state.index.take_partial(&partial.key);
        if state.index.held(&digest).is_some() {
            self.layout.throw_partial(&partial.key, &mut trash);
            return Ok(held);
        }
        let from = self.layout.partial(&partial.key);
        if let Err(error) = fs::rename(from, self.layout.verified(&digest)) {
            self.layout.throw_partial(&partial.key, &mut trash);
            return Err(error.into());
        }
        self.layout
            .throw(&self.layout.map(&partial.key), &mut trash);
        let entry = Shelved {
            content: Held {
                unsynced: Some(Arc::clone(&file)),
                kept: None,
                open: Arc::downgrade(&file),
                touched: now,
            },
            len: partial.total,
            last_use: now,
        };
        state.index.add_held(digest, entry);
        drop(state);
        self.keeper.sync(digest, file);
        Ok(held)
    }

    /// The bytes are wrong: nothing of them stays.
    pub(super) fn discard(&self, partial: &DiskPartial) {
        let mut trash = Trash::default();
        let mut state = self.state();
        if state.is_of(partial) {
            state.index.take_partial(&partial.key);
            self.layout.throw_partial(&partial.key, &mut trash);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The sync of a published blob ended: it gets its final name, or is forgotten.
    ///
    /// Takes the file over, so that no handle of ours shields the blob from eviction afterwards.
    pub(super) fn synced(&self, digest: &Digest, file: Arc<BlobFile>, result: io::Result<()>) {
        let mut trash = Trash::default();
        let mut state = self.state();
        // It may have been removed meanwhile, and even be there anew.
        let entry = state.index.held(digest);
        let Some(entry) = entry.filter(|entry| entry.content.is_unsynced_as(&file)) else {
            return;
        };
        entry.content.unsynced = None;
        let verified = self.layout.verified(digest);
        let renamed = result.and_then(|()| fs::rename(&verified, self.layout.held(digest)));
        if let Err(error) = renamed {
            state.index.take_held(digest);
            self.layout.throw(&verified, &mut trash);
            tracing::error!(%digest, %error, "a blob cannot be brought to disk and is forgotten");
            return;
        }
        if let Some(entry) = state.index.held(digest) {
            entry.content.kept = Some(file);
            state.keep_open(*digest);
        }
        drop(state);
        if let Err(error) = self.layout.sync_folder(digest) {
            tracing::warn!(%digest, %error, "folder of a blob cannot be synced");
        }
    }

    pub(super) fn remove(&self, digest: &Digest, trash: &mut Trash) {
        let mut state = self.state();
        if let Some(entry) = state.index.take_held(digest) {
            let path = match entry.content.is_unsynced() {
                true => self.layout.verified(digest),
                false => self.layout.held(digest),
            };
            self.layout.throw(&path, trash);
        }
        for key in state.index.idle_partials(digest) {
            state.index.take_partial(&key);
            self.layout.throw_partial(&key, trash);
        }
    }

    /// Evicts what is expired, above the watermark or below the floor of free disk.
    pub(super) fn sweep(&self) {
        let mut trash = Trash::default();
        let now = self.now();
        let mut state = self.state();
        let short = self.disk_short(state.unallocated_bytes).unwrap_or_default();
        let victims = state.index.sweep(short, now);
        self.throw_victims(victims, &mut trash);
    }

    fn disk_short(&self, need: u64) -> Result<u64, StoreError> {
        let space = (self.options.space)(self.layout.root()).map_err(StoreError::Io)?;
        Ok(space.short_of(self.options.min_free, need))
    }

    fn throw_victims(&self, victims: Vec<Victim<Held, Filling>>, trash: &mut Trash) {
        for victim in victims {
            match victim {
                Victim::Held(digest, _) => {
                    tracing::debug!(digest = digest.short(), "blob evicted");
                    self.layout.throw(&self.layout.held(&digest), trash);
                }
                Victim::Partial(key, _) => {
                    tracing::debug!(digest = key.0.short(), "partial blob evicted");
                    self.layout.throw_partial(&key, trash);
                }
            }
        }
    }
}

fn open_file(path: &std::path::Path, len: u64) -> io::Result<Arc<BlobFile>> {
    let file = BlobFile::new(File::open(path)?)?;
    if file.len() != len {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Arc::new(file))
}

/// Writes the last use down as the file's access time; whether it succeeds matters little.
fn touch(file: &BlobFile, now: SystemTime) {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: since.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: since.subsec_nanos().into(),
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    if let Err(error) = futimens(file.fd(), &times) {
        tracing::debug!(%error, "last use of a blob cannot be written down");
    }
}
