//! What the book knows of one node.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use oci::Digest;
use swarm::Verdict;
use swarm::attend::address;
use swarm::wire::Hello;

use crate::scheduler::{BlobKey, NodeKey, Site};

/// Texts from a node are cut to this many bytes.
const TEXT_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Node {
    /// Random, new at every start of the node.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) site: Site,
    /// Where its stream comes from.
    pub(super) seen: IpAddr,
    /// Where others are told to find its peer port.
    pub(super) address: String,
    /// What was found out about the address that it advertises.
    pub(super) verdict: Option<Verdict>,
    /// What it found out about ours.
    pub(super) ours: Option<Verdict>,
    /// Changes whenever the same number means another name or address.
    pub(super) edition: u64,
    /// Ticks since it last spoke.
    pub(super) quiet: u32,
    pub(super) silent: bool,
    pub(super) banned: bool,
    /// Its flights by its own numbers.
    pub(super) flights: HashMap<u32, BlobKey>,
    /// The peers that were named to it, in which edition.
    pub(super) told: HashMap<NodeKey, u64>,
    /// Complete blobs that it gives.
    pub(super) holds: HashSet<Digest>,
}

impl Node {
    pub(super) fn new(hello: Hello, seen: IpAddr, edition: u64) -> Self {
        let site = Site {
            zone: Arc::from(cut(hello.zone.clone())),
            rack: Arc::from(cut(hello.rack.clone())),
        };
        Self {
            address: candidates(&hello, seen).0,
            id: cut(hello.node),
            name: cut(hello.name),
            version: cut(hello.version),
            site,
            seen,
            verdict: None,
            ours: None,
            edition,
            quiet: 0,
            silent: false,
            banned: false,
            flights: HashMap::new(),
            told: HashMap::new(),
            holds: HashSet::new(),
        }
    }

    /// Whether it can be named as a mate.
    pub(super) fn gives(&self) -> bool {
        !self.banned && !self.silent && !self.is_cut_off()
    }

    /// Whether its peer port is known not to be reached at any address.
    pub(super) fn is_cut_off(&self) -> bool {
        let verdict = self.verdict.as_ref();
        verdict.is_some_and(|verdict| !verdict.reached && verdict.instead.is_none())
    }
}

/// The address that a node advertises, and the one to try when that does not answer.
pub(crate) fn candidates(hello: &Hello, seen: IpAddr) -> (String, Option<String>) {
    let port = u16::try_from(hello.port).unwrap_or_default();
    let seen = address::join(&seen.to_canonical().to_string(), port);
    match hello.advertise.as_str() {
        "" => (seen, None),
        host => (address::join(&cut(host.to_owned()), port), Some(seen)),
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_advertises_nothing_is_where_it_is_seen() {
        let mut hello = Hello {
            port: 65003,
            ..Hello::default()
        };
        let seen: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        assert_eq!(candidates(&hello, seen), ("10.0.0.7:65003".into(), None));
        hello.advertise = "node.lan".to_owned();
        let expected = ("node.lan:65003".into(), Some("10.0.0.7:65003".into()));
        assert_eq!(candidates(&hello, seen), expected);
    }
}
