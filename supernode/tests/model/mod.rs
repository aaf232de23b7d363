//! A swarm in one process: the production scheduler, and links, nodes and faults that are made up.
//!
//! Event-driven and seeded: the same world gives the same run. Links are as in [`links`]; between an
//! event and the instruction that follows from it passes `latency`. The seed is fed by upstream, piece
//! by piece, while it sends. Not here: bytes, digests, HTTP, and the batching of reports.

#![allow(dead_code, reason = "the bench and each test use their own part of it")]

pub(crate) mod links;
mod outcome;
mod run;

use std::time::Duration;

use supernode::scheduler::{Options, Site};
use swarm::Layout;

pub(crate) use outcome::Outcome;
pub(crate) use run::run;

/// Payload bytes per second of a link of 100 Mbit/s.
pub(crate) const RATE: f64 = 100e6 / 8.0 * 1448.0 / 1514.0;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Payload bytes per second in each direction.
    pub(crate) up: f64,
    pub(crate) down: f64,
    pub(crate) site: Site,
    /// When it first asks.
    pub(crate) asks_at: Duration,
    pub(crate) manner: Manner,
}

/// What a node does that it should not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// Nothing.
    Honest,
    /// All that it sends is wrong.
    Liar,
    /// From then on it neither sends nor receives nor speaks.
    FreezesAt(Duration),
    /// It is killed then, and its connections break.
    DiesAt(Duration),
}

impl Host {
    /// An honest node with the same rate both ways, that asks at once.
    pub(crate) fn of(rate: f64) -> Self {
        Self {
            up: rate,
            down: rate,
            site: Site::default(),
            asks_at: Duration::ZERO,
            manner: Manner::Honest,
        }
    }
}

/// All that determines a run.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The nodes; the book's number of each is one more than its place here.
    pub(crate) hosts: Vec<Host>,
    /// What every node wants, three at a time.
    pub(crate) blobs: Vec<Layout>,
    /// The seed's link, and upstream's.
    pub(crate) seed_rate: f64,
    pub(crate) upstream_rate: f64,
    /// From an event to the start of the transfer that follows from it.
    pub(crate) latency: Duration,
    pub(crate) links: links::Links,
    pub(crate) options: Options,
    pub(crate) seed: u64,
    /// After so long without a sign of life the book says so.
    pub(crate) silence: Duration,
    /// Whether the outcome tells all that the scheduler was told.
    pub(crate) records: bool,
}

impl World {
    /// A flash crowd: `nodes` equal links, one blob of `total` bytes, the seed and upstream alike.
    pub(crate) fn crowd(nodes: usize, total: u64) -> Self {
        let layout = Layout::of(total);
        let piece_time = layout.piece_size() as f64 / RATE;
        Self {
            hosts: vec![Host::of(RATE); nodes],
            blobs: vec![layout],
            seed_rate: RATE,
            upstream_rate: RATE,
            latency: Duration::from_secs_f64(piece_time * 0.15),
            links: links::Links::Shared,
            options: Options::prompt(),
            seed: 1,
            silence: Duration::from_secs(1),
            records: false,
        }
    }

    /// Sets the latency in piece times of the first blob.
    pub(crate) fn latency_in_pieces(mut self, pieces: f64) -> Self {
        let piece_time = self.blobs[0].piece_size() as f64 / RATE;
        self.latency = Duration::from_secs_f64(piece_time * pieces);
        self
    }
}
