//! Hash threads: whole-blob digests worked out beside the bytes' way, on OS threads of their own.
//!
//! A blob is pinned to one thread and hashed in order. Bytes are handed over as they came, without a
//! copy, while the hash keeps up; what was there before, or came out of order, is read back from the
//! partial blob. Invariants: every byte is hashed as it lies in the store or as it was given to
//! readers, once; at most [`LAG_MAX`] bytes (and one frame) of a blob wait in memory.
//! Deliberately not here: what the outcome means.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use oci::{Digest, Hasher};
use tokio::sync::Notify;

use crate::store::PartialBlob;

/// Bytes of one blob that may wait in memory for its hash thread.
const LAG_MAX: u64 = 4 << 20;
/// A thread is woken for so many bytes, or for a blob's last ones.
const WAKE: u64 = 256 << 10;
/// Taken at a time, so that blobs on one thread take turns.
const STEP: u64 = 512 << 10;

/// The threads. Dropping it ends them after their current step.
pub(crate) struct HashPool {
    threads: Vec<Worker>,
    next: AtomicUsize,
}

struct Worker {
    runs: Arc<Runs>,
    thread: Option<JoinHandle<()>>,
}

/// The blobs that one thread has to go on with; each at most once, so bounded by the flights.
#[derive(Default)]
struct Runs {
    queue: Mutex<RunQueue>,
    ready: Condvar,
}

#[derive(Default)]
struct RunQueue {
    jobs: VecDeque<Arc<Job>>,
    ended: bool,
}

/// One blob's hash under way. Dropping it abandons the work.
pub(crate) struct Hashing {
    job: Arc<Job>,
    runs: Arc<Runs>,
}

struct Job {
    state: Mutex<JobState>,
    partial: Option<Arc<dyn PartialBlob>>,
    total: u64,
    owner: Arc<Notify>,
}

struct JobState {
    /// Taken by the thread while it works.
    hasher: Option<Hasher>,
    /// All before this offset is hashed or being hashed.
    claimed: u64,
    /// All before this offset has come.
    ready: u64,
    queue: VecDeque<(u64, Bytes)>,
    queued_bytes: u64,
    scheduled: bool,
    outcome: Option<Result<Digest, String>>,
}

impl HashPool {
    /// Starts `threads` threads, at least one.
    pub(crate) fn new(threads: usize) -> Self {
        let worker = |index: usize| {
            let runs = Arc::new(Runs::default());
            let own = runs.clone();
            let thread = std::thread::Builder::new()
                .name(format!("hash-{index}"))
                .spawn(move || own.run())
                .map_err(|error| tracing::error!(%error, "no hash thread"))
                .ok();
            Worker { runs, thread }
        };
        Self {
            threads: (0..threads.max(1)).map(worker).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Begins the hash of a blob; `owner` is told of room in the queue and of the outcome.
    pub(crate) fn start(
        &self,
        digest: &Digest,
        total: u64,
        partial: Option<Arc<dyn PartialBlob>>,
        owner: Arc<Notify>,
    ) -> Hashing {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let runs = self.threads[turn % self.threads.len()].runs.clone();
        let state = JobState {
            hasher: Some(Hasher::new(digest.algorithm())),
            claimed: 0,
            ready: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            scheduled: false,
            outcome: None,
        };
        let job = Arc::new(Job {
            state: Mutex::new(state),
            partial,
            total,
            owner,
        });
        Hashing { job, runs }
    }

    /// Ends the threads and waits for them: at most one step each.
    pub(crate) fn end(&mut self) {
        for worker in &self.threads {
            worker.runs.lock().ended = true;
            worker.runs.ready.notify_one();
        }
        for worker in &mut self.threads {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a hash thread panicked");
            }
        }
    }
}

impl Drop for HashPool {
    fn drop(&mut self) {
        self.end();
    }
}

impl Hashing {
    /// Says that all before `ready` has come.
    pub(crate) fn advance(&self, ready: u64) {
        let mut state = self.job.lock();
        state.ready = state.ready.max(ready);
        self.schedule(state);
    }

    /// Hands over bytes that have just come for the first time and that the store, if it takes bytes
    /// at all, has at `offset`. They are left to be read back if they are not next in line, unless
    /// `only_copy` says that nobody else has them.
    pub(crate) fn offer(&self, offset: u64, bytes: Bytes, only_copy: bool) {
        let mut state = self.job.lock();
        let next = state
            .queue
            .back()
            .map_or(state.claimed, |(at, last)| at + last.len() as u64);
        if offset == next || (only_copy && offset > next) {
            state.queued_bytes += bytes.len() as u64;
            state.queue.push_back((offset, bytes));
        }
    }

    /// Whether no more bytes should be offered for now. The owner is told when there is room.
    pub(crate) fn is_full(&self) -> bool {
        self.job.lock().queued_bytes >= LAG_MAX
    }

    /// The digest, or why it could not be worked out; `None` while it is under way.
    pub(crate) fn outcome(&self) -> Option<Result<Digest, String>> {
        self.job.lock().outcome.clone()
    }

    fn schedule(&self, mut state: MutexGuard<'_, JobState>) {
        let waiting = state.ready - state.claimed.min(state.ready);
        let due = waiting >= WAKE || state.ready >= self.job.total;
        if !due || state.scheduled || state.outcome.is_some() {
            return;
        }
        state.scheduled = true;
        drop(state);
        self.runs.push(self.job.clone());
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        let mut state = self.job.lock();
        state.queue.clear();
        state.outcome.get_or_insert(Err("abandoned".to_owned()));
    }
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, RunQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Arc<Job>) {
        self.lock().jobs.push_back(job);
        self.ready.notify_one();
    }

    fn run(&self) {
        let mut buffer = Vec::new();
        loop {
            let mut queue = self.lock();
            let job = loop {
                if queue.ended {
                    return;
                }
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                queue = self
                    .ready
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            match catch_unwind(AssertUnwindSafe(|| job.step(&mut buffer))) {
                Ok(true) => self.push(job),
                Ok(false) => {}
                Err(_) => job.fail("hashing panicked".to_owned()),
            }
        }
    }
}

/// What a step hashes.
enum Work {
    Given(Vec<Bytes>),
    Stored(u64, usize),
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes up to [`STEP`] bytes; true when it should be called again.
    fn step(&self, buffer: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return false;
        }
        let Some(mut hasher) = state.hasher.take() else {
            return false;
        };
        let work = state.claim();
        let made_room = state.queued_bytes < LAG_MAX;
        drop(state);
        match work {
            Work::Given(frames) => frames.iter().for_each(|bytes| hasher.update(bytes)),
            Work::Stored(offset, len) => {
                buffer.resize(len.max(buffer.len()), 0);
                let read = match &self.partial {
                    _ if len == 0 => Ok(()),
                    Some(partial) => partial.read_at(offset, &mut buffer[..len]),
                    None => Err(std::io::Error::other("bytes passed by").into()),
                };
                if let Err(error) = read {
                    self.fail(format!("cannot read back: {error}"));
                    return false;
                }
                hasher.update(&buffer[..len]);
            }
        }
        let mut state = self.lock();
        let done = state.claimed >= self.total;
        if done {
            state.outcome.get_or_insert_with(|| Ok(hasher.finish()));
        } else {
            state.hasher = Some(hasher);
        }
        let more = !done && state.claimed < state.ready;
        state.scheduled = more;
        drop(state);
        if done || made_room {
            self.owner.notify_one();
        }
        more
    }

    fn fail(&self, why: String) {
        self.lock().outcome.get_or_insert(Err(why));
        self.owner.notify_one();
    }
}

impl JobState {
    fn claim(&mut self) -> Work {
        let start = self.claimed;
        let given_at = self.queue.front().map_or(u64::MAX, |(at, _)| *at);
        if given_at != start {
            let end = self.ready.min(given_at).min(start + STEP);
            self.claimed = end.max(start);
            return Work::Stored(start, usize::try_from(self.claimed - start).unwrap_or(0));
        }
        let mut frames = Vec::new();
        while self.claimed - start < STEP
            && self
                .queue
                .front()
                .is_some_and(|(at, _)| *at == self.claimed)
        {
            let Some((_, bytes)) = self.queue.pop_front() else {
                break;
            };
            self.claimed += bytes.len() as u64;
            self.queued_bytes -= bytes.len() as u64;
            frames.push(bytes);
        }
        Work::Given(frames)
    }
}
