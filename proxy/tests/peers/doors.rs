//! At which doors pieces are given: a node's peer port, a seed's front door, and nowhere else.

use std::net::SocketAddr;

use http::{Method, StatusCode};
use oci::Digest;

use crate::image::noise;
use crate::node::{Node, ask, config};
use crate::origin::Origin;
use crate::rig::within;

fn swarm_path(digest: &Digest) -> String {
    format!("/v2/swarm/blobs/{digest}")
}

#[tokio::test]
async fn a_nodes_front_door_serves_the_repository_of_that_name() {
    let origin = Origin::start().await;
    let blob = noise(1, 10_000);
    origin.content().blob("swarm", &blob);
    let path = swarm_path(&Digest::sha256(&blob));

    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let reply = node.get(&path).await;
    assert_eq!((reply.status, reply.body == blob), (StatusCode::OK, true));
    node.stop().await;

    // A seed gives what is shared there, and asks nobody.
    let folder = tempfile::tempdir().unwrap();
    let mut seed = config(folder.path(), &[("docker.io", &origin)]);
    seed.seed = true;
    let before = origin.asked().len();
    let node = Node::start(seed);
    let reply = node.get(&path).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.code(), "BLOB_UNKNOWN");
    assert_eq!(origin.asked().len(), before);
    node.stop().await;
}

#[tokio::test]
async fn the_peer_port_is_open_in_a_swarm_and_gives_nothing_of_the_front_door() {
    let origin = Origin::start().await;
    let blob = noise(2, 10_000);
    origin.content().blob("org/app", &blob);
    let digest = Digest::sha256(&blob);

    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    assert_eq!(node.peer, None);
    node.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    // Nobody listens there: the node is alone, and its peer port open all the same.
    config.supernodes = vec!["127.0.0.1:1".to_owned()];
    config.peer_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let node = Node::start(config);
    let peer = node.peer.unwrap();
    let pulled = node.get(&format!("/v2/org/app/blobs/{digest}")).await;
    assert!(pulled.body == blob);
    for path in [swarm_path(&digest), format!("/v2/org/app/blobs/{digest}")] {
        let reply = within(ask(peer, Method::GET, &path, &[])).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path}");
    }
    node.stop().await;
}
