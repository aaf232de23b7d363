//! Three machines: a supernode and two nodes, each in a network namespace of its own, and a registry beyond a bridge.
//!
//! The clients run where their node runs and reach it at 127.0.0.1. Deliberately not here: how fast it is; that is
//! measured in the lab.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::clients::{Client, Pull, containerd, docker};
use crate::pulls::once_each;
use crate::support::darner::{Darner, Role, With};
use crate::support::images::{Image, image};
use crate::support::net::{Net, Space};
use crate::support::origin::{Access, Origin, Request};
use crate::support::relay::Relay;
use crate::support::{Lab, in_lab, wait_for};

const NAME: &str = "library/lab:layers";
const REFERENCE: &str = "docker.io/library/lab:layers";
const LIMIT: Duration = Duration::from_secs(60);

/// The supernode reads each layer over one connection: the big one then takes some seconds, of which the kill takes
/// the middle.
const UPSTREAM_BYTES_PER_SECOND: u64 = 24 << 20;
/// Until both clients have come so far that they pull: a daemon's start takes long on a busy machine.
const UNTIL_BOTH_PULL: u64 = 4 << 20;

/// A supernode and two nodes, with the registry that they all reach.
struct Swarm<'a> {
    lab: &'a Lab,
    image: Image,
    origin: Origin,
    relay: Relay,
    supernode: Darner,
    nodes: [(&'a Space, Darner); 2],
}

impl<'a> Swarm<'a> {
    /// Must be called outside the machines, in `net.outside`.
    fn start(lab: &'a Lab, net: &'a Net) -> Result<Self> {
        let [leader, first, second] = &net.machines[..] else {
            return Err(anyhow!("three machines are needed"));
        };
        let image = image(NAME)?;
        let origin = Origin::start(lab, &Access::Open)?;
        let relay = Relay::start_on(net.outside.addr, origin.addr)?;
        let url = relay.url();
        let start = |role, space: &Space, flags: &[&str]| {
            let with = With {
                role,
                flags,
                space: Some(space),
                ..With::default()
            };
            Darner::start_with(lab, &[("docker.io", &url)], &with)
        };
        let leads = leader.addr.to_string();
        let supernode = start(Role::Supernode, leader, &["--advertise", &leads])?;
        let node = |space: &'a Space| -> Result<(&'a Space, Darner)> {
            let led = ["--supernode", &format!("{leads}:8002")];
            let port = ["--peer-listen", &format!("{}:65003", space.addr)];
            let reached = ["--advertise", &space.addr.to_string()];
            let flags = [led, port, reached].concat();
            Ok((space, start(Role::Proxy, space, &flags)?))
        };
        let swarm = Self {
            lab,
            image,
            origin,
            relay,
            supernode,
            nodes: [node(first)?, node(second)?],
        };
        for (space, node) in &swarm.nodes {
            wait_for("a node to be led and its peer port reached", LIMIT, || {
                let view = leader_of(node)?;
                (view["live"] == true && view["ours"]["reached"] == true).then_some(())
            })
            .with_context(|| format!("{space:?}"))?;
        }
        Ok(swarm)
    }

    /// Pulls where the node is.
    fn pull(&self, node: usize, client: Client) -> Result<()> {
        let (space, darner) = &self.nodes[node];
        let pull = Pull::public(self.lab, darner, REFERENCE);
        space.inside(|| client.pull_same(&pull, &self.image))
    }

    /// Blobs on their way to a node.
    fn flights(&self, node: usize) -> Option<u64> {
        self.nodes[node].1.status().ok()?["upstreams"]["flights"].as_u64()
    }

    /// Blob bytes that a node got from there.
    fn fetched(&self, node: usize, source: &str) -> Result<u64> {
        let status = self.nodes[node].1.status()?;
        status["fetched_bytes"][source]
            .as_u64()
            .with_context(|| format!("no bytes from {source} in {status}"))
    }
}

/// What a node says of its supernode.
fn leader_of(node: &Darner) -> Option<Value> {
    let mut status = node.status().ok()?;
    Some(status["swarm"]["supernodes"][0].take())
}

/// Runs a test outside three machines.
fn with_swarm(test: impl FnOnce(&Swarm<'_>) -> Result<()> + Send) {
    in_lab(|lab| {
        let net = Net::make(3)?;
        net.outside.inside(|| test(&Swarm::start(lab, &net)?))
    });
}

/// The registry was asked what the tag means, and nothing else, since it had answered so many requests.
fn only_the_tag(requests: &[Request], before: usize) -> Result<()> {
    let more = requests.get(before..).unwrap_or_default();
    let others: Vec<_> = more
        .iter()
        .filter(|request| request.path != "/v2/" && !request.path.ends_with("/manifests/layers"))
        .collect();
    ensure!(
        others.is_empty(),
        "the second node's pull cost the registry more than its tag: {others:#?}"
    );
    Ok(())
}

#[test]
fn what_one_node_pulled_costs_another_nothing_upstream() {
    with_swarm(|swarm| {
        swarm.pull(0, Client::Cri(containerd::Version::V1_7))?;
        once_each(&swarm.image, &swarm.origin.blob_gets())?;
        let (asked, bytes) = (swarm.origin.requests().len(), swarm.relay.bytes());

        swarm.pull(1, Client::Docker(docker::Version::New))?;
        only_the_tag(&swarm.origin.requests(), asked)?;
        // A request is in the registry's log when it ends; what has passed the relay is counted at once.
        let more = swarm.relay.bytes() - bytes;
        ensure!(
            more < 16 << 10,
            "the second pull cost {more} bytes upstream"
        );
        let from = |source| swarm.fetched(1, source);
        let (peers, leader, upstream) = (from("peer")?, from("supernode")?, from("upstream")?);
        let told =
            format!("{peers} from peers, {leader} from the supernode, {upstream} from upstream");
        ensure!(
            upstream == 0 && swarm.fetched(0, "upstream")? == 0,
            "{told}"
        );
        ensure!(peers + leader >= swarm.image.size(), "{told}");
        Ok(())
    });
}

#[test]
fn supernode_killed_in_mid_pull_fails_no_pull() {
    with_swarm(|swarm| {
        swarm.relay.limit(UNTIL_BOTH_PULL);
        thread::scope(|scope| -> Result<()> {
            let first = scope.spawn(|| swarm.pull(0, Client::Cri(containerd::Version::V1_7)));
            let second = scope.spawn(|| swarm.pull(1, Client::Docker(docker::Version::New)));
            wait_for("blobs on their way to both nodes", LIMIT, || {
                (swarm.flights(0)? > 0 && swarm.flights(1)? > 0).then_some(())
            })?;
            swarm.relay.limit(UPSTREAM_BYTES_PER_SECOND);
            let half = swarm.image.size() / 2;
            wait_for("half of the image", Duration::from_secs(120), || {
                (swarm.relay.bytes() > half).then_some(())
            })?;
            swarm.supernode.kill()?;
            ensure!(
                swarm.flights(0) > Some(0) && swarm.flights(1) > Some(0),
                "the supernode was killed after a pull, not in its middle"
            );
            swarm.relay.limit(0);
            for (pulled, node) in [first, second].into_iter().zip(["first", "second"]) {
                pulled
                    .join()
                    .map_err(|_| anyhow!("the pull through the {node} node panicked"))?
                    .with_context(|| format!("through the {node} node"))?;
            }
            Ok(())
        })?;
        for (space, node) in &swarm.nodes {
            wait_for("a node to miss its supernode", LIMIT, || {
                (leader_of(node)?["live"] == false).then_some(())
            })
            .with_context(|| format!("{space:?}"))?;
        }
        let (bytes, size) = (swarm.relay.bytes(), swarm.image.size());
        ensure!(
            bytes * 10 <= size * 12,
            "the nodes did not share what was missing: {bytes} bytes upstream for an image of {size}"
        );
        let upstream = swarm.fetched(0, "upstream")? + swarm.fetched(1, "upstream")?;
        ensure!(
            upstream > 0,
            "what the supernode had not read came from nowhere"
        );
        Ok(())
    });
}
