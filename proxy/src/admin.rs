//! The admin port: `/metrics`, `/livez`, `/readyz`, `/status`, `/flights`.
//!
//! Invariant: read-only, and nothing secret on any page. Deliberately not here: what is counted.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use ::http::{HeaderValue, Method, Response, StatusCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use swarm::Engine;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::flights;
use crate::http::{Limits, ResponseBody, Traffic, serve};
use crate::metrics::{Metrics, Snapshot};

/// Scrapers and a person or two.
const MAX_CONNECTIONS: usize = 64;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What does not change while a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of the program.
    pub version: String,
    /// Where clients are served.
    pub listen: Vec<SocketAddr>,
    /// Names of the registries served.
    pub registries: Vec<String>,
}

/// The answer of `/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What does not change.
    #[serde(flatten)]
    pub about: About,
    /// Whether the front door is open.
    pub ready: bool,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The counts.
    #[serde(flatten)]
    pub counts: Snapshot,
    /// What a supernode or an attending node says of its swarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<serde_json::Value>,
}

/// The pages, whatever port they are on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pages {
    about: About,
    metrics: Arc<Metrics>,
    started: Instant,
    swarm: Option<Swarm>,
    flights: Option<Engine>,
}

/// What `/status` says of the swarm, asked for at each request.
#[derive(Clone)]
struct Swarm(Arc<dyn Fn() -> serde_json::Value + Send + Sync>);

impl fmt::Debug for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Swarm")
    }
}

impl Pages {
    /// The pages of a node that starts now.
    pub fn new(about: About, metrics: Arc<Metrics>) -> Self {
        Self {
            about,
            metrics,
            started: Instant::now(),
            swarm: None,
            flights: None,
        }
    }

    /// The same with what `/status` says under `swarm`. `tell` must not wait.
    #[must_use]
    pub fn with_swarm(
        mut self,
        tell: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        self.swarm = Some(Swarm(Arc::new(tell)));
        self
    }

    /// The same with `/flights` of this engine.
    #[must_use]
    pub(crate) fn with_flights(mut self, engine: Engine) -> Self {
        self.flights = Some(engine);
        self
    }

    /// Answers one request; reads no body.
    pub fn answer<B>(&self, request: &::http::Request<B>) -> Response<ResponseBody> {
        let page = Page::of(request.uri().path());
        let allowed = matches!(*request.method(), Method::GET | Method::HEAD);
        let metrics = &self.metrics;
        let mut response = match page {
            Some(_) if !allowed => {
                let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "read-only\n");
                let allow = HeaderValue::from_static("GET, HEAD");
                response.headers_mut().insert(ALLOW, allow);
                response
            }
            Some(Page::Metrics) => answer(StatusCode::OK, OPEN_METRICS, metrics.text()),
            Some(Page::Live) => answer(StatusCode::OK, TEXT, "ok\n"),
            Some(Page::Ready) if metrics.ready() => answer(StatusCode::OK, TEXT, "ok\n"),
            Some(Page::Ready) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n"),
            Some(Page::Status) => self.status(),
            Some(Page::Flights) => {
                let shown = self.flights.as_ref().map(flights::shown);
                json(&shown.unwrap_or_default())
            }
            None => answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "not found; hint: /metrics, /livez, /readyz, /status and /flights are here, \
                 the registry is on the other port\n",
            ),
        };
        if *request.method() == Method::HEAD {
            let length = HeaderValue::from(response.body().length());
            response.headers_mut().insert(CONTENT_LENGTH, length);
            *response.body_mut() = ResponseBody::Empty;
        }
        response
    }

    fn status(&self) -> Response<ResponseBody> {
        let status = Status {
            about: self.about.clone(),
            ready: self.metrics.ready(),
            uptime_seconds: self.started.elapsed().as_secs(),
            counts: self.metrics.snapshot(),
            swarm: self.swarm.as_ref().map(|swarm| (swarm.0)()),
        };
        json(&status)
    }
}

fn json(page: &impl Serialize) -> Response<ResponseBody> {
    match serde_json::to_vec(page) {
        Ok(json) => answer(StatusCode::OK, JSON, json),
        Err(error) => {
            tracing::error!(%error, "a page cannot be written as json");
            answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "no page\n")
        }
    }
}

/// Serves the admin port until `shutdown`.
pub async fn run(listener: TcpListener, pages: Pages, shutdown: CancellationToken) {
    let limits = Limits {
        max_connections: MAX_CONNECTIONS,
        ..Limits::default()
    };
    let service = move |request: ::http::Request<hyper::body::Incoming>, _| {
        std::future::ready(pages.answer(&request))
    };
    let traffic = Arc::<Traffic>::default();
    serve(listener, service, limits, traffic, shutdown).await;
}

#[derive(Clone, Copy)]
enum Page {
    Metrics,
    Live,
    Ready,
    Status,
    Flights,
}

impl Page {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/status" => Some(Self::Status),
            "/flights" => Some(Self::Flights),
            _ => None,
        }
    }
}

fn answer(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Full(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
