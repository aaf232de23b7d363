//! Who is named to whom: senders before they are used, mates for the time without a leader.

use std::collections::BTreeSet;

use swarm::wire::{self, supernode_says::Word};

use super::blob::{Member, Stage};
use super::node::Node;
use super::{Book, Turn};
use crate::scheduler::{NodeKey, Site};

/// Mates that a flight is told: enough to hold every piece among them, few enough to ask.
const MATES_MAX: usize = 64;
/// Nodes that are looked at for one flight's mates at a tick.
const LOOKED_AT_MAX: usize = 512;

impl Book {
    /// Tells `to` the names that it has not been told, or that have changed since.
    pub(super) fn name_peers(
        &mut self,
        to: NodeKey,
        peers: impl Iterator<Item = NodeKey>,
        turn: &mut Turn,
    ) {
        let mut named = Vec::new();
        for key in peers.filter(|key| *key != NodeKey::SEED) {
            let Some(peer) = self.nodes.get(key.0) else {
                continue;
            };
            let (edition, entry) = (peer.edition, entry(key, peer));
            let Some(node) = self.nodes.get_mut(to.0) else {
                return;
            };
            if node.told.insert(key, edition) != Some(edition) {
                named.push(entry);
            }
        }
        if !named.is_empty() {
            turn.words
                .push((to, Word::Peers(wire::Peers { peers: named })));
        }
    }

    /// Tells flights their mates, where somebody has come.
    pub(super) fn name_mates(&mut self, turn: &mut Turn) {
        let mut grown = Vec::new();
        for (number, blob) in self.blobs.iter_mut() {
            if std::mem::take(&mut blob.crowd_grew) {
                grown.push(number);
            }
        }
        for number in grown {
            let Some(blob) = self.blobs.get(number) else {
                continue;
            };
            let holders = self.holders.get(&blob.digest).into_iter().flatten();
            let crowd: BTreeSet<NodeKey> = blob.taking_part().chain(holders.copied()).collect();
            let crowd: Vec<(NodeKey, Site)> = crowd
                .into_iter()
                .filter_map(|key| Some((key, self.nodes.get(key.0)?)))
                .filter(|(_, node)| node.gives())
                .map(|(key, node)| (key, node.site.clone()))
                .collect();
            let flights: Vec<NodeKey> = blob.taking_part().collect();
            for node in flights {
                self.name_mates_to(number, node, &crowd, turn);
            }
        }
    }

    fn name_mates_to(
        &mut self,
        blob: u32,
        to: NodeKey,
        crowd: &[(NodeKey, Site)],
        turn: &mut Turn,
    ) {
        let Some(node) = self.nodes.get(to.0) else {
            return;
        };
        let site = node.site.clone();
        let Some(known) = self.blobs.get_mut(blob) else {
            return;
        };
        let Some(Member {
            flight,
            stage: Stage::In { mates, .. },
            ..
        }) = known.members.get_mut(&to)
        else {
            return;
        };
        let room = MATES_MAX.saturating_sub(mates.len());
        // Each looks from its own place on, so that not all are told the same ones.
        let at = crowd.partition_point(|(key, _)| *key <= to);
        let around = crowd[at..].iter().chain(&crowd[..at]);
        let mut new: Vec<&(NodeKey, Site)> = around
            .filter(|(key, _)| *key != to && !mates.contains(key))
            .take(if room == 0 { 0 } else { LOOKED_AT_MAX })
            .collect();
        // Stable: near ones first, in that order.
        new.sort_by_key(|(_, other)| distance(&site, other));
        let new: Vec<NodeKey> = new.into_iter().take(room).map(|(key, _)| *key).collect();
        if new.is_empty() {
            return;
        }
        mates.extend(&new);
        let word = Word::Mates(wire::Mates {
            flight: *flight,
            peers: new.iter().map(|key| key.0).collect(),
        });
        self.name_peers(to, new.into_iter(), turn);
        turn.words.push((to, word));
    }

    /// Tells every flight the digests that it has not been told with an instruction.
    pub(super) fn tell_all_digests(&mut self, turn: &mut Turn) {
        for (_, blob) in self.blobs.iter_mut() {
            let flights: Vec<NodeKey> = blob.taking_part().collect();
            for node in flights {
                let words = blob.catch_up(node);
                turn.words
                    .extend(words.into_iter().map(|word| (node, word)));
            }
        }
    }
}

fn entry(key: NodeKey, peer: &Node) -> wire::Peer {
    wire::Peer {
        handle: key.0,
        node: peer.id.clone(),
        name: peer.name.clone(),
        address: peer.address.clone(),
    }
}

fn distance(one: &Site, other: &Site) -> u8 {
    match (one.zone == other.zone, one.rack == other.rack) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}
