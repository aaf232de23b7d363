//! Counts that the store, the engine and the server keep themselves, read at each scrape.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use swarm::{EngineStats, Origin, Usage};

use super::{Probe, Source, SwarmProbe};
use crate::http::Traffic;

pub(super) fn register(
    registry: &mut Registry,
    probe: Arc<Probe>,
    swarm: Option<SwarmProbe>,
    traffic: Arc<Traffic>,
) {
    let house = House {
        probe,
        swarm,
        traffic,
    };
    registry.register_collector(Box::new(house));
}

struct House {
    probe: Arc<Probe>,
    swarm: Option<SwarmProbe>,
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
        page.engine(&engine)?;
        page.store(&usage)?;
        if let Some(swarm) = &self.swarm {
            page.swarm(swarm())?;
        }
        page.server(&self.traffic)
    }
}

/// The page being written.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

const BYTES: Option<&Unit> = Some(&Unit::Bytes);

impl Page<'_> {
    fn engine(&mut self, engine: &EngineStats) -> fmt::Result {
        self.fetched(|origin| engine.fetched_bytes(origin))?;
        let now = engine.flights_in_progress;
        self.gauge("flights_in_progress", "Blobs on their way", None, now)?;
        for (name, help, value) in [
            ("flights", "Blobs asked of a source", engine.flights_started),
            (
                "flights_joined",
                "Reads that found a flight",
                engine.flights_joined,
            ),
            (
                "resumes",
                "Fetches that went on where one was cut",
                engine.resumed,
            ),
            (
                "wrong_digests",
                "Blobs that were not what they should be",
                engine.wrong_digests,
            ),
            (
                "passed_through",
                "Flights that could not store",
                engine.passed_through,
            ),
        ] {
            self.sum(name, help, None, value)?;
        }
        Ok(())
    }

    fn store(&mut self, usage: &Usage) -> fmt::Result {
        for (name, help, unit, value) in [
            ("store_cap", "Bound of the store", BYTES, usage.cap_bytes),
            ("store_held", "Complete blobs", BYTES, usage.held_bytes),
            (
                "store_partial",
                "Reserved for arriving blobs",
                BYTES,
                usage.partial_bytes,
            ),
            (
                "store_held_blobs",
                "Count of complete blobs",
                None,
                usage.held_blobs,
            ),
        ] {
            self.gauge(name, help, unit, value)?;
        }
        self.sum(
            "store_evictions",
            "Blobs evicted",
            None,
            usage.evicted_blobs,
        )?;
        self.sum(
            "store_rotten",
            "Blobs that a read or a scrub found rotten",
            None,
            usage.rotten_blobs,
        )
    }

    fn swarm(&mut self, (live, known): (u64, u64)) -> fmt::Result {
        let help = "Supernodes that lead now";
        self.gauge("supernodes_live", help, None, live)?;
        self.gauge("peers_known", "Other nodes that were named", None, known)
    }

    fn server(&mut self, traffic: &Traffic) -> fmt::Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("http_connections_open", "Connections open", &traffic.open),
            (
                "http_connections_parked",
                "Of these, idle ones",
                &traffic.parked,
            ),
            (
                "http_requests_in_flight",
                "Requests being answered",
                &traffic.in_flight,
            ),
        ] {
            self.gauge(name, help, None, read(value))?;
        }
        for (name, help, unit, value) in [
            (
                "http_connections",
                "Connections accepted",
                None,
                &traffic.accepted,
            ),
            (
                "http_sendfile",
                "Sent by sendfile",
                BYTES,
                &traffic.sendfile_bytes,
            ),
            (
                "http_memory",
                "Sent from memory",
                BYTES,
                &traffic.memory_bytes,
            ),
        ] {
            self.sum(name, help, unit, read(value))?;
        }
        Ok(())
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
