//! What a node that has just started says: where it listens, and the exact lines that point each
//! client to it.

use std::net::{IpAddr, SocketAddr};

use proxy::Addrs;

use crate::config::key::Role;
use crate::config::quantity::print_size;
use crate::config::settings::{ADMIN_PORT, LISTEN_PORT, Settings};

/// The whole text.
pub(crate) fn text(settings: &Settings, addrs: &Addrs) -> String {
    let client = reached(&addrs.listen);
    let admin = reach(addrs.admin);
    let control = match addrs.control {
        Some(control) => format!(" and http://{control}/status"),
        None => String::new(),
    };
    let listen: Vec<String> = addrs.listen.iter().map(|a| format!("http://{a}")).collect();
    let mut text = format!(
        "darner {} {} is running\n\
         \x20 images from   {}\n\
         \x20 its state     http://{admin}/status{control} (also /metrics, /livez, /readyz)\n\
         \x20 data folder   {} (at most {})\n",
        env!("CARGO_PKG_VERSION"),
        settings.role.name(),
        listen.join(", "),
        settings.data_dir.display(),
        print_size(settings.cache_size),
    );
    if !settings.supernodes.is_empty() {
        let led_by = settings.supernodes.join(", ");
        text.push_str(&format!("  shares with   the swarm of {led_by}\n"));
    }
    if settings.role != Role::Supernode {
        text.push('\n');
        text.push_str(&clients(&client, &flags(&client, &admin)));
    }
    text
}

fn clients(node: &str, flags: &str) -> String {
    format!(
        "\
Point a client to it with `darner setup containerd{flags}`, or docker, or podman; or by hand:

  containerd   /etc/containerd/certs.d/_default/hosts.toml; config_path in config.toml names that folder
    [host.\"http://{node}\"]
      capabilities = [\"pull\", \"resolve\"]

  dockerd      /etc/docker/daemon.json, for Docker Hub; then systemctl reload docker
    {{\"registry-mirrors\": [\"http://{node}\"]}}

  podman       /etc/containers/registries.conf.d/zz-darner-docker.io.conf, and so for each registry
    [[registry]]
    prefix = \"docker.io\"
    location = \"docker.io\"

    [[registry.mirror]]
    location = \"{node}\"
    insecure = true

`darner status` says what goes through it. Ctrl-C stops it; without it clients pull as before."
    )
}

/// What setup and status must be told if the ports are not the usual ones.
fn flags(client: &str, admin: &str) -> String {
    let mut flags = String::new();
    if client != format!("127.0.0.1:{LISTEN_PORT}") {
        flags.push_str(&format!(" --address {client}"));
    }
    if admin != format!("127.0.0.1:{ADMIN_PORT}") {
        flags.push_str(&format!(" --admin {admin}"));
    }
    flags
}

/// The front door as a client on this machine writes it: an IPv4 address if there is one, for
/// containerd 1.x cannot read an IPv6 literal.
fn reached(listen: &[SocketAddr]) -> String {
    let first = listen.iter().find(|address| address.is_ipv4());
    match first.or(listen.first()) {
        Some(address) if address.is_ipv6() && address.ip().is_loopback() => {
            format!("localhost:{}", address.port())
        }
        Some(address) => reach(*address),
        None => String::new(),
    }
}

/// An address that stands for all of the machine's is reached by loopback.
fn reach(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("127.0.0.1:{}", address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("localhost:{}", address.port()),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_given_an_address_they_can_write() {
        let reached = |list: &[&str]| {
            let list: Vec<SocketAddr> = list.iter().map(|a| a.parse().unwrap()).collect();
            reached(&list)
        };
        assert_eq!(reached(&["[::1]:1", "127.0.0.1:1"]), "127.0.0.1:1");
        assert_eq!(reached(&["0.0.0.0:8001"]), "127.0.0.1:8001");
        assert_eq!(reached(&["[::]:1"]), "localhost:1");
        assert_eq!(reached(&["[::1]:1"]), "localhost:1");
    }

    #[test]
    fn unusual_ports_come_with_the_flags_that_name_them() {
        assert_eq!(flags("127.0.0.1:65001", "127.0.0.1:65002"), "");
        assert_eq!(
            flags("127.0.0.1:1", "127.0.0.1:2"),
            " --address 127.0.0.1:1 --admin 127.0.0.1:2"
        );
    }
}
