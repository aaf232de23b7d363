//! Counts that the store, the engine and the server keep themselves, read at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use swarm::Origin;

use super::{Probe, Source};
use crate::http::Traffic;

pub(super) fn register(registry: &mut Registry, probe: Arc<Probe>, traffic: Arc<Traffic>) {
    registry.register_collector(Box::new(House { probe, traffic }));
}

struct House {
    probe: Arc<Probe>,
    traffic: Arc<Traffic>,
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").finish_non_exhaustive()
    }
}

impl Collector for House {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (usage, engine) = (self.probe)();
        let mut page = Page { encoder };
        let bytes = Some(Unit::Bytes);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);

        page.fetched(|origin| engine.fetched_bytes(origin))?;
        page.counter("flights", "Blobs asked of a source", engine.flights_started)?;
        page.counter(
            "flights_joined",
            "Reads that found a flight",
            engine.flights_joined,
        )?;
        page.counter(
            "resumes",
            "Fetches that went on where one was cut",
            engine.resumed,
        )?;
        page.counter(
            "wrong_digests",
            "Blobs that were not what they should be",
            engine.wrong_digests,
        )?;
        page.counter(
            "passed_through",
            "Flights that could not store",
            engine.passed_through,
        )?;
        let now = engine.flights_in_progress;
        page.gauge("flights_in_progress", "Blobs on their way", None, now)?;

        page.gauge(
            "store_cap",
            "Bound of the store",
            bytes.as_ref(),
            usage.cap_bytes,
        )?;
        page.gauge(
            "store_held",
            "Complete blobs",
            bytes.as_ref(),
            usage.held_bytes,
        )?;
        page.gauge(
            "store_partial",
            "Reserved for arriving blobs",
            bytes.as_ref(),
            usage.partial_bytes,
        )?;
        page.gauge(
            "store_held_blobs",
            "Count of complete blobs",
            None,
            usage.held_blobs,
        )?;
        page.counter("store_evictions", "Blobs evicted", usage.evicted_blobs)?;
        page.counter(
            "store_rotten",
            "Blobs that a scrub found rotten",
            usage.rotten_blobs,
        )?;

        let traffic = &self.traffic;
        page.counter(
            "http_connections",
            "Connections accepted",
            read(&traffic.accepted),
        )?;
        page.gauge(
            "http_connections_open",
            "Connections open",
            None,
            read(&traffic.open),
        )?;
        page.gauge(
            "http_requests_in_flight",
            "Requests being answered",
            None,
            read(&traffic.in_flight),
        )?;
        page.sum(
            "http_sendfile",
            "Sent by sendfile",
            bytes.as_ref(),
            read(&traffic.sendfile_bytes),
        )?;
        page.sum(
            "http_memory",
            "Sent from memory",
            bytes.as_ref(),
            read(&traffic.memory_bytes),
        )
    }
}

/// The page being written.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.sum(name, help, None, value)
    }

    fn sum(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let metric = ConstCounter::new(value);
        let encoder = self
            .encoder
            .encode_descriptor(name, help, unit, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        let metric = ConstGauge::new(value);
        let encoder = self
            .encoder
            .encode_descriptor(name, help, unit, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn fetched(&mut self, read: impl Fn(Origin) -> u64) -> fmt::Result {
        let kind = prometheus_client::metrics::MetricType::Counter;
        let help = "Blob bytes fetched, by where from";
        let unit = Some(Unit::Bytes);
        let mut family = self
            .encoder
            .encode_descriptor("fetched", help, unit.as_ref(), kind)?;
        for origin in Origin::ALL {
            let labels = [("origin", Source::from(origin).name())];
            let metric = ConstCounter::new(read(origin));
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
