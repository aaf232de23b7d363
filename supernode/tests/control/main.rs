//! A supernode and its nodes over real sockets, before a scripted registry.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "clippy knows only test functions as tests"
)]

mod nodes;
mod preheat;
mod real;
mod rig;
mod rights;
mod upstream;

use oci::Digest;
use oci_conformance::origin::content;
use oci_conformance::{Ask, Origin};
use rig::{Node, Supernode};
use swarm::{Layout, PieceDigest};

const REPOSITORY: &str = "library/thing";

/// A few pieces and a bit.
const LENGTH: usize = (256 << 10) * 9 + 5;

/// A blob in a registry, and its digest.
pub fn pushed(origin: &Origin, seed: u64) -> (bytes::Bytes, Digest) {
    let bytes = content(seed, LENGTH);
    let digest = origin.push_blob(REPOSITORY, bytes.clone());
    (bytes, digest.parse().unwrap())
}

#[tokio::test]
async fn a_flight_is_led_to_every_piece_and_upstream_is_read_once() {
    let origin = Origin::start().await;
    let (bytes, digest) = pushed(&origin, 1);
    let supernode = Supernode::start(&origin);
    let node = Node::attending(&supernode, None).await;
    let mut flight = node.join(&digest, REPOSITORY);
    flight.fly_home().await;

    assert!(flight.heard);
    let layout = Layout::of(LENGTH as u64);
    assert_eq!(flight.layout, Some(layout));
    for piece in layout.pieces() {
        let range = layout.range(piece);
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let expected = PieceDigest::of(&bytes[range]);
        assert_eq!(
            flight.digests[piece.get() as usize],
            Some(expected),
            "{piece}"
        );
    }
    let seed = supernode.listen.to_string();
    assert_eq!(flight.pieces_from(&seed), layout.count() as usize);
    let digest = digest.to_string();
    assert_eq!(origin.body_bytes(Ask::blob(&digest)), LENGTH as u64);
    supernode.stop().await;
}

#[tokio::test]
async fn a_second_node_gets_its_pieces_from_the_first() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 2);
    let supernode = Supernode::start(&origin);
    let first = Node::attending(&supernode, None).await;
    first.join(&digest, REPOSITORY).fly_home().await;
    supernode
        .until(|status| status.nodes[0].holds == 1 && status.nodes[0].flights == 0)
        .await;

    let second = Node::attending(&supernode, None).await;
    let mut flight = second.join(&digest, REPOSITORY);
    flight.fly_home().await;
    let address = first.port.local_addr().unwrap().to_string();
    assert!(flight.pieces_from(&address) > 0, "{:?}", flight.came_from);
    let digest = digest.to_string();
    assert_eq!(origin.body_bytes(Ask::blob(&digest)), LENGTH as u64);
    supernode.stop().await;
}

#[tokio::test]
async fn many_at_once_cost_upstream_one_reading_and_the_seed_little_more() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 3);
    let supernode = Supernode::start(&origin);
    let mut nodes = Vec::new();
    for _ in 0..8 {
        nodes.push(Node::attending(&supernode, None).await);
    }
    let mut flights: Vec<_> = nodes
        .iter()
        .map(|node| node.join(&digest, REPOSITORY))
        .collect();
    let flying = flights.iter_mut().map(rig::Flight::fly_home);
    futures_util::future::join_all(flying).await;

    let seed = supernode.listen.to_string();
    let sent: usize = flights.iter().map(|flight| flight.pieces_from(&seed)).sum();
    let pieces = Layout::of(LENGTH as u64).count() as usize;
    assert!(
        sent < 3 * pieces,
        "the seed sent {sent} for {pieces} pieces to 8 nodes"
    );
    let text = digest.to_string();
    assert_eq!(origin.body_bytes(Ask::blob(&text)), LENGTH as u64);
    let status = supernode
        .until(|status| status.nodes.iter().all(|node| node.holds == 1))
        .await;
    assert_eq!(status.nodes_count, 8);
    supernode.stop().await;
}

#[tokio::test]
async fn mates_are_named_for_the_time_without_a_leader() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 4);
    let supernode = Supernode::start(&origin);
    let (one, two) = (
        Node::attending(&supernode, None).await,
        Node::attending(&supernode, None).await,
    );
    let mut first = one.join(&digest, REPOSITORY);
    let mut second = two.join(&digest, REPOSITORY);
    first.fly(|flight| !flight.mates.is_empty()).await;
    second.fly(|flight| !flight.mates.is_empty()).await;
    let address = |node: &Node| node.port.local_addr().unwrap().to_string();
    assert_eq!(first.mates, [address(&two)]);
    assert_eq!(second.mates, [address(&one)]);

    // The supernode goes: both know at once.
    supernode.stop().await;
    for flight in [&mut first, &mut second] {
        loop {
            let word = flight.next().await;
            if !flight.take(word) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn who_comes_late_is_served_from_what_is_known() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 5);
    let supernode = Supernode::start(&origin);
    let first = Node::attending(&supernode, None).await;
    first.join(&digest, REPOSITORY).fly_home().await;
    drop(first);
    supernode.until(|status| status.nodes_count == 0).await;
    origin.stop().await;

    let late = Node::attending(&supernode, None).await;
    let mut flight = late.join(&digest, REPOSITORY);
    flight.fly_home().await;
    let seed = supernode.listen.to_string();
    assert_eq!(flight.pieces_from(&seed), flight.came_from.len());
    supernode.stop().await;
}
