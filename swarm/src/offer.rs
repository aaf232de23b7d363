//! What others of the swarm may have of a blob from here: what is held, and what has come so far.
//!
//! Invariants: an offer never makes a flight fetch anything; it gives bytes only as they lie in the
//! store. Deliberately not here: whether the blob may be shared (`Engine::share`), and HTTP.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use oci::Digest;

use crate::flight::{Board, Stock};
use crate::reader::{ReadError, SLICE_MAX};
use crate::store::{ByteSet, HeldBlob, Slice};

/// The blobs that other nodes may have from here.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    digests: Mutex<HashSet<Digest>>,
}

impl Sharing {
    pub(crate) fn add(&self, digest: &Digest) {
        self.lock().insert(*digest);
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        self.lock().remove(digest);
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shared blob, held or on its way. It keeps nothing in the air and pins nothing but an open file.
#[derive(Clone, Debug)]
pub struct Offer {
    total: u64,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Held(HeldBlob),
    Flight(Arc<Board>),
}

impl Offer {
    pub(crate) fn of_held(blob: HeldBlob) -> Self {
        Self {
            total: blob.total(),
            place: Place::Held(blob),
        }
    }

    /// `None` while the flight does not know the blob's size, or keeps nothing.
    pub(crate) fn of_flight(board: Arc<Board>) -> Option<Self> {
        Some(Self {
            total: board.stocked_total()?,
            place: Place::Flight(board),
        })
    }

    /// Size of the whole blob in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The bytes that are here.
    pub fn present(&self) -> ByteSet {
        match &self.place {
            Place::Held(blob) => ByteSet::of(0..blob.total()),
            Place::Flight(board) => board.stocked(),
        }
    }

    /// Waits until all of `range` is here; false when it has not come within `patience`, or will not
    /// come any more. Dropping the future is safe.
    pub async fn wait(&self, range: Range<u64>, patience: Duration) -> bool {
        let Place::Flight(board) = &self.place else {
            return range.end <= self.total;
        };
        let come = async {
            loop {
                let arrival = board.arrival();
                match board.stock(range.clone()) {
                    Stock::Here(end) if end >= range.end => return true,
                    Stock::Over => return false,
                    Stock::Here(_) | Stock::Awaited => arrival.await,
                }
            }
        };
        let come = tokio::time::timeout(patience, come).await;
        come.unwrap_or(false)
    }

    /// The bytes of `range`, cut to the blob's length, in slices of at most [`SLICE_MAX`]; waits for
    /// what has not come, and ends with an error when it will not come.
    pub fn stream(
        &self,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Slice, ReadError>> + Send + 'static {
        let end = range.end.min(self.total);
        let next = range.start.min(end)..end;
        stream::unfold((self.place.clone(), next), async |(place, next)| {
            if next.is_empty() {
                return None;
            }
            let slice = place.slice(next.clone()).await;
            let taken = slice
                .as_ref()
                .map_or(next.end - next.start, |slice| slice.bytes.len() as u64);
            Some((slice, (place, next.start + taken..next.end)))
        })
    }
}

impl Place {
    async fn slice(&self, range: Range<u64>) -> Result<Slice, ReadError> {
        let board = match self {
            Self::Held(blob) => return cut(&range, |part| blob.slice(part)),
            Self::Flight(board) => board,
        };
        loop {
            let arrival = board.arrival();
            match board.stock(range.clone()) {
                Stock::Here(end) => {
                    return cut(&(range.start..end), |part| board.stocked_slice(part));
                }
                Stock::Over => return Err(gone()),
                Stock::Awaited => arrival.await,
            }
        }
    }
}

fn cut(
    range: &Range<u64>,
    slice: impl Fn(Range<u64>) -> Option<Slice>,
) -> Result<Slice, ReadError> {
    let end = range.end.min(range.start + SLICE_MAX);
    slice(range.start..end).ok_or_else(gone)
}

fn gone() -> ReadError {
    ReadError::Storage("the bytes are not here any more".to_owned())
}
