//! The body of a request: all of it at hand, or as it comes from somebody else.
//!
//! A body that comes is sent once, at the pace of the slower side, and never held but for the piece
//! under way. Whoever waits for the answer sees by its [`Progress`] whether the other side still
//! takes it. The giver's own silence is the giver's affair: its stream must end by itself.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Any error of a body's giver.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a body may wait for leave to be sent (RFC 9110, 10.1.1: never for ever).
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// A request's body that comes from somebody else.
pub struct Upload {
    /// Locked by nobody: only for the compiler, which must see that no two threads use it.
    stream: Mutex<BoxStream<'static, Result<Bytes, BoxError>>>,
    length: Option<u64>,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    /// Resolves when the other side wants the body.
    leave: Option<Mutex<BoxFuture<'static, ()>>>,
    progress: Arc<Progress>,
}

impl Upload {
    /// A body of this length; without one it is sent in chunks.
    pub fn new(stream: BoxStream<'static, Result<Bytes, BoxError>>, length: Option<u64>) -> Self {
        let progress = Progress::default();
        if length == Some(0) {
            progress.saw(Giver::Ended);
        }
        Self {
            stream: Mutex::new(stream),
            length,
            left: length,
            leave: None,
            progress: Arc::new(progress),
        }
    }

    /// A body of no bytes.
    pub fn none() -> Self {
        Self::new(Box::pin(futures_util::stream::empty()), Some(0))
    }

    /// Its length in bytes, if that is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Sends nothing until the other side says `100 Continue`, or for a second; the result says it.
    pub(super) fn wait_for_leave(&mut self) -> Leave {
        let (gives, given) = oneshot::channel();
        self.leave = Some(Mutex::new(Box::pin(async move {
            // Given, no longer to be had, or late: all of them mean to go on.
            let _ = tokio::time::timeout(LEAVE_WAIT, given).await;
        })));
        Leave(Mutex::new(Some(gives)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if let Some(leave) = &mut self.leave {
            let leave = leave.get_mut().unwrap_or_else(PoisonError::into_inner);
            ready!(leave.as_mut().poll(cx));
            self.leave = None;
        }
        let stream = self.stream.get_mut();
        let stream = stream.unwrap_or_else(PoisonError::into_inner);
        let polled = stream.as_mut().poll_next(cx);
        let saw = match &polled {
            Poll::Pending => Giver::Slow,
            Poll::Ready(Some(Ok(bytes))) => {
                let left = self
                    .left
                    .map(|left| left.saturating_sub(bytes.len() as u64));
                self.left = left;
                // Nobody asks for the end of a body whose length was told.
                if left == Some(0) {
                    Giver::Ended
                } else {
                    Giver::Gave
                }
            }
            Poll::Ready(Some(Err(_)) | None) => Giver::Ended,
        };
        self.progress.saw(saw);
        polled
    }
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Lets a body that waits be sent.
pub(super) struct Leave(Mutex<Option<oneshot::Sender<()>>>);

impl Leave {
    pub(super) fn give(&self) {
        let gives = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gives) = gives {
            // The body may have gone on without it.
            let _ = gives.send(());
        }
    }
}

/// What the giver of a body did when it was last asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Giver {
    /// It has not been asked.
    Idle,
    Slow,
    Gave,
    Ended,
}

/// How far a body is on its way.
pub(super) struct Progress(Mutex<(Giver, Instant)>);

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new((Giver::Idle, Instant::now())))
    }
}

impl Progress {
    fn saw(&self, giver: Giver) {
        *self.lock() = (giver, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, (Giver, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves with what is late when the other side has not taken anything for `idle`, or has not
    /// answered `answer` after the body's end. Time in which the giver is slow does not count.
    pub(super) async fn late(&self, idle: Duration, answer: Duration) -> &'static str {
        loop {
            let (giver, since) = *self.lock();
            let (wait, what) = match giver {
                Giver::Ended => (answer, "answering"),
                Giver::Idle | Giver::Gave => (idle, "taking the body"),
                Giver::Slow => {
                    tokio::time::sleep(idle).await;
                    continue;
                }
            };
            let until = since + wait;
            if until <= Instant::now() {
                return what;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The body of any request.
pub(super) enum Outgoing {
    Whole(Full<Bytes>),
    Stream(Upload),
}

impl Outgoing {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(full) => {
                let polled = ready!(Pin::new(full).poll_frame(cx));
                Poll::Ready(polled.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Stream(upload) => {
                let polled = ready!(upload.poll(cx));
                Poll::Ready(polled.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(full) => full.is_end_stream(),
            Self::Stream(upload) => upload.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(full) => full.size_hint(),
            Self::Stream(upload) => upload.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
