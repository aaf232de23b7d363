//! `GET /v2/`: always 200 and at once, unless the operator wants it to challenge.
//!
//! dockerd and podman look for a challenge here and nowhere else, so a private image can be pulled
//! with the client's own account only if the ping has upstream's challenge. Even then no client
//! waits long: the challenge is asked for rarely and with a short deadline, and without one the
//! answer is 200.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::access::{Answered, Body};
use crate::coalesce::Coalesce;
use crate::refusal::Refusal;
use crate::upstream::Upstream;

/// How long a challenge is repeated; registries change theirs hardly ever.
const KEEP: Duration = Duration::from_secs(3600);
/// How soon it is asked for again when there was none.
const KEEP_NONE: Duration = Duration::from_secs(30);
/// A ping that takes long slows every pull: dockerd gives up after 15 s.
const PATIENCE: Duration = Duration::from_secs(2);

type Challenge = Vec<HeaderValue>;

/// The ping's answer.
pub(crate) struct Ping {
    challenges: bool,
    known: Mutex<Option<(Challenge, Instant)>>,
    asking: Coalesce<(), Challenge>,
}

impl Ping {
    /// One that challenges, or not.
    pub(crate) fn new(challenges: bool) -> Self {
        Self {
            challenges,
            known: Mutex::default(),
            asking: Coalesce::default(),
        }
    }

    /// The answer to a client with these headers that means this registry.
    pub(crate) async fn answer(
        &self,
        upstream: Option<&Upstream>,
        headers: &HeaderMap,
        head: bool,
    ) -> Result<Answered, Refusal> {
        if let Some(upstream) = upstream.filter(|_| self.challenges)
            && !headers.contains_key(header::AUTHORIZATION)
        {
            let challenge = self.challenge(upstream).await;
            if !challenge.is_empty() {
                return Err(Refusal::denied(StatusCode::UNAUTHORIZED, &challenge));
            }
        }
        Ok(pong(head))
    }

    async fn challenge(&self, upstream: &Upstream) -> Challenge {
        if let Some((challenge, until)) =
            &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && Instant::now() < *until
        {
            return challenge.clone();
        }
        let ask = async || {
            let asked = tokio::time::timeout(PATIENCE, upstream.challenge()).await;
            let challenge = asked.unwrap_or_default();
            let keep = if challenge.is_empty() {
                KEEP_NONE
            } else {
                KEEP
            };
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some((challenge.clone(), Instant::now() + keep));
            challenge
        };
        self.asking.run((), ask).await
    }
}

fn pong(head: bool) -> Answered {
    let body = Bytes::from_static(b"{}");
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Answered {
        status: StatusCode::OK,
        headers,
        body: Body::of(body, head),
        source: None,
    }
}
