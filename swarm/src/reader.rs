//! Reading a blob, held or still arriving, at any offset.
//!
//! Invariant: no stream gives a byte of the blob's last 64 KiB ([`WITHHELD_TAIL`]) before the whole
//! blob's digest fits, and none is held back before that. A stream that must give up ends with an
//! error after the good bytes; whoever sends them then ends the response short, with a FIN.
//! Deliberately not here: fetching, storing and hashing.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;

use crate::source::{Fault, SourceError};
use crate::store::{HeldBlob, Slice};

/// Bytes at a blob's end that are withheld until the whole digest fits.
pub const WITHHELD_TAIL: u64 = 64 << 10;

/// Most bytes in one slice: what one `sendfile` call takes.
pub const SLICE_MAX: u64 = 2 << 20;

/// How a read found its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Complete and verified in the store; this reader's source was not asked.
    Held,
    /// On its way already; this reader's source was not asked, so its rights are unproven.
    Joined,
    /// This reader's own source was asked and has answered with the blob.
    Started,
}

/// Why a read, or a stream in the middle, ends without the bytes.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The first range asked for lies beyond the end (HTTP 416).
    #[error("range beyond the end of {total} bytes")]
    Unsatisfiable {
        /// Size of the blob in bytes.
        total: u64,
    },
    /// No source gives the bytes; this is what the last one, or the reader's own one, said.
    #[error("no source gives the blob")]
    Source(#[from] SourceError),
    /// The bytes that the sources gave do not have the digest. All of them were dropped.
    #[error("the bytes do not have the digest")]
    WrongDigest,
    /// Our own storage failed under a reader, or a reader was too slow for the bounded memory that
    /// stands in for storage.
    #[error("storage failed: {0}")]
    Storage(String),
    /// The process is ending.
    #[error("shutting down")]
    ShutDown,
}

impl ReadError {
    /// What the source asked us to wait, when it limits us.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Source(SourceError {
                fault: Fault::Limited { retry_after },
                ..
            }) => *retry_after,
            _ => None,
        }
    }
}

/// A place at a blob. Dropping it, and all its streams, leaves the flight.
#[derive(Debug)]
pub struct BlobReader {
    blob: HeldBlob,
    how: How,
}

impl BlobReader {
    pub(crate) fn of_held(blob: HeldBlob) -> Self {
        Self {
            blob,
            how: How::Held,
        }
    }

    /// Size of the whole blob in bytes.
    pub fn total(&self) -> u64 {
        self.blob.total()
    }

    /// How the blob was found; see [`Want`](crate::engine::Want) for what it says about rights.
    pub fn how(&self) -> How {
        self.how
    }

    /// The blob when it was held at the time of the read.
    pub fn held(&self) -> Option<&HeldBlob> {
        Some(&self.blob)
    }

    /// The bytes of `range`, cut to the blob's length, in slices of at most [`SLICE_MAX`].
    ///
    /// May be called several times (multipart ranges); the first call should be for the range that
    /// the read announced. The stream lives on its own: the reader may be dropped.
    pub fn stream(&self, range: Range<u64>) -> BlobStream {
        let end = range.end.min(self.total());
        BlobStream {
            blob: self.blob.clone(),
            next: range.start.min(end)..end,
        }
    }
}

/// The bytes of one range; see [`BlobReader::stream`].
#[derive(Debug)]
pub struct BlobStream {
    blob: HeldBlob,
    next: Range<u64>,
}

impl Stream for BlobStream {
    type Item = Result<Slice, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.next.is_empty() {
            return Poll::Ready(None);
        }
        let end = self.next.end.min(self.next.start + SLICE_MAX);
        let slice = self.blob.slice(self.next.start..end);
        self.next.start = if slice.is_some() { end } else { self.next.end };
        let missing = || ReadError::Storage("held blob is shorter than its length".to_owned());
        Poll::Ready(Some(slice.ok_or_else(missing)))
    }
}
