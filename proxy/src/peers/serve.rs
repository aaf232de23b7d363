//! What a node gives to others: pieces of shared blobs, and the map of those that are there.
//!
//! A piece that has not come yet is waited for as long as the request says; then it is a quick 404,
//! on which the other node asks elsewhere. Bytes leave by `sendfile`, as a client's do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use http::{HeaderValue, Method, Response, StatusCode, header};
use oci::Digest;
use oci::error::{ErrorCode, OciError};
use oci::range::{RangeHeader, Resolved, content_range, parse, resolve};
use std::ops::Range;
use swarm::{Engine, Offer, ReadError, Slice};

use super::turns::{Turn, Turns};
use super::{BLOBS, PRESENT, TOTAL};
use crate::http::ResponseBody;
use crate::metrics::Metrics;
use crate::ratelimit::Bucket;
use crate::refusal::{Kind, Refusal};

/// Most milliseconds that a request is held for a piece, whatever it asks.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// How long of it a blob may be unknown here: its flight is about to begin, or it never will.
const UNKNOWN_MAX: Duration = Duration::from_millis(300);
/// How often it is looked for then.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// Bytes given at a time when the rate is bounded.
const WINDOW: usize = 256 << 10;

/// How a node gives.
#[derive(Clone, Copy, Debug)]
pub struct GiveOptions {
    /// Bytes per second at most, all requests together; `None` is no limit.
    pub upload_limit: Option<u64>,
    /// Responses being sent at a time; further requests wait shortly, those of smaller order less
    /// long. Fewer than a scheduler's slots: more is asked ahead than is sent at once, because an
    /// instruction waits in the same queues of the links as the pieces.
    pub responses_max: usize,
    /// How long a response waits for its turn; then it goes out of turn, so that receivers that take
    /// nothing (frozen ones) do not keep the pieces from all others.
    pub turn_wait: Duration,
}

impl Default for GiveOptions {
    fn default() -> Self {
        Self {
            upload_limit: None,
            responses_max: 6,
            turn_wait: Duration::from_millis(500),
        }
    }
}

/// What gives. One for the peer port and for a seed's front door.
pub struct Giver {
    engine: Engine,
    metrics: Arc<Metrics>,
    bucket: Option<Arc<Bucket>>,
    turns: Arc<Turns>,
    turn_wait: Duration,
}

/// A request as far as it is of interest.
struct Asked<'a> {
    head: bool,
    range: Option<&'a HeaderValue>,
    hold: Duration,
    order: u64,
}

impl Giver {
    /// Gives what `engine` offers.
    pub fn new(engine: Engine, metrics: Arc<Metrics>, options: GiveOptions) -> Self {
        Self {
            engine,
            metrics,
            bucket: options.upload_limit.map(|rate| Arc::new(Bucket::new(rate))),
            turns: Turns::new(options.responses_max.max(1)),
            turn_wait: options.turn_wait,
        }
    }

    /// Whether a path is one of those that are answered here.
    pub(crate) fn knows(path: &str) -> bool {
        path.starts_with(BLOBS) || path.starts_with(PRESENT)
    }

    /// Answers one request; never fails, never reads a request's body or its credentials.
    pub async fn answer<B>(self: Arc<Self>, request: http::Request<B>) -> Response<ResponseBody> {
        let head = *request.method() == Method::HEAD;
        let answer = self.dispatch(&request).await;
        let response = answer.unwrap_or_else(|refusal| refused(&refusal, head));
        self.metrics.peer_request(response.status());
        tracing::debug!(uri = %request.uri(), status = response.status().as_u16(), "peer asks");
        response
    }

    async fn dispatch<B>(
        &self,
        request: &http::Request<B>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let head = *request.method() == Method::HEAD;
        if !head && *request.method() != Method::GET {
            return Err(Refusal::method("GET, HEAD"));
        }
        let path = request.uri().path();
        if let Some(digest) = path.strip_prefix(BLOBS) {
            let query = request.uri().query().unwrap_or_default();
            let hold = number(query, "hold=").map_or(Duration::ZERO, Duration::from_millis);
            let asked = Asked {
                head,
                range: request.headers().get(header::RANGE),
                hold: hold.min(HOLD_MAX),
                order: number(query, "order=").unwrap_or(0),
            };
            return self.piece(&digest_of(digest)?, &asked).await;
        }
        if let Some(digest) = path.strip_prefix(PRESENT) {
            let offer = self.engine.offer(&digest_of(digest)?);
            return Ok(map_of(&offer.ok_or_else(unknown)?, head));
        }
        Err(Refusal::unsupported())
    }

    async fn piece(
        &self,
        digest: &Digest,
        asked: &Asked<'_>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let until = Instant::now() + asked.hold;
        let offer = self.offer(digest, asked.hold).await.ok_or_else(unknown)?;
        let total = offer.total();
        if asked.head {
            return Ok(described(StatusCode::OK, total, ResponseBody::Empty));
        }
        let part = part_of(asked.range, total)?;
        let range = part.clone().unwrap_or(0..total);
        let left = until.saturating_duration_since(Instant::now());
        let offer = self.having(offer, digest, &range, left).await?;
        let turn = tokio::time::timeout(self.turn_wait, self.turns.turn(asked.order)).await;
        let length = range.end - range.start;
        let body = self.body(&offer, range.clone(), turn.ok());
        let Some(part) = part else {
            return Ok(described(StatusCode::OK, length, body));
        };
        let mut response = described(StatusCode::PARTIAL_CONTENT, length, body);
        let value = HeaderValue::try_from(content_range(&part, total));
        let value = value.expect("digits are a header value");
        response.headers_mut().insert(header::CONTENT_RANGE, value);
        Ok(response)
    }

    /// What is here of the blob; waited for shortly if the request may be held.
    async fn offer(&self, digest: &Digest, hold: Duration) -> Option<Offer> {
        let until = Instant::now() + hold.min(UNKNOWN_MAX);
        loop {
            let offer = self.engine.offer(digest);
            if offer.is_some() || Instant::now() >= until {
                return offer;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The offer that has all of `range`; a flight that landed meanwhile leaves another one.
    async fn having(
        &self,
        offer: Offer,
        digest: &Digest,
        range: &Range<u64>,
        hold: Duration,
    ) -> Result<Offer, Refusal> {
        if offer.wait(range.clone(), hold).await {
            return Ok(offer);
        }
        let again = self.engine.offer(digest).ok_or_else(unknown)?;
        if again.total() == offer.total() && again.wait(range.clone(), Duration::ZERO).await {
            return Ok(again);
        }
        Err(unknown())
    }

    fn body(&self, offer: &Offer, range: Range<u64>, turn: Option<Turn>) -> ResponseBody {
        let length = range.end - range.start;
        let slices = offer.stream(range);
        let body = match &self.bucket {
            None => {
                let slices = slices.map(move |slice| {
                    // The turn is over when the stream is.
                    let _turn = &turn;
                    slice
                });
                ResponseBody::slices(slices, length)
            }
            Some(bucket) => {
                let paced = Paced {
                    slices: slices.boxed(),
                    rest: None,
                    bucket: bucket.clone(),
                    _turn: turn,
                };
                ResponseBody::slices(stream::unfold(paced, Paced::next), length)
            }
        };
        body.counted(self.metrics.given())
    }
}

/// Slices at a bounded rate, all streams of a node together.
struct Paced {
    slices: stream::BoxStream<'static, Result<Slice, ReadError>>,
    rest: Option<Slice>,
    bucket: Arc<Bucket>,
    _turn: Option<Turn>,
}

impl Paced {
    async fn next(mut self) -> Option<(Result<Slice, ReadError>, Self)> {
        let mut slice = match self.rest.take() {
            Some(rest) => rest,
            None => match self.slices.next().await? {
                Ok(slice) => slice,
                Err(error) => return Some((Err(error), self)),
            },
        };
        let window = slice.bytes.len().min(WINDOW);
        let bytes = slice.bytes.split_to(window);
        let part = Slice {
            bytes,
            file: slice.file.clone(),
        };
        self.rest = (!slice.bytes.is_empty()).then_some(slice);
        if let Some(until) = self.bucket.take(window, Instant::now()) {
            tokio::time::sleep_until(until.into()).await;
        }
        Some((Ok(part), self))
    }
}

fn number(query: &str, key: &str) -> Option<u64> {
    let mut pairs = query.split('&');
    pairs.find_map(|pair| pair.strip_prefix(key)?.parse().ok())
}

fn digest_of(text: &str) -> Result<Digest, Refusal> {
    let error = |_| OciError::new(ErrorCode::DigestInvalid, "not a digest");
    text.parse().map_err(error).map_err(Refusal::malformed)
}

/// The one range asked for; `None`: the whole.
fn part_of(line: Option<&HeaderValue>, total: u64) -> Result<Option<Range<u64>>, Refusal> {
    let several = || {
        let message = "one range at a time";
        Refusal::malformed(OciError::new(ErrorCode::SizeInvalid, message))
    };
    let Some(line) = line else {
        return Ok(None);
    };
    let specs = match parse(line.to_str().ok()) {
        RangeHeader::Ranges(specs) if specs.len() == 1 => specs,
        _ => return Err(several()),
    };
    match resolve(&specs, total) {
        Resolved::Parts(parts) => Ok(parts.into_iter().next()),
        Resolved::Whole => Ok(None),
        Resolved::Unsatisfiable => Err(Refusal::unsatisfiable(total)),
    }
}

fn map_of(offer: &Offer, head: bool) -> Response<ResponseBody> {
    let map = offer.present().encode();
    let length = map.len() as u64;
    let body = match head {
        true => ResponseBody::Empty,
        false => ResponseBody::Full(map.into()),
    };
    let mut response = described(StatusCode::OK, length, body);
    let total = HeaderValue::from(offer.total());
    response.headers_mut().insert(TOTAL, total);
    response
}

fn described(status: StatusCode, length: u64, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn refused(refusal: &Refusal, head: bool) -> Response<ResponseBody> {
    let answered = refusal.answer(head);
    let body = match answered.body {
        crate::access::Body::Full(bytes) => ResponseBody::Full(bytes),
        _ => ResponseBody::Empty,
    };
    let mut response = Response::new(body);
    *response.status_mut() = answered.status;
    *response.headers_mut() = answered.headers;
    response
}

fn unknown() -> Refusal {
    Refusal::unknown(Kind::Blob)
}
