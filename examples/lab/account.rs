//! What a run moved and cost: counts before and after, and their difference.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::counters::{Cores, Counters, Links};
use crate::daemon::{Usage, own_cpu};
use crate::origin::{Origin, Served};
use crate::outcome::{Effort, Traffic};
use crate::place::Place;

const GIB: f64 = (1_u64 << 30) as f64;

/// All counts at one moment.
pub(crate) struct Account {
    pub(crate) links: Links,
    cores: Cores,
    served: Served,
    registry: Usage,
    supernode: Usage,
    /// Of all nodes together; the peak is the largest one's.
    nodes: Usage,
    own: Duration,
}

impl Account {
    /// Takes them; killed darners count with what was last seen of them.
    pub(crate) fn take(
        counters: &Counters,
        origin: &Origin,
        cluster: &mut Cluster,
        nodes: usize,
    ) -> Result<Self> {
        cluster.look();
        let all = (0..nodes).map(|node| cluster.usage(Place::Node(node)));
        Ok(Self {
            links: counters.read()?,
            cores: Cores::read()?,
            served: origin.served(),
            registry: origin.usage(),
            supernode: cluster.usage(Place::Supernode),
            nodes: all.fold(Usage::default(), |sum, node| Usage {
                cpu: sum.cpu + node.cpu,
                peak_bytes: sum.peak_bytes.max(node.peak_bytes),
            }),
            own: own_cpu(),
        })
    }

    /// Bytes since `before`.
    pub(crate) fn traffic_since(&self, before: &Self) -> Traffic {
        let sent = |place| self.links.sent_since(&before.links, place);
        Traffic {
            origin_sent: sent(Place::Origin),
            origin_served: self.served.since(before.served),
            supernode_sent: sent(Place::Supernode),
        }
    }

    /// Effort since `before`, in which clients got `delivered` bytes; `busy` is what the machine was then.
    pub(crate) fn effort_since(&self, before: &Self, delivered: u64, busy: f64) -> Effort {
        let spent = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64();
        let nodes = spent(self.nodes.cpu, before.nodes.cpu);
        let supernode = spent(self.supernode.cpu, before.supernode.cpu);
        let registry = spent(self.registry.cpu, before.registry.cpu);
        let own = spent(self.own, before.own);
        let all = self.cores.busy_seconds_since(before.cores);
        Effort {
            nodes_cpu_seconds: nodes,
            supernode_cpu_seconds: supernode,
            cpu_seconds_per_gib: (nodes + supernode) / (delivered.max(1) as f64 / GIB),
            registry_cpu_seconds: registry,
            lab_cpu_seconds: own,
            other_cpu_seconds: (all - nodes - supernode - registry - own).max(0.0),
            machine_busy: busy,
            node_peak_bytes: self.nodes.peak_bytes,
            supernode_peak_bytes: self.supernode.peak_bytes,
        }
    }
}
