//! The body of an upstream's answer: the client's stream, under the node's download cap, holding its
//! place among the downloads until it ends or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::error::UpstreamError;
use crate::ratelimit::Bucket;

/// A streaming body.
#[derive(Debug)]
pub struct Body {
    inner: oci::client::Body,
    permit: Option<OwnedSemaphorePermit>,
    cap: Option<Cap>,
}

struct Cap {
    bucket: Arc<Bucket>,
    /// Armed while the last frame is not paid for.
    wait: Option<Pin<Box<Sleep>>>,
}

impl Body {
    pub(super) fn new(inner: oci::client::Body) -> Self {
        Self {
            inner,
            permit: None,
            cap: None,
        }
    }

    pub(super) fn capped(mut self, bucket: Option<Arc<Bucket>>) -> Self {
        self.cap = bucket.map(|bucket| Cap { bucket, wait: None });
        self
    }

    pub(super) fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.permit = Some(permit);
        self
    }

    /// The length in bytes if the head told it; 0 for the answer to a HEAD.
    pub fn length(&self) -> Option<u64> {
        self.inner.length()
    }

    /// Reads all of it if it has at most `max` bytes; `None` if it has more.
    pub async fn collect(mut self, max: usize) -> Result<Option<Bytes>, UpstreamError> {
        if self.cap.is_none() {
            return Ok(self.inner.collect(max).await?);
        }
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            let frame = frame?;
            if all.len() + frame.len() > max {
                return Ok(None);
            }
            all.extend_from_slice(&frame);
        }
        Ok(Some(all.into()))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, UpstreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(Cap { wait, .. }) = &mut this.cap
            && let Some(sleep) = wait
        {
            ready!(sleep.as_mut().poll(cx));
            *wait = None;
        }
        let polled = ready!(this.inner.poll_next_unpin(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(Cap { bucket, wait }) = &mut this.cap
                    && let Some(until) = bucket.take(frame.len(), std::time::Instant::now())
                {
                    *wait = Some(Box::pin(tokio::time::sleep_until(Instant::from_std(until))));
                }
            }
            Some(Err(_)) | None => this.permit = None,
        }
        Poll::Ready(polled.map(|frame| frame.map_err(UpstreamError::from)))
    }
}

impl std::fmt::Debug for Cap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cap")
    }
}
