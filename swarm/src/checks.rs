//! Checks of held blobs that are not trusted: after a start, or when the file changed.
//!
//! Invariants: one check of a blob at a time, which all its readers wait for; a bounded number at
//! work; each is a task of the engine, which stops them and waits for them. A check goes on when its
//! readers have left: the next ones need it too.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::Digest;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::store::{BlobStore, Examined, HeldBlob};

/// Blobs up to this size are checked in less than the time of a request, and do not wait for a turn
/// behind large ones.
const SMALL_BYTES: u64 = 1 << 20;
/// Small ones that are checked at once; each takes its size in memory.
const SMALL_MOST: usize = 16;

/// The checks under way.
pub(crate) struct Checks {
    store: Arc<dyn BlobStore>,
    running: Mutex<HashMap<Digest, watch::Receiver<Option<Examined>>>>,
    large: Semaphore,
    small: Semaphore,
    tasks: TaskTracker,
    ending: CancellationToken,
}

impl Checks {
    /// Checks of blobs in `store`, `most` large ones at work, as tasks among `tasks` until `ending`.
    pub(crate) fn new(
        store: Arc<dyn BlobStore>,
        most: usize,
        tasks: TaskTracker,
        ending: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            running: Mutex::default(),
            large: Semaphore::new(most.max(1)),
            small: Semaphore::new(SMALL_MOST),
            tasks,
            ending,
        })
    }

    pub(crate) fn store(&self) -> &dyn BlobStore {
        &*self.store
    }

    /// Whether checks are being stopped.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Joins the check of the blob, or starts it. Dropping the future leaves the check.
    pub(crate) fn join(
        self: &Arc<Self>,
        blob: &HeldBlob,
    ) -> impl Future<Output = Examined> + Send + use<> {
        let mut told = self.start(blob);
        async move {
            let found = told.wait_for(Option::is_some).await;
            found
                .map_or(None, |found| *found)
                .unwrap_or(Examined::Undecided)
        }
    }

    /// Starts the check of the blob unless it is under way.
    pub(crate) fn start(self: &Arc<Self>, blob: &HeldBlob) -> watch::Receiver<Option<Examined>> {
        let mut running = self.running();
        if let Some(told) = running.get(blob.digest()) {
            return told.clone();
        }
        let (tell, told) = watch::channel(None);
        running.insert(*blob.digest(), told.clone());
        drop(running);
        let listed = Listed {
            checks: Arc::clone(self),
            digest: *blob.digest(),
        };
        let blob = blob.clone();
        self.tasks.spawn(async move {
            let found = listed.checks.check(blob).await;
            // Off the list first: whoever comes now finds the blob trusted, or gone.
            drop(listed);
            tell.send_replace(Some(found));
        });
        told
    }

    async fn check(self: &Arc<Self>, blob: HeldBlob) -> Examined {
        let turns = match blob.total() <= SMALL_BYTES {
            true => &self.small,
            false => &self.large,
        };
        let turn = self.ending.run_until_cancelled(turns.acquire()).await;
        let Some(Ok(_turn)) = turn else {
            return Examined::Undecided;
        };
        let checks = Arc::clone(self);
        let examined = tokio::task::spawn_blocking(move || {
            let mut go_on = |_| !checks.ending.is_cancelled();
            checks.store.examine(&blob, &mut go_on)
        });
        examined.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the check of a held blob failed");
            Examined::Undecided
        })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Option<Examined>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a check off the list however its task ends.
struct Listed {
    checks: Arc<Checks>,
    digest: Digest,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.checks.running().remove(&self.digest);
    }
}
