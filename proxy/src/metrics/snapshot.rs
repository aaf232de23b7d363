//! What `darner status` shows, as data: written by the node, read by the command.

use serde::{Deserialize, Serialize};
use swarm::{EngineStats, Origin, Usage};

/// The counts of a node since its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Requests of clients.
    pub requests: Requests,
    /// Blob bytes sent to clients, by where they came from.
    pub sent_bytes: Bytes,
    /// Blob bytes fetched; `store` is always 0 here.
    pub fetched_bytes: Bytes,
    /// Blob bytes given to other nodes.
    #[serde(default)]
    pub given_bytes: u64,
    /// Manifests and blobs that were held.
    pub hits: u64,
    /// Manifests and blobs that had to be asked for.
    pub misses: u64,
    /// Hits of all; `None` before the first request.
    pub hit_ratio: Option<f64>,
    /// The manifest a client got last.
    pub last_pull: Option<LastPull>,
    /// The store.
    pub store: StoreUse,
    /// What went on towards sources.
    pub upstreams: Upstreams,
}

/// Requests of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// All that were answered.
    pub total: u64,
    /// For manifests.
    pub manifests: u64,
    /// For blobs.
    pub blobs: u64,
    /// Answered 5xx.
    pub failed: u64,
    /// Connections open now.
    pub connections: u64,
    /// Being answered now.
    pub in_flight: u64,
}

/// Bytes by where they came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Held here.
    pub store: u64,
    /// Other nodes.
    pub peer: u64,
    /// The supernode.
    pub supernode: u64,
    /// Registries.
    pub upstream: u64,
}

/// A manifest that a client got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPull {
    /// The registry's name.
    pub registry: String,
    /// The repository within it.
    pub repository: String,
    /// Tag or digest.
    pub reference: String,
    /// Seconds since 1970.
    pub at_seconds: u64,
}

/// How full the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreUse {
    /// Complete blobs, in bytes.
    pub held_bytes: u64,
    /// Arriving blobs, in bytes.
    pub partial_bytes: u64,
    /// The bound, in bytes.
    pub cap_bytes: u64,
    /// Count of complete blobs.
    pub blobs: u64,
    /// Evicted since the start.
    pub evicted: u64,
}

/// What went on towards sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstreams {
    /// Blobs on their way now.
    pub flights: u64,
    /// Fetches that went on where one was cut.
    pub resumed: u64,
    /// Blobs that were not what they should be.
    pub wrong_digests: u64,
    /// Blobs that could not be stored and went through memory.
    pub passed_through: u64,
}

impl LastPull {
    pub(super) fn new(registry: &str, repository: &str, reference: &str, at_seconds: u64) -> Self {
        Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            reference: reference.to_owned(),
            at_seconds,
        }
    }

    pub(super) fn is(&self, registry: &str, repository: &str, reference: &str) -> bool {
        self.registry == registry && self.repository == repository && self.reference == reference
    }

    /// As a person writes it: `registry/repository:tag`, or `@digest`.
    pub fn image(&self) -> String {
        let mark = if self.reference.contains(':') {
            '@'
        } else {
            ':'
        };
        format!(
            "{}/{}{mark}{}",
            self.registry, self.repository, self.reference
        )
    }
}

pub(super) fn fetched(engine: &EngineStats) -> Bytes {
    Bytes {
        store: 0,
        peer: engine.fetched_bytes(Origin::Peer),
        supernode: engine.fetched_bytes(Origin::Supernode),
        upstream: engine.fetched_bytes(Origin::Upstream),
    }
}

pub(super) fn store(usage: &Usage) -> StoreUse {
    StoreUse {
        held_bytes: usage.held_bytes,
        partial_bytes: usage.partial_bytes,
        cap_bytes: usage.cap_bytes,
        blobs: usage.held_blobs,
        evicted: usage.evicted_blobs,
    }
}

pub(super) fn upstreams(engine: &EngineStats) -> Upstreams {
    Upstreams {
        flights: engine.flights_in_progress,
        resumed: engine.resumed,
        wrong_digests: engine.wrong_digests,
        passed_through: engine.passed_through,
    }
}
