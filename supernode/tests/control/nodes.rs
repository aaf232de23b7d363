//! The control port itself: pages beside gRPC, addresses, and nodes that misbehave.

use std::time::Duration;

use futures_util::stream;
use oci_conformance::Origin;
use swarm::attend::address;
use swarm::wire::swarm_client::SwarmClient;
use swarm::wire::{Hello, NodeSays, Want, node_says};
use tonic::transport::Endpoint;

use super::rig::{self, Node, Supernode, soon};

#[tokio::test]
async fn pages_and_streams_share_the_port() {
    let origin = Origin::start().await;
    let supernode = Supernode::start(&origin);
    let node = Node::attending(&supernode, None).await;
    let answer = rig::get(supernode.control, "/status").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let status: proxy::admin::Status = serde_json::from_str(body).unwrap();
    let swarm: supernode::SwarmStatus = serde_json::from_value(status.swarm.unwrap()).unwrap();
    assert_eq!(swarm.nodes_count, 1);
    let here = node.port.local_addr().unwrap().to_string();
    assert_eq!(swarm.nodes[0].address, here);
    assert_eq!(
        (&swarm.nodes[0].unreachable, &swarm.nodes[0].cannot_reach),
        (&None, &None)
    );
    for (path, line) in [("/metrics", "200"), ("/livez", "200"), ("/nothing", "404")] {
        let answer = rig::get(supernode.control, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {line}")),
            "{path}: {answer}"
        );
    }
    supernode.stop().await;
}

#[tokio::test]
async fn a_wrong_advertised_address_is_named_and_the_one_that_works_is_used() {
    let origin = Origin::start().await;
    // A supernode that advertises what is not its own (a test network, RFC 5737).
    let supernode = Supernode::with(rig::registry(&origin), |config| {
        config.node.listen = vec!["0.0.0.0:0".parse().unwrap()];
        config.advertise = Some("192.0.2.1".to_owned());
    });
    // All of 127/8 is this machine, and the node's port is bound at one address of it only.
    let node = Node::attending(&supernode, Some("127.0.0.9")).await;
    let port = node.port.local_addr().unwrap();
    let status = &node.attendance.status()[0];
    let ours = status.ours.as_ref().unwrap();
    assert_eq!(ours.address, address::join("127.0.0.9", port.port()));
    assert!(!ours.reached && !ours.error.is_empty(), "{ours:?}");
    assert_eq!(ours.usable(), port.to_string());
    let theirs = status.theirs.as_ref().unwrap();
    assert_eq!(
        theirs.address,
        address::join("192.0.2.1", supernode.listen.port())
    );
    assert_eq!(
        theirs.usable(),
        address::join("127.0.0.1", supernode.listen.port())
    );

    let status = supernode
        .until(|status| status.nodes[0].cannot_reach.is_some())
        .await;
    let seen = &status.nodes[0];
    assert_eq!(seen.address, port.to_string());
    assert!(
        seen.unreachable.as_ref().unwrap().contains("127.0.0.9"),
        "{seen:?}"
    );
    assert!(
        seen.cannot_reach.as_ref().unwrap().contains("192.0.2.1"),
        "{seen:?}"
    );
    supernode.stop().await;
}

#[tokio::test]
async fn a_node_that_never_reads_is_dropped() {
    let origin = Origin::start().await;
    let supernode = Supernode::start(&origin);
    let other = Node::attending(&supernode, None).await;
    let url = format!("http://{}", supernode.control);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let hello = node_says::Word::Hello(Hello {
        node: "deaf".to_owned(),
        name: "deaf".to_owned(),
        port: u32::from(other.port.local_addr().unwrap().port()),
        ..Hello::default()
    });
    // Each is answered twice: that it was heard, and that it makes no sense.
    let wants = (0..100_000).map(|flight| {
        let digest = "x".repeat(10);
        node_says::Word::Want(Want {
            flight,
            digest,
            ..Want::default()
        })
    });
    let words = std::iter::once(hello).chain(wants).map(NodeSays::from);
    let mut client = SwarmClient::new(channel);
    let answers = client.attend(stream::iter(words)).await.unwrap();
    supernode.until(|status| status.nodes_count == 2).await;
    let status = supernode.until(|status| status.nodes_count == 1).await;
    assert_eq!(status.nodes[0].name, "node");
    drop(answers);
    // The others are served as before.
    assert!(other.attendance.status()[0].live);
    supernode.stop().await;
}

#[tokio::test]
async fn a_silent_node_is_noticed() {
    let origin = Origin::start().await;
    let supernode = Supernode::start(&origin);
    let url = format!("http://{}", supernode.control);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let hello = node_says::Word::Hello(Hello::default());
    let words =
        futures_util::StreamExt::chain(stream::iter([NodeSays::from(hello)]), stream::pending());
    let mut client = SwarmClient::new(channel);
    let answers = client.attend(words).await.unwrap();
    supernode
        .until(|status| status.nodes.iter().any(|node| node.silent))
        .await;
    drop(answers);
    supernode.stop().await;
}

#[tokio::test]
async fn what_does_not_begin_with_a_hello_is_no_node() {
    let origin = Origin::start().await;
    let supernode = Supernode::start(&origin);
    let url = format!("http://{}", supernode.control);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let want = NodeSays::from(node_says::Word::Want(Want::default()));
    let mut client = SwarmClient::new(channel);
    let answers = client.attend(stream::iter([want])).await.unwrap();
    let mut answers = answers.into_inner();
    let end = tokio::time::timeout(Duration::from_secs(10), answers.message()).await;
    assert!(!matches!(end.unwrap(), Ok(Some(_))), "it was answered");
    assert_eq!(supernode.status().nodes_count, 0);
    soon(supernode.stop()).await;
}
