//! What is said about the swarm: who leads, and how others reach this machine.
//!
//! Invariant: a supernode is kept as `host:port` with IPv6 in brackets; an advertised host means
//! something to others. Deliberately not here: whether anybody answers there.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::layer::Entry;
use crate::config::settings::{Settings, single, wrong};
use crate::failure::Failure;

/// The peer port, unless another is named.
pub(crate) const PEER_PORT: u16 = 65003;
/// Longest zone or rack: it goes over the wire with every Hello.
const LABEL_LENGTH_MAX: usize = 63;

/// `HOST[:PORT]`, several with commas; none twice, in the order given.
pub(super) fn supernodes(entry: &Entry) -> Result<Vec<String>, Failure> {
    let texts = entry.values.iter().flat_map(|value| value.split(','));
    let mut all = Vec::new();
    for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
        let supernode = authority(text, supernode::CONTROL_PORT).map_err(|(why, hint)| {
            Failure::usage(format!("{}: `{text}` {why}", entry.place)).hint(hint)
        })?;
        if !all.contains(&supernode) {
            all.push(supernode);
        }
    }
    if all.is_empty() {
        return Err(
            Failure::usage(format!("{} names no supernode", entry.place)).hint(format!(
                "write HOST or HOST:PORT; the port is {} unless you say otherwise",
                supernode::CONTROL_PORT
            )),
        );
    }
    Ok(all)
}

/// `host:port` of a supernode's control port; else what is wrong with the text, and a hint.
pub(crate) fn authority(text: &str, default_port: u16) -> Result<String, (String, String)> {
    let form = format!("write HOST:{default_port}, or [ADDRESS]:{default_port} for IPv6");
    let wrong = |why: &str, hint: String| Err((why.to_owned(), hint));
    if let Some((_, rest)) = text.split_once("://") {
        let bare = rest.split('/').next().unwrap_or_default();
        return wrong("is a URL", format!("write it without a scheme: {bare}"));
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return wrong(
            "is an IPv6 address without brackets",
            format!("did you mean [{ip}]:{default_port}?"),
        );
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, rest)) => match ip.parse::<Ipv6Addr>() {
            Ok(ip) => (format!("[{ip}]"), rest.strip_prefix(':').unwrap_or(rest)),
            Err(_) => return wrong("has no IPv6 address in its brackets", form),
        },
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            (host.to_ascii_lowercase(), port)
        }
    };
    if !host.starts_with('[') && !is_host(&host) {
        return wrong("does not begin with a host name or an IP address", form);
    }
    let bare = host.trim_matches(['[', ']']);
    if bare.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) {
        return wrong(
            "stands for any address",
            "name the machine the supernode runs on".to_owned(),
        );
    }
    match (port, port.parse::<u16>()) {
        ("", _) if !text.ends_with(':') => Ok(format!("{host}:{default_port}")),
        (_, Ok(port)) if port != 0 => Ok(format!("{host}:{port}")),
        _ => wrong("does not end with a port", form),
    }
}

/// A name or address that others can use.
pub(super) fn host(entry: &Entry) -> Result<String, Failure> {
    let text = single(entry)?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let ip = bare.parse::<IpAddr>();
    if ip.is_err() && !is_host(bare) {
        return Err(wrong(entry, text, "a host name or an IP address")
            .hint("without scheme and port; the port is the one that is listened on"));
    }
    let own = match ip {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => bare.eq_ignore_ascii_case("localhost"),
    };
    if own {
        return Err(
            Failure::usage(format!("{}: nobody else reaches `{text}`", entry.place))
                .hint("give the name or address of this machine that others use, or leave it away"),
        );
    }
    Ok(bare.to_owned())
}

/// A zone or a rack.
pub(super) fn label(entry: &Entry) -> Result<String, Failure> {
    let text = single(entry)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if !text.is_empty() && text.len() <= LABEL_LENGTH_MAX && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(wrong(entry, text, &format!("a {}", entry.key))
        .hint("at most 63 letters, digits and - _ . : /, for example eu-west-1a"))
}

/// What settings mean only together.
pub(super) fn check(settings: &Settings) -> Result<Vec<String>, Failure> {
    let led = !settings.supernodes.is_empty();
    if let Some(address) = settings.peer_listen {
        if !led {
            return Err(
                Failure::usage("peer-listen: without a supernode no peer ever comes")
                    .hint("name one with --supernode HOST, or leave --peer-listen away"),
            );
        }
        let same = |other: &&std::net::SocketAddr| address.port() != 0 && **other == address;
        let others = settings.listen.iter().chain([&settings.admin]);
        if let Some(other) = others.into_iter().find(same) {
            return Err(
                Failure::usage(format!("peer-listen: {other} is another port's address"))
                    .hint("give the peer port another number"),
            );
        }
    }
    if led && settings.swarm.is_some() {
        return Err(
            Failure::usage("swarm: a node that is led by a supernode cannot be one")
                .hint("leave --swarm or --supernode away"),
        );
    }
    let mut warnings = Vec::new();
    if settings.swarm.is_some_and(|address| address.is_loopback()) {
        warnings.push("--swarm on a loopback address is reachable from this machine only".into());
    }
    if !led {
        for (key, said) in [
            ("zone", !settings.zone.is_empty()),
            ("rack", !settings.rack.is_empty()),
        ] {
            if said {
                warnings.push(format!("{key} says nothing without a supernode"));
            }
        }
    }
    Ok(warnings)
}

fn is_host(text: &str) -> bool {
    let plausible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= 253 && text.chars().all(plausible)
}

#[cfg(test)]
#[path = "swarm_tests.rs"]
mod tests;
