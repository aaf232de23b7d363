//! Response bodies: nothing, bytes in memory, or slices of a blob of known length.
//!
//! Invariant: a body ends well only with exactly the announced length. When it cannot, the error is
//! held back until everything before it was flushed, so the client keeps what it got.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use swarm::Slice;
use tokio::task::JoinHandle;
use tokio::time::Timeout;

use super::wire::{InFlight, Wire};

/// Any error of a slice stream.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long the disk may take to bring in one slice (2 MiB) before the response is given up.
const DISK_DEADLINE: Duration = Duration::from_secs(30);

type SliceStream = Pin<Box<dyn Stream<Item = Result<Slice, BoxError>> + Send>>;

/// What a service answers with.
pub enum ResponseBody {
    /// No body. For HEAD the service sets Content-Length itself.
    Empty,
    /// Bytes in memory.
    Full(Bytes),
    /// Part of a blob, or all of it. Made by [`ResponseBody::slices`].
    Slices(Slices),
}

/// Slices of together `remaining` bytes.
pub struct Slices {
    stream: SliceStream,
    remaining: u64,
    sent: Option<Counter>,
}

impl ResponseBody {
    /// A body of exactly `length` bytes, announced as Content-Length. When the stream errs, ends
    /// early or gives too much, the connection is closed by FIN before that length is reached.
    pub fn slices<S, E>(stream: S, length: u64) -> Self
    where
        S: Stream<Item = Result<Slice, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        use futures_util::TryStreamExt as _;
        Self::Slices(Slices {
            stream: Box::pin(stream.map_err(Into::into)),
            remaining: length,
            sent: None,
        })
    }

    /// Counts the bytes of a slice body in `sent` as they are given to the connection.
    #[must_use]
    pub fn counted(mut self, sent: Counter) -> Self {
        if let Self::Slices(slices) = &mut self {
            slices.sent = Some(sent);
        }
        self
    }

    /// Length in bytes, as it will be announced.
    pub fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Full(bytes) => bytes.len() as u64,
            Self::Slices(slices) => slices.remaining,
        }
    }

    /// The whole body in memory, for tests and for callers that need no connection.
    ///
    /// # Errors
    /// As the stream does, and when its length is not the announced one.
    pub async fn collect(self) -> Result<Bytes, BodyError> {
        let body = WireBody::new(self, Wire::detached().begin(true));
        Ok(body.collect().await?.to_bytes())
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Slices(slices) => write!(f, "Slices({} bytes)", slices.remaining),
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

/// Why a response was cut before its announced length.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The stream of slices erred.
    #[error("{0}")]
    Stream(#[source] BoxError),
    /// The stream ended early.
    #[error("{missing} bytes short")]
    Short {
        /// Bytes that were announced and did not come.
        missing: u64,
    },
    /// The stream gave more than was announced.
    #[error("more bytes than announced")]
    Long,
    /// The file could not be read in time.
    #[error("disk gave no answer within {DISK_DEADLINE:?}")]
    Disk,
}

/// A slice that waits for the disk, and the job that reads it.
type Warming = (Slice, Pin<Box<Timeout<JoinHandle<()>>>>);

/// The body that hyper polls: registers files with the connection as their slices come by.
pub(super) struct WireBody {
    body: ResponseBody,
    in_flight: InFlight,
    warming: Option<Warming>,
    failed: Option<BodyError>,
}

impl WireBody {
    pub(super) fn new(body: ResponseBody, in_flight: InFlight) -> Self {
        Self {
            body,
            in_flight,
            warming: None,
            failed: None,
        }
    }

    /// Gives the slice to the connection, or has it read from disk first.
    fn take(&mut self, slice: Slice) -> Option<Bytes> {
        let Some(file) = &slice.file else {
            self.in_flight.wire().queued(None);
            return Some(slice.bytes);
        };
        let length = slice.bytes.len();
        if let Some(start) = file.locate(slice.bytes.as_ptr(), length) {
            let range = start..start + length as u64;
            if !file.resident(range.clone()) {
                let file = Arc::clone(file);
                let job = tokio::task::spawn_blocking(move || file.warm(range));
                let job = Box::pin(tokio::time::timeout(DISK_DEADLINE, job));
                self.warming = Some((slice, job));
                return None;
            }
        }
        Some(self.give(slice))
    }

    fn give(&self, slice: Slice) -> Bytes {
        self.in_flight.wire().queued(slice.file);
        slice.bytes
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if this.failed.is_some() {
                ready!(this.in_flight.wire().poll_flushed(cx));
                return Poll::Ready(this.failed.take().map(Err));
            }
            if let Some((_, job)) = &mut this.warming {
                let done = ready!(job.as_mut().poll(cx));
                if let (Ok(_), Some((slice, _))) = (done, this.warming.take()) {
                    return Poll::Ready(Some(Ok(Frame::data(this.give(slice)))));
                }
                this.failed = Some(BodyError::Disk);
                continue;
            }
            let slices = match &mut this.body {
                ResponseBody::Empty => return Poll::Ready(None),
                ResponseBody::Full(bytes) => {
                    let bytes = std::mem::take(bytes);
                    return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
                }
                ResponseBody::Slices(slices) => slices,
            };
            match ready!(slices.next(cx)) {
                Ok(None) => return Poll::Ready(None),
                Ok(Some(slice)) => {
                    if let Some(bytes) = this.take(slice) {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Err(error) => {
                    tracing::warn!(missing = this.body.length(), %error, "response cut short");
                    this.failed = Some(error);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.warming.is_none() && self.body.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.length())
    }
}

impl Slices {
    /// The next slice that is not empty; `None` at the announced end.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Slice>, BodyError>> {
        loop {
            if self.remaining == 0 {
                return Poll::Ready(Ok(None));
            }
            let slice = match ready!(self.stream.as_mut().poll_next(cx)) {
                Some(Ok(slice)) => slice,
                Some(Err(error)) => return Poll::Ready(Err(BodyError::Stream(error))),
                None => {
                    let missing = self.remaining;
                    return Poll::Ready(Err(BodyError::Short { missing }));
                }
            };
            let length = slice.bytes.len() as u64;
            if length > self.remaining {
                return Poll::Ready(Err(BodyError::Long));
            }
            if length > 0 {
                self.remaining -= length;
                if let Some(sent) = &self.sent {
                    sent.inc_by(length);
                }
                return Poll::Ready(Ok(Some(slice)));
            }
        }
    }
}
