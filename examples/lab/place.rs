//! The machines of the lab: their names, addresses and ports.

use std::net::{Ipv4Addr, SocketAddr};

/// What everything that the lab makes is called by; leftovers are found by it.
pub(crate) const PREFIX: &str = "darner-lab-";

/// The namespace of the bridge, which is on no machine.
pub(crate) const BRIDGE: &str = "darner-lab-bridge";

/// Nodes that fit into the network beside the two others.
pub(crate) const NODES_MAX: usize = 200;

/// One machine: a namespace with one link to the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The registry that everything comes from.
    Origin,
    /// The supernode.
    Supernode,
    /// A node with its client, from 0 on.
    Node(usize),
}

impl Place {
    /// For people, for files, and the name of the bridge's end of its link.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Origin => "origin".to_owned(),
            Self::Supernode => "supernode".to_owned(),
            Self::Node(index) => format!("n{}", index + 1),
        }
    }

    /// Its network namespace.
    pub(crate) fn namespace(self) -> String {
        format!("{PREFIX}{}", self.name())
    }

    /// Its address on the bridge.
    pub(crate) fn address(self) -> Ipv4Addr {
        let last = match self {
            Self::Origin => 251,
            Self::Supernode => 252,
            Self::Node(index) => u8::try_from(index + 1).unwrap_or(u8::MAX),
        };
        Ipv4Addr::new(10, 77, 0, last)
    }

    /// A port of it.
    pub(crate) fn port(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address(), port))
    }
}

/// The origin's port.
pub(crate) const ORIGIN_PORT: u16 = 5000;
/// The supernode's front door.
pub(crate) const SEED_PORT: u16 = 8001;
/// The supernode's control port.
pub(crate) const CONTROL_PORT: u16 = 8002;
/// A node's peer port.
pub(crate) const PEER_PORT: u16 = 65003;

/// A node's front door, within its namespace.
pub(crate) fn door() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 65001))
}

/// A node's admin port, within its namespace.
pub(crate) fn admin() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 65002))
}
