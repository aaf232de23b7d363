//! A source in memory that does what a test tells it: gates, cuts, stalls, lies, refusals.
//!
//! No sleeps: a gate holds bytes back until the test opens it.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use oci::Digest;
use swarm::{Fault, FetchRange, Fetched, Origin, PieceSource, SourceError};
use tokio::sync::watch;

const FRAME: u64 = 64 << 10;

/// Deterministic bytes that do not repeat.
pub(crate) fn content(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ length as u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The scripted source. Its state is shared by all clones of the `Arc`.
pub(crate) struct Scripted {
    name: String,
    inner: Arc<Inner>,
}

struct Inner {
    content: Bytes,
    requests: Mutex<Vec<FetchRange>>,
    sent: AtomicU64,
    /// No byte at or after this offset is sent while a gate of this kind is shut.
    gate: watch::Sender<u64>,
    /// As `gate`, for bytes before `gate_until` only.
    head: watch::Sender<bool>,
    refusals: Mutex<VecDeque<Fault>>,
    /// Offsets at which a body is cut, each once.
    cuts: Mutex<Vec<u64>>,
    /// Offsets at which a body stalls for ever, each once.
    stalls: Mutex<Vec<u64>>,
    ranges: bool,
}

impl Scripted {
    pub(crate) fn new(content: &Bytes) -> Arc<Self> {
        Self::named("scripted", content)
    }

    pub(crate) fn named(name: &str, content: &Bytes) -> Arc<Self> {
        Self::build(name, content, true)
    }

    /// One that answers ranges with a lie.
    pub(crate) fn without_ranges(content: &Bytes) -> Arc<Self> {
        Self::build("rangeless", content, false)
    }

    fn build(name: &str, content: &Bytes, ranges: bool) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            inner: Arc::new(Inner {
                content: content.clone(),
                requests: Mutex::default(),
                sent: AtomicU64::new(0),
                gate: watch::channel(u64::MAX).0,
                head: watch::channel(true).0,
                refusals: Mutex::default(),
                cuts: Mutex::default(),
                stalls: Mutex::default(),
                ranges,
            }),
        })
    }

    /// Bytes of bodies that began at 0 are sent only before this offset, from now on.
    pub(crate) fn gate(&self, offset: u64) {
        self.inner.gate.send_replace(offset);
    }

    /// Whether heads are sent.
    pub(crate) fn gate_heads(&self, open: bool) {
        self.inner.head.send_replace(open);
    }

    pub(crate) fn refuse(&self, fault: Fault) {
        self.inner.refusals.lock().unwrap().push_back(fault);
    }

    pub(crate) fn cut_at(&self, offset: u64) {
        self.inner.cuts.lock().unwrap().push(offset);
    }

    pub(crate) fn stall_at(&self, offset: u64) {
        self.inner.stalls.lock().unwrap().push(offset);
    }

    pub(crate) fn requests(&self) -> Vec<FetchRange> {
        self.inner.requests.lock().unwrap().clone()
    }

    /// Body bytes given so far.
    pub(crate) fn sent(&self) -> u64 {
        self.inner.sent.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn take(list: &Mutex<Vec<u64>>, range: std::ops::Range<u64>) -> Option<u64> {
        let mut list = list.lock().unwrap();
        let index = list.iter().position(|at| range.contains(at))?;
        Some(list.swap_remove(index))
    }

    async fn answer(self: Arc<Self>, range: FetchRange) -> Result<Fetched, SourceError> {
        self.requests.lock().unwrap().push(range.clone());
        let mut head = self.head.subscribe();
        let _ = head.wait_for(|open| *open).await;
        if let Some(fault) = self.refusals.lock().unwrap().pop_front() {
            return Err(fault.into());
        }
        if !self.ranges && range != FetchRange::All {
            return Err(SourceError::wrong("200 for a range"));
        }
        let total = self.content.len() as u64;
        let unsatisfiable = || SourceError::from(Fault::Unsatisfiable { total });
        let span = range.resolve(total).ok_or_else(unsatisfiable)?;
        let gated = span.start == 0;
        let state = (self, span.clone());
        let body = stream::unfold(state, move |(inner, left)| async move {
            let item = inner.next_frame(&left, gated).await?;
            let sent = item
                .as_ref()
                .map_or(left.end - left.start, |b| b.len() as u64);
            Some((item, (inner, left.start + sent..left.end)))
        });
        Ok(Fetched {
            total,
            start: span.start,
            body: body.boxed(),
        })
    }

    async fn next_frame(
        &self,
        left: &std::ops::Range<u64>,
        gated: bool,
    ) -> Option<Result<Bytes, SourceError>> {
        if left.is_empty() {
            return None;
        }
        if Self::take(&self.cuts, left.start..left.start + 1).is_some() {
            return Some(Err(SourceError::unavailable("cut")));
        }
        if Self::take(&self.stalls, left.start..left.start + 1).is_some() {
            return std::future::pending().await;
        }
        let mut end = left.end.min(left.start + FRAME);
        if gated {
            let mut gate = self.gate.subscribe();
            let open = *gate.wait_for(|open| *open > left.start).await.ok()?;
            end = end.min(open);
        }
        for list in [&self.cuts, &self.stalls] {
            let ahead = list.lock().unwrap();
            let next = ahead.iter().copied().filter(|at| *at > left.start);
            end = next.fold(end, u64::min);
        }
        self.sent.fetch_add(end - left.start, Ordering::SeqCst);
        Some(Ok(self.content.slice(left.start as usize..end as usize)))
    }
}

impl PieceSource for Scripted {
    fn origin(&self) -> Origin {
        Origin::Upstream
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn fetch<'a>(
        &'a self,
        _digest: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        Box::pin(self.inner.clone().answer(range))
    }
}
