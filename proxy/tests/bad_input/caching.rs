//! What costs upstream what: one transfer per blob, whoever comes and goes.

use std::time::Duration;

use oci_conformance::origin::Outcome;
use oci_conformance::raw;
use oci_conformance::{Ask, Fault, Gate, Origin};
use tokio::task::JoinSet;

use crate::rig::{Blob, Node, REPOSITORY, is_blob_unknown, is_error, manifest_path, registry};

const LENGTH: usize = 2 << 20;

#[tokio::test]
async fn sixty_four_cold_clients_cost_one_get_and_no_head() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    let gate = Gate::closed();
    origin
        .when(Ask::blobs())
        .answer_all([Fault::HoldHead(gate.clone()), Fault::Pace(gate.clone())]);
    let node = Node::of(&origin);
    let mut clients = JoinSet::new();
    for _ in 0..64 {
        clients.spawn(raw::get(node.addr, &blob.path).send());
    }
    origin.wait_for(1, Ask::blobs()).await;
    gate.allow(500_000);
    gate.open();
    for answer in clients.join_all().await {
        blob.is_whole(&answer);
    }
    assert_eq!(origin.count(Ask::blobs().get()), 1);
    assert_eq!(origin.count(Ask::blobs().head()), 0);
    assert_eq!(origin.body_bytes(Ask::blobs()), LENGTH as u64);
    node.stop().await;
}

#[tokio::test]
async fn sixteen_ranges_of_one_cold_blob_make_the_blob() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 8 << 20);
    let node = Node::of(&origin);
    let part = (8 << 20) / 16;
    let mut clients = JoinSet::new();
    for index in 0..16 {
        let range = format!("bytes={}-{}", index * part, (index + 1) * part - 1);
        let request = raw::get(node.addr, &blob.path).header("Range", &range);
        clients.spawn(async move { (index, request.send().await) });
    }
    for (index, answer) in clients.join_all().await {
        assert_eq!(answer.status, 206);
        assert!(answer.body == blob.bytes[index * part..(index + 1) * part]);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_and_one_that_does_not_read() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 16 << 20);
    let gate = Gate::closed();
    origin.when(Ask::blobs()).answer(Fault::Pace(gate.clone()));
    gate.allow(1 << 20);
    let node = Node::of(&origin);
    let mut leaves = raw::get(node.addr, &blob.path).open().await;
    leaves.at_least(1000).await;
    let idle = raw::get(node.addr, &blob.path).open().await;
    let reads = tokio::spawn(raw::get(node.addr, &blob.path).send());
    drop(leaves);
    gate.open();
    blob.is_whole(&reads.await.unwrap());
    assert_eq!(origin.count(Ask::blobs()), 1);
    // The idle one has lost nothing.
    blob.is_whole(&idle.rest().await);
    node.stop().await;
}

#[tokio::test]
async fn a_transfer_whose_readers_have_all_left_is_brought_to_its_end() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    let gate = Gate::closed();
    origin.when(Ask::blobs()).answer(Fault::Pace(gate.clone()));
    gate.allow(500_000);
    let node = Node::of(&origin);
    let mut leaves = raw::get(node.addr, &blob.path).open().await;
    leaves.at_least(1000).await;
    drop(leaves);
    gate.open();
    let seen = origin.seen(Ask::blobs()).remove(0);
    assert_eq!(seen.ended().await, Outcome::Whole);
    blob.is_whole(&node.get(&blob.path).await);
    assert_eq!(origin.count(Ask::blobs().get()), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_half_way_goes_on_where_it_was() {
    let origin = Origin::start().await;
    // Large beside what two socket buffers take up unseen.
    let blob = Blob::new(&origin, 1, 64 << 20);
    let gate = Gate::closed();
    origin
        .when(Ask::blobs())
        .once()
        .answer(Fault::Pace(gate.clone()));
    gate.allow(48 << 20);
    let node = Node::of(&origin);
    let mut half = raw::get(node.addr, &blob.path).open().await;
    half.at_least(40 << 20).await;
    drop(half);
    let node = node.restart().await;
    let held = node.head(&blob.path).await;
    assert_eq!(held.status, 200);
    blob.is_whole(&node.get(&blob.path).await);
    let sent = origin.body_bytes(Ask::blobs());
    assert!(sent <= (64 << 20) * 12 / 10, "{sent} bytes from upstream");
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_again_for_a_while() {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.trust.negative = Duration::from_secs(60);
    });
    let missing = format!("/v2/{REPOSITORY}/blobs/sha256:{}", "0".repeat(64));
    for _ in 0..5 {
        is_blob_unknown(&node.get(&missing).await);
        is_error(
            &node.get(&manifest_path("none")).await,
            404,
            "MANIFEST_UNKNOWN",
        );
    }
    assert!(
        origin.count(Ask::blobs()) <= 2,
        "{}",
        origin.count(Ask::blobs())
    );
    assert!(origin.count(Ask::manifests()) <= 2);
    node.stop().await;
}

#[tokio::test]
async fn warm_reads_ask_for_no_body() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    let image = origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let node = Node::of(&origin);
    let targets = [
        manifest_path(&image.manifest),
        manifest_path("1"),
        blob.path.clone(),
    ];
    for target in &targets {
        assert_eq!(node.get(target).await.status, 200);
    }
    let before = origin.body_bytes(Ask::any());
    for target in targets.iter().cycle().take(12) {
        assert_eq!(node.get(target).await.status, 200);
        assert_eq!(node.head(target).await.status, 200);
    }
    assert_eq!(origin.body_bytes(Ask::any()), before);
    origin.stop().await;
    for target in &targets {
        assert_eq!(
            node.get(target).await.status,
            200,
            "{target} without upstream"
        );
    }
    node.stop().await;
}
