//! Answers on their way out, and the line that the access log has of each.
//!
//! The line is written when the last byte has been given to the connection, or when the connection
//! gave up before. It never has a header's value but `Range` and `User-Agent`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use swarm::{ReadError, Slice};

use crate::http::{ConnInfo, ResponseBody};
use crate::metrics::{Metrics, RouteKind, Source};

/// Slices of a blob, and what goes between them.
pub(crate) type Slices = BoxStream<'static, Result<Slice, ReadError>>;

/// A body that has not yet been given to a connection.
pub(crate) enum Body {
    /// None, as to HEAD.
    Empty,
    /// In memory.
    Full(Bytes),
    /// Of so many bytes.
    Slices(Slices, u64),
}

impl Body {
    /// These bytes, unless they were only asked about.
    pub(crate) fn of(bytes: Bytes, head: bool) -> Self {
        if head { Self::Empty } else { Self::Full(bytes) }
    }
}

/// An answer that is ready to leave.
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Where the bytes came from; none for errors and for answers without bytes.
    pub(crate) source: Option<Source>,
}

/// What the log needs of a request.
pub(crate) struct Line {
    pub(crate) client: ConnInfo,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) range: Option<HeaderValue>,
    pub(crate) agent: Option<HeaderValue>,
    pub(crate) started: Instant,
}

impl Line {
    /// The line of a request.
    pub(crate) fn of(method: &Method, uri: &Uri, headers: &HeaderMap, client: ConnInfo) -> Self {
        Self {
            client,
            method: method.clone(),
            uri: uri.clone(),
            range: headers.get(header::RANGE).cloned(),
            agent: headers.get(header::USER_AGENT).cloned(),
            started: Instant::now(),
        }
    }

    /// The response, which writes the line at its end.
    pub(crate) fn finish(
        self,
        answered: Answered,
        route: RouteKind,
        metrics: &Metrics,
    ) -> Response<ResponseBody> {
        let (status, source) = (answered.status, answered.source);
        metrics.request(route, &self.method, status, self.started.elapsed());
        match source {
            Some(Source::Store) => metrics.hit(route),
            Some(_) => metrics.miss(route),
            None => {}
        }
        let body = match answered.body {
            Body::Empty => {
                self.write(status, source, 0, true);
                ResponseBody::Empty
            }
            Body::Full(bytes) => {
                self.write(status, source, bytes.len() as u64, true);
                ResponseBody::Full(bytes)
            }
            Body::Slices(slices, length) => {
                let logged = Logged {
                    slices,
                    length,
                    sent: 0,
                    status,
                    source,
                    line: self,
                };
                let body = ResponseBody::slices(logged, length);
                match source {
                    Some(source) => body.counted(metrics.sent(source)),
                    None => body,
                }
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = answered.headers;
        response
    }

    fn write(&self, status: StatusCode, source: Option<Source>, bytes: u64, whole: bool) {
        let text = |value: &Option<HeaderValue>| -> String {
            let text = value.as_ref().and_then(|value| value.to_str().ok());
            text.unwrap_or("-").to_owned()
        };
        tracing::info!(
            target: "access",
            client = %self.client.peer,
            method = %self.method,
            path = self.uri.path(),
            ns = ns_of(&self.uri),
            range = text(&self.range),
            status = status.as_u16(),
            bytes,
            whole,
            source = source.map_or("-", Source::name),
            ms = self.started.elapsed().as_millis() as u64,
            agent = text(&self.agent),
            "request"
        );
    }
}

fn ns_of(uri: &Uri) -> &str {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs
        .find_map(|pair| pair.strip_prefix("ns="))
        .unwrap_or("-")
}

/// Slices that are counted.
struct Logged {
    slices: Slices,
    length: u64,
    sent: u64,
    status: StatusCode,
    source: Option<Source>,
    line: Line,
}

impl Stream for Logged {
    type Item = Result<Slice, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.slices.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(slice))) = &polled {
            self.sent += slice.bytes.len() as u64;
        }
        polled
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let whole = self.sent == self.length;
        self.line.write(self.status, self.source, self.sent, whole);
    }
}
