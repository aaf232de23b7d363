//! What a node counts: for Prometheus by name, for `darner status` as one [`Snapshot`].
//!
//! Invariants: every label has a small closed set of values (registries come from the closed table),
//! units are in the names, counters are made once and then cost an atomic addition. What the store,
//! the engine and the server count themselves is read when asked, not counted twice.
//!
//! Deliberately not here: serving it (see [`crate::admin`]).

mod giving;
mod house;
mod labels;
mod snapshot;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::{Method, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use swarm::{EngineStats, Usage};

use crate::http::Traffic;
use giving::Giving;

pub use labels::{RouteKind, Source, UpstreamKind};
pub use snapshot::{Bytes, LastPull, Requests, Snapshot, StoreUse, Upstreams};

/// Seconds until a response head: from a manifest in memory to a slow upstream.
const HEAD_BUCKETS: [f64; 12] = [
    0.000_1, 0.000_5, 0.002, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// Reads how many supernodes lead now, and how many other nodes are known.
pub type SwarmProbe = Box<dyn Fn() -> (u64, u64) + Send + Sync>;

/// Reads the counts that others keep: the store's and the engine's.
pub type Probe = Box<dyn Fn() -> (Usage, EngineStats) + Send + Sync>;

type Labels<const N: usize> = [(&'static str, &'static str); N];
type ByRegistry = [(&'static str, String); 3];

/// The counters of one process. Cheap to use from any task.
pub struct Metrics {
    registry: Registry,
    traffic: Arc<Traffic>,
    probe: Arc<Probe>,
    requests: Family<Labels<3>, Counter>,
    /// The same counters by index: a request costs no lock and no hashing.
    requests_by_index: Vec<OnceLock<Counter>>,
    head_seconds: Vec<Histogram>,
    sent: Vec<Counter>,
    hits: Vec<Counter>,
    misses: Vec<Counter>,
    upstream_requests: Family<ByRegistry, Counter>,
    giving: Giving,
    last_pull: Mutex<Option<LastPull>>,
    last_pull_at: Gauge,
    ready: std::sync::atomic::AtomicBool,
}

impl Metrics {
    /// Registers everything. `probe` is asked at each scrape and each snapshot.
    pub fn new(probe: Probe) -> Arc<Self> {
        Self::build(probe, None)
    }

    /// The same of a node in a swarm.
    pub fn in_swarm(probe: Probe, swarm: SwarmProbe) -> Arc<Self> {
        Self::build(probe, Some(swarm))
    }

    fn build(probe: Probe, swarm: Option<SwarmProbe>) -> Arc<Self> {
        let mut registry = Registry::with_prefix("darner");
        let traffic = Arc::<Traffic>::default();
        let probe = Arc::new(probe);
        house::register(
            &mut registry,
            Arc::clone(&probe),
            swarm,
            Arc::clone(&traffic),
        );

        let requests = Family::default();
        registry.register(
            "http_requests",
            "Requests answered, by route, method and class of status",
            requests.clone(),
        );
        let head_seconds = head_seconds(&mut registry);
        let sent = Family::<Labels<1>, Counter>::default();
        registry.register_with_unit(
            "sent",
            "Blob bytes sent to clients, by where they came from",
            Unit::Bytes,
            sent.clone(),
        );
        let hits = Family::<Labels<1>, Counter>::default();
        registry.register(
            "cache_hits",
            "Requests answered from what was held already",
            hits.clone(),
        );
        let misses = Family::<Labels<1>, Counter>::default();
        registry.register("cache_misses", "Requests that had to ask", misses.clone());
        let upstream_requests = Family::default();
        registry.register(
            "upstream_requests",
            "Requests sent, by registry, kind and status (or why there was none)",
            upstream_requests.clone(),
        );
        let giving = Giving::register(&mut registry);
        let last_pull_at = Gauge::default();
        registry.register_with_unit(
            "last_pull_timestamp",
            "When a client last got a manifest",
            Unit::Seconds,
            last_pull_at.clone(),
        );

        let by_route = |family: &Family<Labels<1>, Counter>| {
            let counter =
                |route: &RouteKind| family.get_or_create_owned(&[("route", route.name())]);
            RouteKind::ALL.iter().map(counter).collect()
        };
        Arc::new(Self {
            traffic,
            probe,
            requests,
            requests_by_index: std::iter::repeat_with(OnceLock::new)
                .take(RouteKind::ALL.len() * labels::METHODS.len() * labels::CLASSES.len())
                .collect(),
            head_seconds,
            sent: Source::ALL
                .map(|source| sent.get_or_create_owned(&[("source", source.name())]))
                .into(),
            hits: by_route(&hits),
            misses: by_route(&misses),
            upstream_requests,
            giving,
            last_pull: Mutex::default(),
            last_pull_at,
            ready: false.into(),
            registry,
        })
    }

    /// For [`crate::http::serve`].
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// A request was answered with this head, so long after its own.
    pub fn request(&self, route: RouteKind, method: &Method, status: StatusCode, took: Duration) {
        let (method, class) = (labels::method(method), labels::class(status));
        let index =
            (route as usize * labels::METHODS.len() + method) * labels::CLASSES.len() + class;
        self.requests_by_index[index]
            .get_or_init(|| {
                self.requests.get_or_create_owned(&[
                    ("route", route.name()),
                    ("method", labels::METHODS[method]),
                    ("status", labels::CLASSES[class]),
                ])
            })
            .inc();
        self.head_seconds[route as usize].observe(took.as_secs_f64());
    }

    /// What [`crate::http::ResponseBody::counted`] takes: blob bytes sent that came from `source`.
    pub fn sent(&self, source: Source) -> Counter {
        self.sent[source as usize].clone()
    }

    /// The answer was held already.
    pub fn hit(&self, route: RouteKind) {
        self.hits[route as usize].inc();
    }

    /// Somebody had to be asked.
    pub fn miss(&self, route: RouteKind) {
        self.misses[route as usize].inc();
    }

    /// A request was sent to `registry`; `None` when no status came back.
    pub fn upstream_request(&self, registry: &str, kind: UpstreamKind, status: Option<StatusCode>) {
        let status = status.map_or_else(|| "none".into(), |status| status.as_str().to_owned());
        let labels = [
            ("registry", registry.to_owned()),
            ("kind", kind.name().to_owned()),
            ("status", status),
        ];
        self.upstream_requests.get_or_create(&labels).inc();
    }

    /// What [`crate::http::ResponseBody::counted`] takes: blob bytes given to other nodes.
    pub fn given(&self) -> Counter {
        self.giving.bytes.clone()
    }

    /// Another node's request was answered.
    pub fn peer_request(&self, status: StatusCode) {
        self.giving.answered(status);
    }

    /// A client got this manifest by GET.
    pub fn pulled(&self, registry: &str, repository: &str, reference: &str) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = now.as_secs();
        self.last_pull_at.set(seconds.cast_signed());
        let mut last = self
            .last_pull
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some(last) if last.is(registry, repository, reference) => last.at_seconds = seconds,
            last => *last = Some(LastPull::new(registry, repository, reference, seconds)),
        }
    }

    /// Whether `/readyz` says yes: the front door is open.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// What was last given to [`Metrics::set_ready`].
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Everything that `darner status` shows.
    pub fn snapshot(&self) -> Snapshot {
        let (usage, engine) = (self.probe)();
        let last_pull = self
            .last_pull
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let count = |index: usize| self.requests_by_index[index].get().map_or(0, Counter::get);
        let width = labels::METHODS.len() * labels::CLASSES.len();
        let route = |route: RouteKind| {
            let first = route as usize * width;
            (first..first + width).map(count).sum::<u64>()
        };
        let failed = (0..self.requests_by_index.len())
            .filter(|index| index % labels::CLASSES.len() == labels::FAILED)
            .map(count)
            .sum();
        let (manifest, blob) = (RouteKind::Manifest as usize, RouteKind::Blob as usize);
        let both = |counters: &[Counter]| counters[manifest].get() + counters[blob].get();
        let sent = |source: Source| self.sent[source as usize].get();
        let (hits, misses) = (both(&self.hits), both(&self.misses));
        Snapshot {
            requests: Requests {
                total: RouteKind::ALL.map(route).into_iter().sum(),
                manifests: route(RouteKind::Manifest),
                blobs: route(RouteKind::Blob),
                failed,
                connections: self.traffic.open.load(Ordering::Relaxed),
                in_flight: self.traffic.in_flight.load(Ordering::Relaxed),
            },
            sent_bytes: Bytes {
                store: sent(Source::Store),
                peer: sent(Source::Peer),
                supernode: sent(Source::Supernode),
                upstream: sent(Source::Upstream),
            },
            fetched_bytes: snapshot::fetched(&engine),
            given_bytes: self.giving.bytes.get(),
            hits,
            misses,
            hit_ratio: (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64),
            last_pull,
            store: snapshot::store(&usage),
            upstreams: snapshot::upstreams(&engine),
        }
    }
}

fn head_seconds(registry: &mut Registry) -> Vec<Histogram> {
    let family =
        Family::<Labels<1>, Histogram>::new_with_constructor(|| Histogram::new(HEAD_BUCKETS));
    registry.register_with_unit(
        "http_response_head",
        "Time from a request's head to its response's head",
        Unit::Seconds,
        family.clone(),
    );
    RouteKind::ALL
        .map(|route| family.get_or_create_owned(&[("route", route.name())]))
        .into()
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Arc<Metrics> {
        Metrics::new(Box::new(|| (Usage::default(), EngineStats::default())))
    }

    #[test]
    fn names_have_the_prefix_and_a_unit_and_end_in_eof() {
        let metrics = metrics();
        let took = Duration::from_millis(1);
        metrics.request(
            RouteKind::Blob,
            &Method::GET,
            StatusCode::PARTIAL_CONTENT,
            took,
        );
        metrics.upstream_request("docker.io", UpstreamKind::BlobGet, None);
        metrics.sent(Source::Store).inc_by(7);
        let text = metrics.text();
        for line in [
            r#"darner_http_requests_total{route="blob",method="GET",status="2xx"} 1"#,
            r#"darner_upstream_requests_total{registry="docker.io",kind="blob_get",status="none"} 1"#,
            r#"darner_sent_bytes_total{source="store"} 7"#,
            "darner_store_held_bytes 0",
            "darner_wrong_digests_total 0",
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
        let foreign = text
            .lines()
            .find(|it| !it.starts_with('#') && !it.starts_with("darner_"));
        assert_eq!(foreign, None);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_snapshot_says_what_was_counted_and_survives_json() {
        let metrics = metrics();
        let none = Duration::ZERO;
        metrics.request(RouteKind::Manifest, &Method::HEAD, StatusCode::OK, none);
        metrics.request(RouteKind::Blob, &Method::GET, StatusCode::BAD_GATEWAY, none);
        metrics.hit(RouteKind::Manifest);
        metrics.miss(RouteKind::Blob);
        metrics.pulled("docker.io", "library/alpine", "3.20");
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.requests.total, 2);
        assert_eq!(snapshot.requests.failed, 1);
        assert_eq!(snapshot.hit_ratio, Some(0.5));
        let image = snapshot.last_pull.as_ref().map(LastPull::image);
        assert_eq!(image.as_deref(), Some("docker.io/library/alpine:3.20"));
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }
}
