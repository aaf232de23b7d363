//! The page `/flights`: which blobs are on their way to this node, and from where their bytes come.
//!
//! The last flights that ended stay on it for a while, so that who looks now and then sees how a
//! short one went. Invariant: names, sizes and counts only.

use serde::{Deserialize, Serialize};
use swarm::{Engine, FlightView, Origin};

/// One flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlightShown {
    /// The blob.
    pub digest: String,
    /// The registry's name.
    pub registry: String,
    /// Its size in bytes, once known.
    #[serde(default)]
    pub total: Option<u64>,
    /// Bytes of it that are stored; of no value once the flight is over.
    #[serde(default)]
    pub present: u64,
    /// Whether it has ended.
    #[serde(default)]
    pub over: bool,
    /// Body bytes that came, also those thrown away.
    #[serde(default)]
    pub from: Came,
}

/// Bytes by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Came {
    /// Registries.
    pub upstream: u64,
    /// The supernode.
    pub supernode: u64,
    /// Other nodes.
    pub peer: u64,
}

/// The flights of `engine`: those under way first, then the last that ended, newest first.
pub(crate) fn shown(engine: &Engine) -> Vec<FlightShown> {
    let show = |view: &FlightView| FlightShown {
        digest: view.digest.to_string(),
        registry: view.scope.as_str().to_owned(),
        total: view.total,
        present: view.present,
        over: view.over,
        from: Came {
            upstream: view.came(Origin::Upstream),
            supernode: view.came(Origin::Supernode),
            peer: view.came(Origin::Peer),
        },
    };
    engine.flights().iter().map(show).collect()
}
