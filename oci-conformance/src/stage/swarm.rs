//! A node and the supernode that leads it, with the suite between them.
//!
//! The supernode listens on 127.0.0.1; the node is told of it at the same ports of 127.0.0.2, where
//! relays of the suite listen, so that all bytes of peers pass through them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Stage;
use super::process::Process;
use super::relay::Relay;
use crate::check::Stop;
use crate::client::{Client, Site};

/// Where the node finds the supernode.
const BETWEEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Commands as for a registry under test, with some placeholders more.
#[derive(Clone, Debug)]
pub struct SwarmCommands {
    /// Starts a supernode: `{listen}` is where it gives bytes, `{control}` where it leads nodes.
    pub supernode: String,
    /// Starts a node: `{supernode}` is where it is led, `{peer}` where it gives bytes to peers.
    pub node: String,
}

/// A swarm of two. It ends when dropped.
pub struct Swarm {
    /// Asks the node.
    pub mirror: Client,
    /// The node.
    pub node: Process,
    /// Between the node and the bytes of its supernode.
    pub bytes: Relay,
    _control: Relay,
    _supernode: Process,
}

impl Swarm {
    /// Where the node gives bytes to its peers.
    ///
    /// # Errors
    /// Skips the check if the command does not say.
    pub fn peer_port(&self) -> Result<SocketAddr, Stop> {
        let address = self.node.address("peer");
        address.ok_or_else(|| Stop::Skip("the node's command has no {peer}".to_owned()))
    }
}

impl Stage {
    /// Starts a node and its supernode.
    ///
    /// # Errors
    /// Skips the check where it was not told how, or where they cannot be started.
    pub async fn swarm(&self) -> Result<Swarm, Stop> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let commands = self.scene.swarm.as_ref();
        let commands = commands
            .ok_or_else(|| Stop::Skip("needs --run-supernode and --run-node".to_owned()))?;
        let scripted = self.scripted()?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = self.process()?.folder().join(format!("swarm-{number}"));
        let mut names = vec![
            ("upstream", scripted.first.url()),
            ("upstream2", scripted.second.url()),
            ("name", scripted.name.clone()),
            ("name2", scripted.second_name.clone()),
        ];
        let started = Process::start(&commands.supernode, &folder.join("supernode"), &names).await;
        let supernode = started.map_err(skipped)?;
        let control = supernode.address("control").ok_or_else(|| {
            Stop::Skip("the supernode's command does not say {control}".to_owned())
        })?;
        let bytes = between(supernode.listen()).await?;
        let led = between(control).await?;
        names.push((
            "supernode",
            SocketAddr::from((BETWEEN, control.port())).to_string(),
        ));
        let started = Process::start(&commands.node, &folder.join("node"), &names).await;
        let node = started.map_err(skipped)?;
        let site = Site::loopback(node.listen());
        Ok(Swarm {
            mirror: self.mirror.at(site),
            node,
            bytes,
            _control: led,
            _supernode: supernode,
        })
    }
}

async fn between(to: SocketAddr) -> Result<Relay, Stop> {
    let at = SocketAddr::from((BETWEEN, to.port()));
    Relay::start(at, to).await.map_err(skipped)
}

fn skipped(error: impl std::fmt::Display) -> Stop {
    Stop::Skip(format!("a swarm cannot be started here: {error}"))
}
