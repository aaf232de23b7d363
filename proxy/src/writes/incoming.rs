//! The body of a client's request, and what became of it.
//!
//! Nothing is read before somebody asks for it, so that a client that waits for `100 Continue` gets
//! it only when its body is wanted. A client that sends next to nothing for long ends its own request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use oci::client::{BoxError, Upload};

/// How long a client is waited for, in sum, for the next [`LITTLE`] of a body; its own network may be
/// slow, but a byte now and then must not keep a place.
const PATIENCE: Duration = Duration::from_secs(50);
/// See [`PATIENCE`].
const LITTLE: usize = 4 << 10;

/// A body that nobody has read yet.
pub(crate) struct ClientBody {
    stream: BoxStream<'static, Result<Bytes, BoxError>>,
    length: Option<u64>,
    fate: FateCell,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not all of it was read.
    Going,
    /// It was read to its end.
    Whole,
    /// The client left, or sent nonsense.
    Left,
    /// The client sent nothing for too long.
    Silent,
    /// It had more bytes than it may have.
    TooLong,
}

/// Tells a body's fate, also when the body is somebody else's.
#[derive(Clone)]
pub(crate) struct FateCell(Arc<Mutex<Fate>>);

impl FateCell {
    pub(crate) fn get(&self) -> Fate {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.get() == Fate::Whole
    }

    fn set(&self, fate: Fate) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }
}

/// How fast a client sends, while it is waited for.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// Bytes since the last time that [`LITTLE`] was reached.
    bytes: usize,
    /// The wait for them.
    waited: Duration,
}

impl Pace {
    /// How long the next bytes are waited for.
    fn left(self) -> Duration {
        PATIENCE.saturating_sub(self.waited)
    }

    fn after(self, bytes: usize, waited: Duration) -> Self {
        let (bytes, waited) = (self.bytes + bytes, self.waited + waited);
        match bytes >= LITTLE {
            true => Self::default(),
            false => Self { bytes, waited },
        }
    }
}

impl ClientBody {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let length = match body.is_end_stream() {
            true => Some(0),
            false => body.size_hint().exact(),
        };
        let first = match length {
            Some(0) => Fate::Whole,
            _ => Fate::Going,
        };
        let fate = FateCell(Arc::new(Mutex::new(first)));
        let reading = (body, fate.clone(), length.unwrap_or(u64::MAX));
        let reading = (reading, Pace::default());
        let stream =
            stream::try_unfold(reading, move |((mut body, fate, left), pace)| async move {
                let asked = Instant::now();
                let Ok(frame) = tokio::time::timeout(pace.left(), body.frame()).await else {
                    fate.set(Fate::Silent);
                    return Err(BoxError::from("the client sends nothing"));
                };
                match frame.transpose() {
                    Err(error) => {
                        fate.set(Fate::Left);
                        Err(error.into())
                    }
                    Ok(None) => {
                        fate.set(Fate::Whole);
                        Ok(None)
                    }
                    Ok(Some(frame)) => {
                        let bytes = frame.into_data().unwrap_or_default();
                        let left = left.saturating_sub(bytes.len() as u64);
                        if left == 0 {
                            // Nobody may ask once more, since the length was told.
                            fate.set(Fate::Whole);
                        }
                        let pace = pace.after(bytes.len(), asked.elapsed());
                        Ok(Some((bytes, ((body, fate, left), pace))))
                    }
                }
            });
        Self {
            stream: stream.boxed(),
            length,
            fate,
        }
    }

    pub(crate) fn fate(&self) -> FateCell {
        self.fate.clone()
    }

    /// Whether its announced length is beyond this.
    pub(super) fn is_longer_than(&self, max: Option<u64>) -> bool {
        self.length
            .zip(max)
            .is_some_and(|(length, max)| length > max)
    }

    /// For upstream; it errs once more than `max` bytes have come.
    pub(super) fn into_upload(self, max: Option<u64>) -> Upload {
        let Some(max) = max else {
            return Upload::new(self.stream, self.length);
        };
        let (fate, mut taken) = (self.fate, 0);
        let bounded = self.stream.map(move |bytes| {
            let bytes = bytes?;
            taken += bytes.len() as u64;
            if taken > max {
                fate.set(Fate::TooLong);
                return Err("the body is too long".into());
            }
            Ok(bytes)
        });
        Upload::new(bounded.boxed(), self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_now_and_then_is_waited_for_no_longer_than_silence() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::default();
        for _ in 0..50 {
            pace = pace.after(1, second);
        }
        assert_eq!(pace.left(), Duration::ZERO);
        for _ in 0..1000 {
            pace = Pace::default().after(LITTLE / 2, second * 20);
            pace = pace.after(LITTLE / 2, second * 20);
            assert_eq!(pace.left(), PATIENCE);
        }
    }
}
