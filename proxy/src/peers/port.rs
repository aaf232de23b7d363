//! Where the peer port is opened when nobody says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use crate::config::Config;

/// The peer port.
pub const PEER_PORT: u16 = 65003;

/// Where to listen; none without a supernode. May wait for the resolver of names.
pub(crate) fn listen_at(config: &Config) -> Option<SocketAddr> {
    let supernode = config.supernodes.first()?;
    Some(config.peer_listen.unwrap_or_else(|| {
        let advertised = config.advertise.as_deref().and_then(own);
        let address = advertised.or_else(|| towards(supernode));
        let address = address.unwrap_or_else(|| {
            tracing::warn!(
                supernode,
                "no way to it is known: other nodes are served on all addresses; \
                hint: name one with --peer-listen ADDR:{PEER_PORT}"
            );
            Ipv4Addr::UNSPECIFIED.into()
        });
        SocketAddr::new(address, PEER_PORT)
    }))
}

/// An advertised address, if this machine has it; one behind a translator is not ours to listen on.
fn own(host: &str) -> Option<IpAddr> {
    let address: IpAddr = host.parse().ok()?;
    UdpSocket::bind((address, 0)).ok().map(|_| address)
}

/// The address of ours from which a host is reached. Sends nothing.
fn towards(at: &str) -> Option<IpAddr> {
    at.to_socket_addrs().ok()?.find_map(|to| {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_closed_without_a_supernode() {
        assert_eq!(listen_at(&Config::default()), None);
    }

    #[test]
    fn it_is_opened_where_others_come_from() {
        let mut config = Config {
            supernodes: vec!["127.0.0.1:8002".to_owned()],
            ..Config::default()
        };
        let loopback = SocketAddr::from(([127, 0, 0, 1], PEER_PORT));
        assert_eq!(listen_at(&config), Some(loopback));
        // TEST-NET-1 is nobody's; 127.0.0.2 is this machine's too.
        config.advertise = Some("192.0.2.1".to_owned());
        assert_eq!(listen_at(&config), Some(loopback));
        config.advertise = Some("127.0.0.2".to_owned());
        let advertised = SocketAddr::from(([127, 0, 0, 2], PEER_PORT));
        assert_eq!(listen_at(&config), Some(advertised));
        let told = SocketAddr::from(([127, 0, 0, 3], 7));
        config.peer_listen = Some(told);
        assert_eq!(listen_at(&config), Some(told));
    }
}
