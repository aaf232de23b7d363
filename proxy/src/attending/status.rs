//! What a node says of its swarm: written by the node, read by `darner status`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use swarm::{Attendance, SupernodeStatus, Verdict};

/// A node's place in its swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmStatus {
    /// Where other nodes get pieces from this one.
    pub peer_listen: SocketAddr,
    /// The supernodes, as configured.
    pub supernodes: Vec<SupernodeView>,
}

/// How a supernode is, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupernodeView {
    /// `host:port` as configured.
    pub address: String,
    /// What it calls itself; empty until it has spoken.
    pub name: String,
    /// Whether it leads now.
    pub live: bool,
    /// Why it does not; empty while it does, and before the first try has ended.
    pub why: String,
    /// Other nodes that it has named.
    pub nodes: usize,
    /// What it found out about this node's peer port.
    pub ours: Option<Reach>,
    /// What this node found out about where it serves bytes.
    pub theirs: Option<Reach>,
}

/// Whether an advertised address can be reached from the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The advertised address, `host:port`.
    pub address: String,
    /// Whether it answers.
    pub reached: bool,
    /// The one that is used instead, if one answers.
    pub instead: Option<String>,
    /// What the system says of the advertised one.
    pub error: String,
}

impl SwarmStatus {
    pub(super) fn of(attendance: &Attendance, peer_listen: SocketAddr) -> Self {
        let supernodes = attendance.status().into_iter();
        Self {
            peer_listen,
            supernodes: supernodes.map(SupernodeView::from).collect(),
        }
    }
}

impl From<SupernodeStatus> for SupernodeView {
    fn from(status: SupernodeStatus) -> Self {
        Self {
            address: status.address,
            name: status.name,
            live: status.live,
            why: status.why,
            nodes: status.nodes,
            ours: status.ours.map(Reach::from),
            theirs: status.theirs.map(Reach::from),
        }
    }
}

impl From<Verdict> for Reach {
    fn from(verdict: Verdict) -> Self {
        Self {
            address: verdict.address,
            reached: verdict.reached,
            instead: verdict.instead,
            error: verdict.error,
        }
    }
}
