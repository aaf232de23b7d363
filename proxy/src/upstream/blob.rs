//! A registry as a source of one blob's bytes.
//!
//! Invariant: what it yields has the length and the place in the blob that it says. A lie or a cut of
//! one endpoint makes it ask the others first from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use oci::{Digest, Repository};
use swarm::{Fault, FetchRange, Fetched, Origin, PieceSource, SourceError};

use super::ask::{Answer, Ask, Avoid, Upstream, What};
use super::body::Body;
use super::credential::Credential;
use super::error::UpstreamError;
use super::request::{content_length, content_range};

/// One reader's way to the blobs of one repository.
pub(super) struct RegistrySource {
    upstream: Arc<Upstream>,
    repository: Repository,
    credential: Credential,
    /// Endpoints that broke off or lied, as bits.
    avoid: Arc<AtomicU64>,
    /// Endpoints that gave bytes, as bits.
    gave: AtomicU64,
}

/// Where the body of an answer belongs.
struct Placed {
    total: u64,
    start: u64,
    /// Bytes of the body, of which the first `skip` are not wanted.
    length: u64,
    skip: u64,
}

impl RegistrySource {
    pub(super) fn new(
        upstream: Arc<Upstream>,
        repository: Repository,
        credential: Credential,
    ) -> Self {
        Self {
            upstream,
            repository,
            credential,
            avoid: Arc::default(),
            gave: AtomicU64::new(0),
        }
    }

    fn ask(&self, method: Method, digest: &Digest, range: FetchRange) -> Ask {
        Ask {
            method,
            repository: self.repository.clone(),
            what: What::Blob(*digest),
            accept: Vec::new(),
            range: (range != FetchRange::All).then_some(range),
            credential: self.credential.clone(),
        }
    }

    async fn get(&self, ask: &Ask) -> Result<Answer, UpstreamError> {
        let doubted = match &ask.what {
            What::Blob(digest) => self.upstream.doubted(digest),
            _ => 0,
        };
        let avoid = Avoid(self.avoid.load(Ordering::Relaxed) | doubted);
        self.upstream.ask_avoiding(ask, avoid).await
    }

    async fn open(&self, digest: &Digest, range: FetchRange) -> Result<Fetched, UpstreamError> {
        let ask = self.ask(Method::GET, digest, range.clone());
        loop {
            let answer = self.get(&ask).await?;
            let bit = Avoid::bit(answer.endpoint);
            match self.place(digest, &range, &answer).await {
                Ok(placed) => {
                    self.gave.fetch_or(bit, Ordering::Relaxed);
                    return Ok(Fetched {
                        total: placed.total,
                        start: placed.start,
                        body: checked(answer.body, placed, self.avoid.clone(), bit),
                    });
                }
                // Each round marks another endpoint, so there are at most as many as endpoints.
                Err(error) if self.avoid.fetch_or(bit, Ordering::Relaxed) & bit != 0 => {
                    return Err(error);
                }
                Err(error) => tracing::debug!(
                    registry = %self.upstream.registry(), endpoint = answer.endpoint,
                    digest = digest.short(), %error, "unusable answer"
                ),
            }
        }
    }

    async fn place(
        &self,
        digest: &Digest,
        range: &FetchRange,
        answer: &Answer,
    ) -> Result<Placed, UpstreamError> {
        if is_html(&answer.headers) {
            return Err(UpstreamError::invalid("a page of HTML instead of a blob"));
        }
        let length = answer.body.length();
        match (answer.status, range) {
            (StatusCode::PARTIAL_CONTENT, FetchRange::All) => Err(UpstreamError::invalid(
                "a part of the blob where the whole was asked for",
            )),
            (StatusCode::PARTIAL_CONTENT, range) => partial(range, &answer.headers, length),
            (StatusCode::OK, FetchRange::All) => {
                let total = self.total(digest, length).await?;
                Ok(Placed {
                    total,
                    start: 0,
                    length: total,
                    skip: 0,
                })
            }
            // It cannot do ranges: a resumed transfer still gets its rest, at the price of traffic.
            (StatusCode::OK, FetchRange::From(start)) => {
                let total = self.total(digest, length).await?;
                if *start >= total {
                    return Err(UpstreamError::Unsatisfiable { total: Some(total) });
                }
                Ok(Placed {
                    total,
                    start: *start,
                    length: total,
                    skip: *start,
                })
            }
            (StatusCode::OK, _) => Err(UpstreamError::invalid("the whole blob for a range")),
            (status, _) => Err(UpstreamError::Status(status)),
        }
    }

    /// The blob's size: the length of its body, else (chunked) what HEAD says, else what a range of
    /// one byte tells.
    async fn total(&self, digest: &Digest, length: Option<u64>) -> Result<u64, UpstreamError> {
        if let Some(length) = length {
            return Ok(length);
        }
        let head = self.ask(Method::HEAD, digest, FetchRange::All);
        if let Ok(answer) = self.get(&head).await
            && let Some(total) = content_length(&answer.headers)
        {
            return Ok(total);
        }
        let byte = self.ask(Method::GET, digest, FetchRange::Span(0..1));
        let total = match self.get(&byte).await {
            Ok(answer) => content_range(&answer.headers).map(|(_, total)| total),
            Err(UpstreamError::Unsatisfiable { total }) => total,
            Err(error) => return Err(error),
        };
        total.ok_or_else(|| UpstreamError::invalid("the blob's size is not to be had"))
    }
}

impl PieceSource for RegistrySource {
    fn origin(&self) -> Origin {
        Origin::Upstream
    }

    fn name(&self) -> &str {
        self.upstream.registry().as_str()
    }

    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        Box::pin(async move {
            // A whole blob from its beginning needs no range, which some servers cannot do.
            let range = match range {
                FetchRange::From(0) => FetchRange::All,
                range => range,
            };
            self.open(digest, range).await.map_err(SourceError::from)
        })
    }

    fn doubt(&self, digest: &Digest) {
        let gave = self.gave.load(Ordering::Relaxed);
        if gave != 0 {
            self.upstream.doubt(digest, gave);
        }
    }
}

impl From<UpstreamError> for SourceError {
    fn from(error: UpstreamError) -> Self {
        let fault = match &error {
            UpstreamError::NotFound { .. } => Fault::NotFound,
            UpstreamError::Denied { .. } => Fault::Denied,
            UpstreamError::Limited { retry_after, .. } => Fault::Limited {
                retry_after: *retry_after,
            },
            UpstreamError::Unsatisfiable { total: Some(total) } => {
                Fault::Unsatisfiable { total: *total }
            }
            UpstreamError::Invalid { why } => Fault::Wrong(why.clone()),
            UpstreamError::Unsatisfiable { total: None }
            | UpstreamError::Status(_)
            | UpstreamError::Unreachable { .. }
            | UpstreamError::Stalled { .. }
            | UpstreamError::Refused { .. } => Fault::Unavailable(error.to_string()),
        };
        Self::caused(fault, error)
    }
}

fn partial(
    range: &FetchRange,
    headers: &HeaderMap,
    length: Option<u64>,
) -> Result<Placed, UpstreamError> {
    let Some((got, total)) = content_range(headers) else {
        return Err(UpstreamError::invalid("206 without a usable Content-Range"));
    };
    if range.resolve(total) != Some(got.clone()) {
        return Err(UpstreamError::invalid(
            "other bytes than the range asked for",
        ));
    }
    if length.is_some_and(|length| length != got.end - got.start) {
        return Err(UpstreamError::invalid("length and Content-Range disagree"));
    }
    Ok(Placed {
        total,
        start: got.start,
        length: got.end - got.start,
        skip: 0,
    })
}

/// The body, of exactly its length, without what is not wanted.
fn checked(
    body: Body,
    placed: Placed,
    avoid: Arc<AtomicU64>,
    bit: u64,
) -> BoxStream<'static, Result<Bytes, SourceError>> {
    struct State {
        body: Body,
        left: u64,
        skip: u64,
        ended: bool,
    }
    let state = State {
        body,
        left: placed.length,
        skip: placed.skip,
        ended: false,
    };
    let frames = stream::unfold(state, move |mut state| {
        let avoid = avoid.clone();
        async move {
            if state.ended {
                return None;
            }
            let failure = loop {
                match state.body.next().await {
                    None if state.left == 0 => return None,
                    None => break SourceError::unavailable("the body ended early"),
                    Some(Err(error)) => break error.into(),
                    Some(Ok(frame)) if frame.len() as u64 > state.left => {
                        break SourceError::wrong("the body is longer than it said");
                    }
                    Some(Ok(mut frame)) => {
                        state.left -= frame.len() as u64;
                        let skipped = state.skip.min(frame.len() as u64);
                        state.skip -= skipped;
                        // At most the frame's length, so it fits.
                        let frame = frame.split_off(skipped as usize);
                        if !frame.is_empty() {
                            return Some((Ok(frame), state));
                        }
                    }
                }
            };
            avoid.fetch_or(bit, Ordering::Relaxed);
            state.ended = true;
            Some((Err(failure), state))
        }
    });
    frames.boxed()
}

fn is_html(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"text/html")
    })
}
