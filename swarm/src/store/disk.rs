//! The store on disk: the public face, its start and its end.
//!
//! Plain files, one per blob; the file system is the truth and the index in memory is rebuilt from
//! it at start. What lies under its final name is complete, verified and synced. Invariant: one
//! process at a time owns the folder. Deliberately not here: the states of an entry (`shelf`), the
//! arriving blob (`partial`), and what runs in the background (`keeper`, `scrub`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use oci::Digest;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::index::Limits;
use super::keeper::{self, Keeper};
use super::layout::{Layout, Trash};
use super::pins::Pins;
use super::recover;
use super::scrub::{self, ScrubPace, ScrubReport};
use super::shelf::Shelf;
use super::space::{FreeSpace, MinFree, SpaceProbe};
use super::{BlobStore, Examined, HeldBlob, PartialBlob, ScopeTag, StoreError, Usage};

/// How long another process may still hold the folder: a child that it forked keeps the lock until
/// it has become another program, and a node that is restarted until it has ended.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Tells the time; tests tell their own.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What a [`DiskStore`] is opened with.
#[derive(Clone)]
pub struct Options {
    /// The folder; made if missing. Other files in it are left alone.
    pub data_dir: PathBuf,
    /// Cap, watermarks and expiry.
    pub limits: Limits,
    /// The floor of free disk.
    pub min_free: MinFree,
    /// How fast and how often held blobs are hashed again; `None` for never.
    pub scrub: Option<ScrubPace>,
    /// The time, for last use and expiry.
    pub clock: Clock,
    /// How much room the disk has.
    pub space: SpaceProbe,
}

impl Options {
    /// The usual: 15 % of the disk stays free, a slow scrub, the system's clock and disk.
    pub fn new(data_dir: impl Into<PathBuf>, limits: Limits) -> Self {
        Self {
            data_dir: data_dir.into(),
            limits,
            min_free: MinFree::Percent(15),
            scrub: Some(ScrubPace::default()),
            clock: Arc::new(SystemTime::now),
            space: Arc::new(FreeSpace::of),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("data folder {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Its files cannot be made or read.
    #[error("data folder {} cannot be used", .path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
}

/// Blobs as files below one folder.
///
/// Dropping it finishes the syncs that are under way and joins its two threads. The folder stays
/// locked until the last partial is dropped too; held blobs and slices do not keep it locked.
pub struct DiskStore {
    shelf: Arc<Shelf>,
    pins: Pins,
    threads: Vec<JoinHandle<()>>,
}

impl DiskStore {
    /// Locks the folder, rebuilds the index from it and starts the background threads.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let path = options.data_dir.clone();
        Self::start(options).map_err(|source| match Errno::from_io_error(&source) {
            Some(Errno::WOULDBLOCK) => OpenError::Locked(path),
            _ => OpenError::Io { path, source },
        })
    }

    fn start(options: Options) -> io::Result<Self> {
        std::fs::create_dir_all(&options.data_dir)?;
        let lock = lock(&options.data_dir)?;
        let layout = Layout::create(&options.data_dir)?;
        let pins = Pins::load(layout.pins())?;
        let scrub_pace = options.scrub;
        let shelf = Arc::new(Shelf::new(options, layout, lock));
        let whole = recover::recover(&shelf)?;
        shelf.set_pins(pins.all());
        // The cap may be lower than it was.
        shelf.sweep();

        let mut store = Self {
            shelf: Arc::clone(&shelf),
            pins,
            threads: Vec::new(),
        };
        // From here a failure drops the store, which ends what was started.
        let keeping = Arc::clone(&shelf);
        store.spawn("store-keeper", move || keeper::run(&keeping))?;
        store.spawn("store-scrub", move || {
            recover::adopt(&shelf, &whole);
            scrub::run(&shelf, scrub_pace);
        })?;
        Ok(store)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(builder.spawn(body)?);
        Ok(())
    }

    /// Hashes all held blobs again, as fast as it can. A rotten one is put into `quarantine/` and
    /// forgotten.
    pub fn scrub_once(&self) -> ScrubReport {
        scrub::pass(&self.shelf, None)
    }

    /// Evicts what is expired or above the watermarks, now instead of at the next round.
    pub fn sweep(&self) {
        self.shelf.sweep();
    }

    /// Waits until everything published so far is synced and under its final name.
    pub fn settle(&self) {
        self.keeper().settle();
    }

    fn keeper(&self) -> &Keeper {
        &self.shelf.keeper
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        self.shelf.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
    }
}

impl BlobStore for DiskStore {
    fn open(&self, digest: &Digest) -> Option<HeldBlob> {
        self.shelf.open(digest)
    }

    fn read_again(&self, digest: &Digest) {
        self.shelf.read_again(digest);
    }

    fn examine(&self, blob: &HeldBlob, go_on: &mut dyn FnMut(u64) -> bool) -> Examined {
        self.shelf.examine(blob, go_on)
    }

    fn begin(
        &self,
        digest: &Digest,
        scope: ScopeTag,
        total: u64,
    ) -> Result<Arc<dyn PartialBlob>, StoreError> {
        let partial = self.shelf.begin((*digest, scope), total)?;
        Ok(partial)
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let mut trash = Trash::default();
        self.shelf.remove(digest, &mut trash);
        Ok(())
    }

    fn pin(&self, digest: &Digest) -> Result<(), StoreError> {
        self.pins
            .change(|all| all.insert(*digest), |all| self.shelf.set_pins(all))
    }

    fn unpin(&self, digest: &Digest) -> Result<(), StoreError> {
        self.pins
            .change(|all| all.remove(digest), |all| self.shelf.set_pins(all))
    }

    fn usage(&self) -> Usage {
        self.shelf.usage()
    }
}

fn lock(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("store.lock"))?;
    let deadline = Instant::now() + LOCK_WAIT;
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK || Instant::now() > deadline {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(file)
}
