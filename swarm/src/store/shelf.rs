//! The entries of the disk store and their states, under one lock.
//!
//! A partial is opening, living (somebody holds it), or idle; a held blob is unsynced (verified, on
//! its way to its final name) or final. Each change of a file's name is made together with the
//! change of its entry, under the lock; writing, syncing and unlinking are done without it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use oci::Digest;

use super::byte_map::{Boot, Head};
use super::disk::Options;
use super::entries::{Filling, Held, State};
use super::error::closed;
use super::evict::Reads;
use super::examine::{Cache, Examined, examine};
use super::index::{PartialKey, Shelved, Victim};
use super::keeper::Keeper;
use super::layout::{self, Layout, Trash};
use super::partial::DiskPartial;
use super::trust::Trust;
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
        let entry = state.index.held(digest)?;
        let trust = Arc::clone(&entry.content.trust);
        if idle >= TOUCH_EVERY {
            entry.content.touched = now;
            drop(state);
            trust.through(&file, || layout::touch(&file, now));
        }
        Some(HeldBlob::in_file(*digest, file, trust))
    }

    /// Somebody reads the blob who did not have it brought in.
    pub(super) fn read_again(&self, digest: &Digest) {
        let mut state = self.state();
        let Some(entry) = state.index.held(digest) else {
            return;
        };
        if entry.reads == Reads::Again {
            return;
        }
        entry.reads = Reads::Again;
        let trust = Arc::clone(&entry.content.trust);
        let file = entry.content.open.upgrade();
        drop(state);
        if let Some(file) = file {
            trust.through(&file, || layout::mark_read_again(&file));
        }
    }

    /// What is known of a held blob's file.
    pub(super) fn trust(&self, digest: &Digest) -> Option<Arc<Trust>> {
        let mut state = self.state();
        let entry = state.index.held(digest)?;
        Some(Arc::clone(&entry.content.trust))
    }

    /// See [`super::BlobStore::examine`].
    pub(super) fn examine(&self, blob: &HeldBlob, go_on: &mut dyn FnMut(u64) -> bool) -> Examined {
        let Some((file, trust)) = blob.file_and_trust() else {
            return Examined::Sound;
        };
        let found = examine(&blob.digest, file, trust, Cache::Fill, go_on);
        if found == Examined::Rotten {
            self.put_aside(&blob.digest, file);
        }
        found
    }

    /// The file was hashed and is rotten: puts it aside, unless another has taken its place.
    pub(super) fn put_aside(&self, digest: &Digest, file: &BlobFile) -> bool {
        let mut state = self.state();
        let Some(entry) = state.index.held(digest) else {
            return false;
        };
        let path = self.place(digest, &entry.content);
        let is_it =
            entry.content.is_open_as(file) || fs::metadata(path).is_ok_and(|now| file.is_of(&now));
        if is_it {
            self.set_aside(&mut state, digest, "content does not have its digest");
        }
        is_it
    }

    fn place(&self, digest: &Digest, held: &Held) -> PathBuf {
        match held.is_unsynced() {
            true => self.layout.verified(digest),
            false => self.layout.held(digest),
        }
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
    fn set_aside(&self, state: &mut State, digest: &Digest, why: &str) {
        let Some(entry) = state.index.take_held(digest) else {
            return;
        };
        let path = self.place(digest, &entry.content);
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
            reads: Reads::Once,
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
        let (file, trust) = (&partial.file, &partial.trust);
        if let Some(version) = trust.version(file) {
            trust.vouch(version);
        }
        trust.through(file, || self.name_verified(partial))
    }

    fn name_verified(&self, partial: &DiskPartial) -> Result<HeldBlob, StoreError> {
        let digest = partial.key.0;
        let held = partial.held();
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
                unsynced: Some(Arc::clone(&partial.file)),
                kept: None,
                open: Arc::downgrade(&partial.file),
                touched: now,
                trust: Arc::clone(&partial.trust),
            },
            len: partial.total,
            last_use: now,
            reads: Reads::Once,
        };
        state.index.add_held(digest, entry);
        drop(state);
        self.keeper.sync(held.clone());
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

    /// Syncs a published blob; it gets its final name, or is forgotten.
    ///
    /// Takes the blob over, so that no handle of ours shields it from eviction afterwards.
    pub(super) fn sync(&self, blob: HeldBlob) {
        let Some((file, trust)) = blob.file_and_trust() else {
            return;
        };
        let digest = blob.digest;
        let result = file.file().sync_data();
        let named = trust.through(file, || self.name_synced(&digest, file, result));
        drop(blob);
        if named && let Err(error) = self.layout.sync_folder(&digest) {
            tracing::warn!(%digest, %error, "folder of a blob cannot be synced");
        }
    }

    fn name_synced(&self, digest: &Digest, file: &Arc<BlobFile>, result: io::Result<()>) -> bool {
        let mut trash = Trash::default();
        let mut state = self.state();
        // It may have been removed meanwhile, and even be there anew.
        let entry = state.index.held(digest);
        let Some(entry) = entry.filter(|entry| entry.content.is_unsynced_as(file)) else {
            return false;
        };
        entry.content.unsynced = None;
        let verified = self.layout.verified(digest);
        let renamed = result.and_then(|()| fs::rename(&verified, self.layout.held(digest)));
        if let Err(error) = renamed {
            state.index.take_held(digest);
            self.layout.throw(&verified, &mut trash);
            tracing::error!(%digest, %error, "a blob cannot be brought to disk and is forgotten");
            return false;
        }
        if let Some(entry) = state.index.held(digest) {
            entry.content.kept = Some(Arc::clone(file));
            state.keep_open(*digest);
        }
        true
    }

    pub(super) fn remove(&self, digest: &Digest, trash: &mut Trash) {
        let mut state = self.state();
        if let Some(entry) = state.index.take_held(digest) {
            let path = self.place(digest, &entry.content);
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
