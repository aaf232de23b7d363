//! The body of an answer, as it arrives.
//!
//! A frame is what one read from the socket gave, about half a mebibyte on a fast link. It ends with
//! an error when it is shorter than its length, or when nothing arrives for the idle deadline; time
//! in which the reader does not ask does not count. Dropping it early closes the connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, Sleep};

use super::connection::Connection;
use super::error::{ClientError, chain};
use super::pool::{Place, Pool};

/// A streaming body.
pub struct Body {
    /// `None` for a body that was never wanted (encoded errors) and after the end.
    source: Option<Source>,
    host: String,
    idle: Duration,
    /// Armed only while we wait.
    deadline: Option<Pin<Box<Sleep>>>,
    length: Option<u64>,
}

struct Source {
    incoming: Incoming,
    connection: Connection,
    pool: Arc<Pool>,
    place: Place,
}

impl Body {
    pub(super) fn new(
        incoming: Incoming,
        connection: Connection,
        pool: Arc<Pool>,
        place: Place,
        idle: Duration,
    ) -> Self {
        let mut body = Self {
            host: place.origin.at.to_string(),
            length: incoming.size_hint().exact(),
            idle,
            deadline: None,
            source: Some(Source {
                incoming,
                connection,
                pool,
                place,
            }),
        };
        body.give_back_if_ended();
        body
    }

    /// The body's length in bytes if the head told it (0 for the answer to a HEAD).
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// A body of no bytes.
    pub fn empty() -> Self {
        Self {
            source: None,
            host: String::new(),
            idle: Duration::ZERO,
            deadline: None,
            length: Some(0),
        }
    }

    /// Reads all of it if it has at most `max` bytes; `None` if it has more.
    pub async fn collect(mut self, max: usize) -> Result<Option<Bytes>, ClientError> {
        if self.length.is_some_and(|length| length > max as u64) {
            return Ok(None);
        }
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Some(Bytes::new()));
        };
        let mut all = BytesMut::new();
        let mut frame = first;
        loop {
            if all.len() + frame.len() > max {
                return Ok(None);
            }
            match self.next().await.transpose()? {
                // The common case, all in one frame, is not copied.
                None if all.is_empty() => return Ok(Some(frame)),
                None => {
                    all.extend_from_slice(&frame);
                    return Ok(Some(all.freeze()));
                }
                Some(next) => {
                    all.extend_from_slice(&frame);
                    frame = next;
                }
            }
        }
    }

    fn give_back_if_ended(&mut self) {
        if self
            .source
            .as_ref()
            .is_some_and(|source| source.incoming.is_end_stream())
        {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(source) = self.source.take() {
            source.pool.put(source.place, source.connection);
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientError>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        loop {
            let mut polled = Pin::new(&mut source.incoming).poll_frame(cx);
            if polled.is_pending() {
                source.connection.drive(cx);
                polled = Pin::new(&mut source.incoming).poll_frame(cx);
            }
            return Poll::Ready(match ready!(polled) {
                None => None,
                Some(Err(error)) => Some(Err(ClientError::Cut {
                    host: self.host.clone(),
                    why: chain(&error),
                })),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => Some(Ok(bytes)),
                    // Trailers mean nothing here.
                    _ => continue,
                },
            });
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        deadline.as_mut().poll(cx)
    }
}

impl Stream for Body {
    type Item = Result<Bytes, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Poll::Ready(polled) = this.poll_data(cx) else {
            ready!(this.poll_deadline(cx));
            this.source = None;
            return Poll::Ready(Some(Err(ClientError::stalled(
                &this.host,
                "sending the body",
            ))));
        };
        this.deadline = None;
        match &polled {
            Some(Ok(_)) => this.give_back_if_ended(),
            Some(Err(_)) => this.source = None,
            None => this.give_back(),
        }
        Poll::Ready(polled)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("host", &self.host)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
