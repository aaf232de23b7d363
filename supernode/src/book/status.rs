//! What a person is shown of the book.

use serde::{Deserialize, Serialize};
use swarm::Verdict;

use super::Book;
use super::blob::{Feed, Stage};
use crate::scheduler::BlobKey;

/// Nodes and blobs listed at most.
const LISTED_MAX: usize = 1000;

/// A supernode's nodes and blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmStatus {
    /// Nodes that attend.
    pub nodes_count: usize,
    /// Blobs of which the pieces are known.
    pub blobs_count: usize,
    /// The nodes, a bounded number of them.
    pub nodes: Vec<NodeStatus>,
    /// The blobs that are wanted now, a bounded number of them.
    pub blobs: Vec<BlobStatus>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// What people call it.
    pub name: String,
    /// Random, new at every start.
    pub id: String,
    /// Its program's version.
    pub version: String,
    /// Where others find its peer port.
    pub address: String,
    /// The address that its stream comes from.
    pub seen: String,
    /// The address that it advertises, if that cannot be reached, and why.
    pub unreachable: Option<String>,
    /// The address that this supernode advertises, if the node cannot reach it, and why.
    pub cannot_reach: Option<String>,
    /// Its zone, as it says.
    pub zone: String,
    /// Its rack, as it says.
    pub rack: String,
    /// It shows no sign of life.
    pub silent: bool,
    /// It has sent wrong bytes.
    pub banned: bool,
    /// Blobs it takes part in.
    pub flights: usize,
    /// Complete blobs that it gives.
    pub holds: usize,
}

/// One blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobStatus {
    /// Its digest.
    pub digest: String,
    /// Its length in bytes; 0 until upstream has answered.
    pub total: u64,
    /// Its pieces.
    pub pieces: u32,
    /// Pieces of which the digest is known.
    pub checked: usize,
    /// Whether this supernode has all of it.
    pub held: bool,
    /// Nodes that take part.
    pub wanting: usize,
    /// Nodes that hold all of it.
    pub holding: usize,
    /// Pieces that this supernode was told to send.
    pub seed_sends: u64,
}

impl Book {
    pub(crate) fn status(&self) -> SwarmStatus {
        let nodes = self.nodes.iter().take(LISTED_MAX);
        let nodes = nodes.map(|(_, node)| NodeStatus {
            name: node.name.clone(),
            id: node.id.clone(),
            version: node.version.clone(),
            address: node.address.clone(),
            seen: node.seen.to_string(),
            unreachable: node.verdict.as_ref().and_then(unreached),
            cannot_reach: node.ours.as_ref().and_then(unreached),
            zone: node.site.zone.to_string(),
            rack: node.site.rack.to_string(),
            silent: node.silent,
            banned: node.banned,
            flights: node.flights.len(),
            holds: node.holds.len(),
        });
        let blobs = self.blobs.iter().filter(|(_, blob)| !blob.is_idle());
        let blobs = blobs.take(LISTED_MAX).map(|(number, blob)| {
            let progress = self.scheduler.progress(BlobKey(number)).unwrap_or_default();
            let within = |stage: &Stage| matches!(stage, Stage::In { .. });
            let wanting = blob.members.values().filter(|one| within(&one.stage));
            BlobStatus {
                digest: blob.digest.to_string(),
                total: blob.layout.map_or(0, |layout| layout.total()),
                pieces: blob.layout.map_or(0, |layout| layout.count()),
                checked: blob.digests.len(),
                held: matches!(blob.feed, Feed::Held(_)),
                wanting: wanting.count(),
                holding: self.holders.get(&blob.digest).map_or(0, |all| all.len()),
                seed_sends: progress.seed_sends,
            }
        });
        SwarmStatus {
            nodes_count: self.nodes.len(),
            blobs_count: self.blobs.len(),
            nodes: nodes.collect(),
            blobs: blobs.collect(),
        }
    }
}

fn unreached(verdict: &Verdict) -> Option<String> {
    (!verdict.reached).then(|| format!("{}: {}", verdict.address, verdict.error))
}
