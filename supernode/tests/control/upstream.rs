//! What becomes of flights when upstream is slow, down, or breaks off.

use oci_conformance::{Ask, Fault, Gate, Origin};
use swarm::tracker::Word;

use super::rig::{Node, Supernode};
use super::{LENGTH, REPOSITORY, pushed};

#[tokio::test]
async fn pieces_are_told_while_the_blob_still_arrives() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 21);
    let gate = Gate::closed();
    origin
        .when(Ask::blob(&digest.to_string()))
        .answer(Fault::Pace(gate.clone()));
    gate.allow(3 * (256 << 10) + 1000);
    let supernode = Supernode::start(&origin);
    let node = Node::attending(&supernode, None).await;
    let mut flight = node.join(&digest, REPOSITORY);
    let known = |count: usize| {
        move |flight: &super::rig::Flight| flight.digests.iter().flatten().count() == count
    };
    flight.fly(known(3)).await;
    assert_eq!(flight.layout.unwrap().total(), LENGTH as u64);
    gate.open();
    flight.fly_home().await;
    supernode.stop().await;
}

#[tokio::test]
async fn a_registry_that_is_down_is_no_refusal_of_rights() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 22);
    let supernode = Supernode::start(&origin);
    let node = Node::attending(&supernode, None).await;
    origin.stop().await;
    let why = node.join(&digest, REPOSITORY).refusal().await;
    assert!(why.contains("cannot be asked now"), "{why}");

    origin.start_again().await;
    let again = async {
        loop {
            let mut flight = node.join(&digest, REPOSITORY);
            loop {
                let word = flight.next().await;
                if let Word::Accepted(_) = word {
                    return;
                }
                if !flight.take(word) {
                    break;
                }
            }
        }
    };
    super::rig::soon(again).await;
    supernode.stop().await;
}

#[tokio::test]
async fn a_blob_that_is_not_what_it_says_ends_its_flights() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 23);
    origin
        .when(Ask::blob(&digest.to_string()))
        .answer(Fault::WrongByteAt(LENGTH as u64 / 2));
    let supernode = Supernode::start(&origin);
    let node = Node::attending(&supernode, None).await;
    let mut flight = node.join(&digest, REPOSITORY);
    let last = loop {
        let word = flight.next().await;
        let text = format!("{word:?}");
        if !flight.take(word) {
            break text;
        }
    };
    // Not "refused": what mates have of it stays worth something if only the tail is missing.
    assert_eq!(last, "Lost");
    let last_piece = flight.digests.last().unwrap();
    assert!(last_piece.is_none(), "withheld until the whole digest fits");
    supernode
        .until(|status| status.blobs.is_empty() && status.nodes[0].flights == 0)
        .await;
    supernode.stop().await;
}
