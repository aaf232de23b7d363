//! The admin port: `/metrics`, `/livez`, `/readyz`, `/status`.
//!
//! Invariant: read-only, and nothing secret on any page. Deliberately not here: what is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use ::http::{HeaderValue, Method, Response, StatusCode};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

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
}

/// Serves the admin port until `shutdown`.
pub async fn run(
    listener: TcpListener,
    about: About,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let started = Instant::now();
    let limits = Limits {
        max_connections: MAX_CONNECTIONS,
        ..Limits::default()
    };
    let service = move |request: ::http::Request<hyper::body::Incoming>, _| {
        let page = Page::of(request.uri().path());
        let allowed = matches!(*request.method(), Method::GET | Method::HEAD);
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
            Some(Page::Status) => status(&about, &metrics, started),
            None => answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "not found; hint: /metrics, /livez, /readyz and /status are here, \
                 the registry is on the other port\n",
            ),
        };
        if *request.method() == Method::HEAD {
            let length = HeaderValue::from(response.body().length());
            response.headers_mut().insert(CONTENT_LENGTH, length);
            *response.body_mut() = ResponseBody::Empty;
        }
        std::future::ready(response)
    };
    serve(
        listener,
        service,
        limits,
        Arc::<Traffic>::default(),
        shutdown,
    )
    .await;
}

#[derive(Clone, Copy)]
enum Page {
    Metrics,
    Live,
    Ready,
    Status,
}

impl Page {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/metrics" => Some(Self::Metrics),
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/status" => Some(Self::Status),
            _ => None,
        }
    }
}

fn status(about: &About, metrics: &Metrics, started: Instant) -> Response<ResponseBody> {
    let status = Status {
        about: about.clone(),
        ready: metrics.ready(),
        uptime_seconds: started.elapsed().as_secs(),
        counts: metrics.snapshot(),
    };
    match serde_json::to_vec(&status) {
        Ok(json) => answer(StatusCode::OK, JSON, json),
        Err(error) => {
            tracing::error!(%error, "status cannot be written as json");
            answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "no status\n")
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
