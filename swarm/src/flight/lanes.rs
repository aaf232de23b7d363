//! The fetches of a flight that are under way, polled together by the flight's one task.
//!
//! Invariant: a removed lane yields nothing more; dropping it ends its request.
//! Deliberately not here: what a step means.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use oci::Digest;

use std::sync::Arc;

use crate::source::{Fault, FetchRange, Fetched, Origin, PieceSource, SourceError};
use crate::transfer::FetchId;

/// What one lane came up with.
pub(super) enum Step {
    Head { total: u64, start: u64 },
    Frame { bytes: Bytes, origin: Origin },
    Failed(SourceError),
}

#[derive(Default)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// Whose turn it is to be polled first.
    turn: usize,
}

struct Lane {
    id: FetchId,
    origin: Origin,
    paused: bool,
    state: LaneState,
}

enum LaneState {
    Asking(BoxFuture<'static, Result<Fetched, SourceError>>),
    Body(BoxStream<'static, Result<Bytes, SourceError>>),
}

impl Lanes {
    pub(super) fn add(
        &mut self,
        id: FetchId,
        source: Arc<dyn PieceSource>,
        digest: Digest,
        range: FetchRange,
    ) {
        let origin = source.origin();
        let asking = async move { not_hollow(&digest, source.fetch(&digest, range).await) };
        self.lanes.push(Lane {
            id,
            origin,
            paused: false,
            state: LaneState::Asking(Box::pin(asking)),
        });
    }

    pub(super) fn remove(&mut self, id: FetchId) {
        self.lanes.retain(|lane| lane.id != id);
    }

    pub(super) fn clear(&mut self) {
        self.lanes.clear();
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = FetchId> + '_ {
        self.lanes.iter().map(|lane| lane.id)
    }

    /// Holds a lane's body back, or lets it go on; true if that is a change.
    pub(super) fn pause(&mut self, id: FetchId, paused: bool) -> bool {
        let lane = self.lanes.iter_mut().find(|lane| lane.id == id);
        lane.is_some_and(|lane| std::mem::replace(&mut lane.paused, paused) != paused)
    }

    /// The next step of any lane that is not paused. Pending for ever without lanes.
    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<(FetchId, Step)> {
        let count = self.lanes.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let lane = &mut self.lanes[index];
            if lane.paused {
                continue;
            }
            if let Poll::Ready(step) = lane.poll_step(cx) {
                self.turn = index + 1;
                return Poll::Ready((lane.id, step));
            }
        }
        Poll::Pending
    }
}

/// An empty blob is whole before a byte was hashed, so its size alone must fit the digest.
fn not_hollow(
    digest: &Digest,
    answer: Result<Fetched, SourceError>,
) -> Result<Fetched, SourceError> {
    let total = match &answer {
        Ok(fetched) => fetched.total,
        Err(error) => match error.fault {
            Fault::Unsatisfiable { total } => total,
            _ => return answer,
        },
    };
    if total == 0 && !digest.is_of_nothing() {
        return Err(SourceError::wrong("no bytes for a digest of some"));
    }
    answer
}

impl Lane {
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match &mut self.state {
                LaneState::Asking(asking) => {
                    let step = match std::task::ready!(asking.as_mut().poll(cx)) {
                        Ok(Fetched { total, start, body }) => {
                            self.state = LaneState::Body(body);
                            Step::Head { total, start }
                        }
                        Err(error) => Step::Failed(error),
                    };
                    return Poll::Ready(step);
                }
                LaneState::Body(body) => {
                    let step = match std::task::ready!(body.as_mut().poll_next(cx)) {
                        Some(Ok(bytes)) if bytes.is_empty() => continue,
                        Some(Ok(bytes)) => Step::Frame {
                            bytes,
                            origin: self.origin,
                        },
                        Some(Err(error)) => Step::Failed(error),
                        None => Step::Failed(SourceError::unavailable("body ended too early")),
                    };
                    return Poll::Ready(step);
                }
            }
        }
    }
}
