//! Reading a blob, held or still arriving, at any offset.
//!
//! Invariant: no stream gives a byte of the blob's last 64 KiB ([`WITHHELD_TAIL`]) before the whole
//! blob's digest fits, and none is held back before that. A stream that must give up ends with an
//! error after the good bytes; whoever sends them then ends the response short, with a FIN.
//! Deliberately not here: fetching, storing and hashing.

use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::BoxFuture;

use crate::engine::{Engine, Want};
use crate::flight::{Answer, Board, Look};
use crate::held::{Held, HeldWay};
use crate::source::{Fault, SourceError};
use crate::store::{HeldBlob, Slice};
use crate::transfer::ReaderId;

/// Bytes at a blob's end that are withheld until the whole digest fits.
pub const WITHHELD_TAIL: u64 = 64 << 10;

/// Most bytes in one slice: what one `sendfile` call takes.
pub const SLICE_MAX: u64 = 2 << 20;

/// How a read found its blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Complete in the store, and verified when it came; this reader's source was not asked.
    Held,
    /// On its way already; this reader's source was not asked, so its rights are unproven.
    Joined,
    /// This reader's own source was asked and has answered with the blob.
    Started,
    /// On its way within the swarm, whose leader says that upstream serves it to anybody in the
    /// repository that this reader named.
    Shared,
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
    total: u64,
    how: How,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Held(Held),
    Flight(Box<Aboard>),
}

/// What a reader of a flight needs for its streams.
#[derive(Debug)]
struct Aboard {
    engine: Engine,
    want: Want,
    board: Arc<Board>,
    reader: ReaderId,
    seat: Mutex<Seat>,
}

impl BlobReader {
    pub(crate) fn of_held(held: Held) -> Self {
        Self {
            total: held.blob.total(),
            how: How::Held,
            place: Place::Held(held),
        }
    }

    pub(crate) fn of_flight(engine: Engine, want: Want, seat: Seat, how: How) -> Self {
        let aboard = Aboard {
            engine,
            want,
            board: seat.board.clone(),
            reader: seat.reader,
            seat: Mutex::new(seat),
        };
        Self {
            total: aboard.board.total(),
            how,
            place: Place::Flight(Box::new(aboard)),
        }
    }

    /// Size of the whole blob in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How the blob was found; see [`Want`](crate::engine::Want) for what it says about rights.
    pub fn how(&self) -> How {
        self.how
    }

    /// The blob when it was held at the time of the read.
    pub fn held(&self) -> Option<&HeldBlob> {
        match &self.place {
            Place::Held(held) => Some(&held.blob),
            Place::Flight(_) => None,
        }
    }

    /// The bytes of `range`, cut to the blob's length, in slices of at most [`SLICE_MAX`].
    ///
    /// May be called several times (multipart ranges); the first call should be for the range that
    /// the read announced. The stream lives on its own: the reader may be dropped.
    pub fn stream(&self, range: Range<u64>) -> BlobStream {
        let end = range.end.min(self.total);
        let next = range.start.min(end)..end;
        let via = match &self.place {
            Place::Held(held) => Via::Held(held.way()),
            Place::Flight(aboard) => aboard.stream(next.clone()),
        };
        BlobStream {
            next,
            total: self.total,
            via,
        }
    }
}

impl Aboard {
    /// The first stream takes over the place of the read, which keeps its own needs alive till then;
    /// the reader keeps one that reads nothing, so that the flight goes on for further streams.
    fn stream(&self, range: Range<u64>) -> Via {
        let mut seat = Seat::new(self.board.clone(), self.board.sit());
        let first = {
            let mut kept = self.seat.lock().unwrap_or_else(PoisonError::into_inner);
            let first = kept.reader == self.reader;
            if first {
                std::mem::swap(&mut *kept, &mut seat);
            }
            first.then_some(kept.reader)
        };
        if let Some(kept) = first {
            self.reads(kept, 0..0);
        }
        self.reads(seat.reader, range);
        Via::Flight {
            seat,
            engine: self.engine.clone(),
            want: self.want.clone(),
        }
    }

    fn reads(&self, reader: ReaderId, range: Range<u64>) {
        let source = self.want.source.clone();
        self.board.reads(reader, self.reader, source, range);
    }
}

/// A reader's place at a flight's board; dropping it leaves the flight.
#[derive(Debug)]
pub(crate) struct Seat {
    board: Arc<Board>,
    reader: ReaderId,
}

impl Seat {
    pub(crate) fn new(board: Arc<Board>, reader: ReaderId) -> Self {
        Self { board, reader }
    }

    pub(crate) async fn answer(&self) -> Answer {
        poll_fn(|cx| self.board.poll_answer(self.reader, cx)).await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.board.leave(self.reader);
    }
}

/// The bytes of one range; see [`BlobReader::stream`].
pub struct BlobStream {
    next: Range<u64>,
    total: u64,
    via: Via,
}

enum Via {
    Held(HeldWay),
    Flight {
        seat: Seat,
        engine: Engine,
        want: Want,
    },
    /// On the way to a flight of its own.
    Leaving(BoxFuture<'static, Result<BlobReader, ReadError>>),
    Nowhere,
}

impl Stream for BlobStream {
    type Item = Result<Slice, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.next.is_empty() {
            this.via = Via::Nowhere;
            return Poll::Ready(None);
        }
        let item = ready!(this.poll_slice(cx));
        match &item {
            Ok(slice) => this.next.start += slice.bytes.len() as u64,
            Err(_) => {
                this.next.start = this.next.end;
                this.via = Via::Nowhere;
            }
        }
        Poll::Ready(Some(item))
    }
}

impl BlobStream {
    fn poll_slice(&mut self, cx: &mut Context<'_>) -> Poll<Result<Slice, ReadError>> {
        loop {
            match &mut self.via {
                Via::Nowhere => return Poll::Ready(Err(ReadError::ShutDown)),
                Via::Held(way) => return way.poll_slice(&self.next, cx),
                Via::Flight { seat, engine, want } => {
                    let look = seat.board.poll_look(seat.reader, self.next.clone(), cx);
                    match ready!(look) {
                        Look::Slice(slice) => return Poll::Ready(Ok(slice)),
                        Look::Error(error) => return Poll::Ready(Err(error)),
                        Look::Apart => {
                            let (engine, want) = (engine.clone(), want.clone());
                            let (range, total) = (self.next.clone(), self.total);
                            let leaving =
                                async move { engine.read_apart(want, range, total).await };
                            self.via = Via::Leaving(Box::pin(leaving));
                        }
                    }
                }
                Via::Leaving(reading) => {
                    let reader = ready!(reading.as_mut().poll(cx))?;
                    if reader.total() != self.total {
                        let why = "another size when asked again";
                        return Poll::Ready(Err(SourceError::wrong(why).into()));
                    }
                    self.via = reader.stream(self.next.clone()).via;
                }
            }
        }
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
