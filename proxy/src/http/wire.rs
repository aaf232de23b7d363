//! What the response bodies and the socket of one connection know of each other.
//!
//! Invariant: a file is registered before a slice of it is queued, and forgotten at the first flush
//! after it, so an idle connection holds no descriptor of a blob. Both sides run in the task of the
//! connection; the lock is there for the compiler and is never contended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use swarm::BlobFile;

/// What a server has moved, over all connections.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes of blob files sent by `sendfile`.
    pub sendfile_bytes: AtomicU64,
    /// Bytes sent from memory: heads, manifests, errors, and blobs that are not in a file.
    pub memory_bytes: AtomicU64,
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Of these, idle ones that hold nothing but their socket.
    pub parked: AtomicU64,
    /// Requests being answered now.
    pub in_flight: AtomicU64,
}

impl Traffic {
    /// Counts one in `gauge` until the result is dropped.
    pub(super) fn one(gauge: &AtomicU64) -> One<'_> {
        gauge.fetch_add(1, Ordering::Relaxed);
        One(gauge)
    }

    pub(super) fn add(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// One in a gauge.
pub(super) struct One<'a>(&'a AtomicU64);

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The shared state of one connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    traffic: Arc<Traffic>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Arc<BlobFile>>,
    unflushed: bool,
    flush_waiter: Option<Waker>,
    in_flight: usize,
    requests: u64,
    /// The last request had a body: unread rests of it may still be on the socket.
    had_body: bool,
}

/// What a connection is doing, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// A request is being answered, or its answer is on the way.
    Busy,
    /// Nothing to do, after so many requests. `parkable`: nothing of a request can be left over.
    Idle { requests: u64, parkable: bool },
}

impl Wire {
    /// One that belongs to no socket: everything counts as flushed at once.
    pub(super) fn detached() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn new(traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self {
            traffic,
            state: Mutex::default(),
        })
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come in; it is over when the result is dropped.
    pub(super) fn begin(self: Arc<Self>, without_body: bool) -> InFlight {
        let mut state = self.state();
        state.in_flight += 1;
        state.requests += 1;
        state.had_body = !without_body;
        state.unflushed = true;
        drop(state);
        self.traffic.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { wire: self }
    }

    pub(super) fn activity(&self) -> Activity {
        let state = self.state();
        if state.in_flight > 0 || state.unflushed {
            return Activity::Busy;
        }
        Activity::Idle {
            requests: state.requests,
            parkable: !state.had_body,
        }
    }

    /// Bytes were given to the connection; if they lie in `file`, it will find them.
    pub(super) fn queued(&self, file: Option<Arc<BlobFile>>) {
        let mut state = self.state();
        state.unflushed = true;
        if let Some(file) = file
            && !state.files.iter().any(|known| Arc::ptr_eq(known, &file))
        {
            state.files.push(file);
        }
    }

    /// The file that `bytes` lie in, and where.
    pub(super) fn locate(&self, bytes: &[u8]) -> Option<(Arc<BlobFile>, u64)> {
        let state = self.state();
        state.files.iter().rev().find_map(|file| {
            let offset = file.locate(bytes.as_ptr(), bytes.len())?;
            Some((Arc::clone(file), offset))
        })
    }

    /// Nothing is queued any more.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        state.files.clear();
        state.unflushed = false;
        if let Some(waiter) = state.flush_waiter.take() {
            waiter.wake();
        }
    }

    /// Waits until everything queued so far was flushed.
    pub(super) fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if !state.unflushed {
            return Poll::Ready(());
        }
        state.flush_waiter = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A request that is not yet fully answered.
pub(super) struct InFlight {
    wire: Arc<Wire>,
}

impl InFlight {
    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.wire.state().in_flight -= 1;
        self.wire.traffic.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
