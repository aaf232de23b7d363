//! The supernode: the node's library run as a seed for other clients and nodes.
//!
//! Today it is a node whose front door others reach, under a name it advertises, with the state
//! pages on its control port. Invariant: it serves nothing that the node would not serve. Not here
//! yet: who has what, scheduling, and the cluster of supernodes; they are built on top of this.

pub mod scheduler;

use std::net::{IpAddr, SocketAddr};

use proxy::{Addrs, RunError};
use tokio_util::sync::CancellationToken;

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
        let node = proxy::App::build(config.node)?;
        let listen = &node.addrs().listen;
        let reached_at = reached_at(listen, config.advertise.as_deref());
        let open = listen.iter().any(|address| !address.ip().is_loopback());
        if open && reached_at.is_empty() {
            tracing::warn!(
                "no address that others reach is known; hint: name one with --advertise HOST"
            );
        }
        Ok(Self { node, reached_at })
    }

    /// Where it listens.
    pub fn addrs(&self) -> &Addrs {
        self.node.addrs()
    }

    /// `host:port` of the front door as others reach it; empty if that is not known.
    pub fn reached_at(&self) -> &[String] {
        &self.reached_at
    }

    /// Serves until `shutdown`, then lets responses end for at most the configured drain.
    ///
    /// # Errors
    /// As the node's.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        self.node.run(shutdown).await
    }
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
