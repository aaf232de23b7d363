//! The supernode: the node's library run as a seed for other clients and nodes.
//!
//! It is a node whose front door others reach, under a name it advertises, and which leads other
//! nodes from its control port: the book knows who has what, the scheduler decides who fetches which
//! piece from whom, the seeding reads each blob once from upstream. Invariants: it serves nothing
//! that the node would not serve, and it shares nothing that upstream does not give to anybody.
//! Deliberately not here: what a node does with what it is told (`swarm`), and other supernodes, of
//! which this one knows nothing.

mod book;
mod control;
mod leader;
pub mod scheduler;
mod seeding;

pub use book::{BlobStatus, NodeStatus, SwarmStatus};

use std::net::{IpAddr, SocketAddr};

use proxy::{Addrs, RunError};
use swarm::attend::address;
use tokio_util::sync::CancellationToken;

use control::{Control, ControlOptions};

/// The supernode's front door, the seed's port.
pub const LISTEN_PORT: u16 = 8001;
/// The supernode's control port.
pub const CONTROL_PORT: u16 = 8002;

/// What a supernode is told.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The node it is. Its control port is `node.control`, or `node.admin` if that is the only one.
    pub node: proxy::Config,
    /// The name or address that others reach it by; without one, the address it listens on.
    pub advertise: Option<String>,
    /// What it calls itself. All nodes must hear the same, and of each supernode another: they rank
    /// supernodes by it. Without one, the advertised host or the machine's name, and the port.
    pub name: Option<String>,
    /// How it decides who fetches what from whom.
    pub scheduler: scheduler::Options,
}

/// Why a supernode cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The node in it cannot.
    #[error(transparent)]
    Node(#[from] proxy::BuildError),
    /// Nobody else could reach it under that name.
    #[error(
        "advertise: nobody else reaches `{0}`\nhint: give the name or address of this machine that others use"
    )]
    Advertise(String),
}

/// A supernode that is ready to run.
#[derive(Debug)]
pub struct App {
    node: proxy::App,
    reached_at: Vec<String>,
    control: Control,
}

impl App {
    /// Opens folder and ports. Must be called within a tokio runtime; blocks for the disk.
    ///
    /// # Errors
    /// [`BuildError`] for the first thing that does not work.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        if let Some(host) = &config.advertise
            && !can_be_reached(host)
        {
            return Err(BuildError::Advertise(host.clone()));
        }
        let grant = config.node.trust.grant;
        let mut node = proxy::App::build(config.node)?;
        let listen = node.addrs().listen.clone();
        let reached_at = reached_at(&listen, config.advertise.as_deref());
        let open = listen.iter().any(|address| !address.ip().is_loopback());
        if open && reached_at.is_empty() {
            tracing::warn!(
                "no address that others reach is known; hint: name one with --advertise HOST"
            );
        }
        let name = config.name.unwrap_or_else(|| {
            let host = config.advertise.or_else(machine_name).unwrap_or_default();
            address::join(&host, listen.first().map_or(0, SocketAddr::port))
        });
        let options = ControlOptions {
            name,
            reached_at: reached_at.first().cloned(),
            grant,
            scheduler: config.scheduler,
        };
        let control = Control::attach(&mut node, options);
        Ok(Self {
            node,
            reached_at,
            control,
        })
    }

    /// Where it listens.
    pub fn addrs(&self) -> &Addrs {
        self.node.addrs()
    }

    /// `host:port` of the front door as others reach it; empty if that is not known.
    pub fn reached_at(&self) -> &[String] {
        &self.reached_at
    }

    /// A look at its nodes and blobs, also while it runs.
    pub fn look(&self) -> impl Fn() -> SwarmStatus + Send + Sync + use<> {
        let control = self.control.clone();
        move || control.status()
    }

    /// Serves until `shutdown`, then lets responses end for at most the configured drain.
    ///
    /// # Errors
    /// As the node's.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        self.node.run(shutdown).await
    }
}

/// What the machine calls itself.
fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// An address that stands for "any" or for the machine itself means nothing to others.
fn can_be_reached(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => !address.is_unspecified() && !address.is_loopback(),
        Err(_) => !host.eq_ignore_ascii_case("localhost"),
    }
}

fn reached_at(listen: &[SocketAddr], advertise: Option<&str>) -> Vec<String> {
    let addresses = listen
        .iter()
        .filter(|address| !address.ip().is_loopback())
        .filter_map(|address| match advertise {
            Some(host) if host.contains(':') => Some(format!("[{host}]:{}", address.port())),
            Some(host) => Some(format!("{host}:{}", address.port())),
            None => (!address.ip().is_unspecified()).then(|| address.to_string()),
        });
    let mut addresses: Vec<String> = addresses.collect();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &tempfile::TempDir, advertise: Option<&str>) -> Config {
        let any_port = SocketAddr::from(([0, 0, 0, 0], 0));
        Config {
            node: proxy::Config {
                listen: vec![any_port],
                admin: SocketAddr::from(([127, 0, 0, 1], 0)),
                control: Some(any_port),
                data_dir: folder.path().to_owned(),
                ..proxy::Config::default()
            },
            advertise: advertise.map(str::to_owned),
            ..Config::default()
        }
    }

    #[tokio::test]
    async fn it_is_reached_under_the_name_it_advertises() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::build(config(&folder, Some("seed.lan"))).unwrap();
        let port = app.addrs().listen[0].port();
        assert_ne!(port, 0);
        assert_eq!(app.reached_at(), [format!("seed.lan:{port}")]);
        assert!(app.addrs().control.is_some());
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        app.run(shutdown).await.unwrap();
    }

    #[tokio::test]
    async fn a_name_that_means_nothing_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for host in ["0.0.0.0", "127.0.0.1", "::", "::1", "localhost"] {
            let refused = App::build(config(&folder, Some(host))).unwrap_err();
            assert!(refused.to_string().contains("hint: "), "{refused}");
        }
    }

    #[test]
    fn without_a_name_the_address_is_what_others_use() {
        let addresses = [
            "127.0.0.1:1".parse().unwrap(),
            "10.0.0.7:8001".parse().unwrap(),
            "0.0.0.0:8001".parse().unwrap(),
        ];
        assert_eq!(reached_at(&addresses, None), ["10.0.0.7:8001"]);
        assert_eq!(
            reached_at(&addresses[1..], Some("fd00::7")),
            ["[fd00::7]:8001"]
        );
    }
}
