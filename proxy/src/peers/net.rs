//! Connections to all peers: dialled when needed, kept while they are warm.
//!
//! Invariant: a request has a connection for itself from its first byte to its answer's last; how
//! many there are at once is decided by whoever asks (the scheduler's slots). System proxy variables
//! do not apply: peers are addresses of our own network.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::buffer::{Buffers, FRAME_MAX};
use super::head::Head;
use super::link::{Broken, Link};
use crate::ratelimit::Bucket;

/// A peer is in our own network: one that does not take a connection by then does not matter.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest silence within a body. Who wants the bytes sooner has asked somebody else meanwhile.
const IDLE_BODY: Duration = Duration::from_secs(10);
/// How long an unused connection is kept; the other side keeps it three times as long.
const KEEP: Duration = Duration::from_secs(60);
/// How often unused connections are looked at.
const TIDY_EVERY: Duration = Duration::from_secs(15);
/// Unused connections kept for one peer: more than any scheduler's slots at it.
const KEPT_PER_PEER: usize = 16;
/// Unused connections kept in all; each is a descriptor here and at the peer.
const KEPT_IN_ALL: usize = 512;

/// All connections of a node to its peers.
pub(super) struct Net {
    kept: Mutex<Kept>,
    buffers: Arc<Buffers>,
    ratelimit: Option<Arc<Bucket>>,
}

type Kept = HashMap<Arc<str>, Vec<(Instant, Link)>>;

/// Why a request to a peer brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetError {
    /// Its name has no address, or none of them takes a connection.
    #[error("cannot be reached: {0}")]
    Unreached(#[source] io::Error),
    /// A deadline passed.
    #[error("no answer in time")]
    Late,
    /// The connection.
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Net {
    pub(super) fn new(ratelimit: Option<Arc<Bucket>>) -> Self {
        Self {
            kept: Mutex::default(),
            buffers: Arc::default(),
            ratelimit,
        }
    }

    /// Sends a request to `at` and resolves with the head of its answer and the way to its body.
    pub(super) async fn ask(
        self: &Arc<Self>,
        at: &Arc<str>,
        request: &[u8],
        within: Duration,
    ) -> Result<(Head, Body), NetError> {
        if let Some(link) = self.take(at) {
            match self.ask_on(link, at, request, within).await {
                // It may have been idle for too long; a new one tells.
                Err(NetError::Broken(Broken::Unanswered(_))) => {}
                answer => return answer,
            }
        }
        let link = timeout(CONNECT, dial(at)).await;
        let link = link.map_err(|_| NetError::Unreached(io::ErrorKind::TimedOut.into()))?;
        let link = link.map_err(NetError::Unreached)?;
        self.ask_on(link, at, request, within).await
    }

    async fn ask_on(
        self: &Arc<Self>,
        mut link: Link,
        at: &Arc<str>,
        request: &[u8],
        within: Duration,
    ) -> Result<(Head, Body), NetError> {
        let head = timeout(within, link.ask(request)).await;
        let head = head.map_err(|_| NetError::Late)??;
        let mut body = Body {
            net: self.clone(),
            at: at.clone(),
            left: head.length,
            link: Some(link),
            keeps: head.keeps,
        };
        body.give_back_if_read();
        Ok((head, body))
    }

    fn take(&self, at: &Arc<str>) -> Option<Link> {
        let mut kept = self.lock();
        let (_, mut link) = kept.get_mut(at)?.pop()?;
        link.reused = true;
        Some(link)
    }

    fn put(&self, at: &Arc<str>, link: Link) {
        let mut kept = self.lock();
        if kept.values().map(Vec::len).sum::<usize>() >= KEPT_IN_ALL {
            return;
        }
        let there = kept.entry(at.clone()).or_default();
        if there.len() < KEPT_PER_PEER {
            there.push((Instant::now(), link));
        }
    }

    /// Closes what nobody has used for long, until `shutdown`; then everything.
    pub(super) async fn tidy(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(TIDY_EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            self.lock().retain(|_, links| {
                links.retain(|(since, _)| now.duration_since(*since) < KEEP);
                !links.is_empty()
            });
        }
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn dial(at: &str) -> io::Result<Link> {
    let addresses: Vec<SocketAddr> = match at.parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host(at).await?.collect(),
    };
    Link::dial(&addresses).await
}

/// The body of an answer. Dropping it early closes its connection.
pub(super) struct Body {
    net: Arc<Net>,
    at: Arc<str>,
    left: u64,
    /// None once all was read, or after an error.
    link: Option<Link>,
    keeps: bool,
}

impl Body {
    /// The next bytes, as many as there are up to [`FRAME_MAX`]; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, NetError>> {
        let mut link = self.link.take()?;
        let mut frame = self.net.buffers.take();
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
        let wanted = wanted.min(FRAME_MAX);
        if let Err(error) = link.fill(&mut frame, wanted, IDLE_BODY).await {
            return Some(Err(error.into()));
        }
        self.left -= frame.len() as u64;
        self.link = Some(link);
        self.give_back_if_read();
        self.pay(frame.len()).await;
        Some(Ok(self.net.buffers.bytes(frame)))
    }

    /// All of it, if it has at most `max` bytes.
    pub(super) async fn collect(mut self, max: u64) -> Result<Option<Vec<u8>>, NetError> {
        if self.left > max {
            return Ok(None);
        }
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            all.extend_from_slice(&frame?);
        }
        Ok(Some(all))
    }

    fn give_back_if_read(&mut self) {
        if self.left == 0
            && let Some(link) = self.link.take()
            && self.keeps
        {
            self.net.put(&self.at, link);
        }
    }

    /// Before the bytes are passed on: a piece is one frame, so there is no later to pay at.
    async fn pay(&self, bytes: usize) {
        let bucket = self.net.ratelimit.as_ref();
        if let Some(until) = bucket.and_then(|it| it.take(bytes, std::time::Instant::now())) {
            tokio::time::sleep_until(Instant::from_std(until)).await;
        }
    }
}
