//! The store's background thread: write-back of arriving bytes, syncs of published blobs, sweeps.
//!
//! Invariant: no reader and no writer waits for this thread. Hints to write back are dropped when
//! it lags; a sync never is, and there are at most as many as unsynced blobs in the index.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::shelf::Shelf;
use super::{BlobFile, HeldBlob};

/// How often what is expired or above the watermarks is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Beyond this many jobs a hint to write back is dropped: the sync at the end does the same later.
const HINTS_MOST: usize = 64;

#[derive(Default)]
pub(super) struct Keeper {
    queue: Mutex<Queue>,
    /// A job came, the last job ended, or it is time to stop.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    busy: bool,
    stopped: bool,
}

enum Job {
    WriteBack(Weak<BlobFile>, Range<u64>),
    Sync(HeldBlob),
}

impl Keeper {
    /// Asks for bytes to be on their way to disk, so that the sync at the end is short.
    pub(super) fn write_back(&self, file: &Arc<BlobFile>, range: Range<u64>) {
        let mut queue = self.queue();
        if queue.jobs.len() < HINTS_MOST {
            let job = Job::WriteBack(Arc::downgrade(file), range);
            queue.jobs.push_back(job);
            drop(queue);
            self.changed.notify_all();
        }
    }

    /// Has a published blob synced and named.
    pub(super) fn sync(&self, blob: HeldBlob) {
        self.queue().jobs.push_back(Job::Sync(blob));
        self.changed.notify_all();
    }

    /// Ends the background threads, the syncs first.
    pub(super) fn stop(&self) {
        self.queue().stopped = true;
        self.changed.notify_all();
    }

    /// Waits for `timeout` or the stop; says whether it is time to stop.
    pub(super) fn stopped_within(&self, timeout: Duration) -> bool {
        let queue = self.queue();
        let waited = self
            .changed
            .wait_timeout_while(queue, timeout, |queue| !queue.stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    /// Waits until no job is left.
    pub(super) fn settle(&self) {
        let queue = self.queue();
        let idle = self
            .changed
            .wait_while(queue, |queue| queue.busy || !queue.jobs.is_empty());
        drop(idle);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; `None` when `timeout` is over, or no job is left and it is time to stop.
    fn next(&self, timeout: Duration) -> Option<Job> {
        let mut queue = self.queue();
        queue.busy = false;
        if queue.jobs.is_empty() {
            self.changed.notify_all();
            let none = |queue: &mut Queue| queue.jobs.is_empty() && !queue.stopped;
            let waited = self.changed.wait_timeout_while(queue, timeout, none);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let job = queue.jobs.pop_front();
        queue.busy = job.is_some();
        job
    }
}

/// The thread's body; ends after [`Keeper::stop`] once all syncs are done.
pub(super) fn run(shelf: &Shelf) {
    let mut next_sweep = Instant::now() + SWEEP_EVERY;
    loop {
        let now = Instant::now();
        if now >= next_sweep {
            shelf.sweep();
            next_sweep = now + SWEEP_EVERY;
        }
        match shelf.keeper.next(next_sweep.saturating_duration_since(now)) {
            Some(Job::WriteBack(file, range)) => {
                if let Some(file) = file.upgrade() {
                    file.start_write_back(range);
                }
            }
            Some(Job::Sync(blob)) => shelf.sync(blob),
            None if shelf.keeper.stopped_within(Duration::ZERO) => return,
            None => {}
        }
    }
}
