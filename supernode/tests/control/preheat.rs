//! An image onto nodes before anybody pulls it.

use futures_util::StreamExt as _;
use oci_conformance::{Ask, Origin};
use swarm::wire::swarm_client::SwarmClient;
use swarm::wire::{PreheatProgress, PreheatRequest};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::REPOSITORY;
use super::rig::{self, Node, Supernode, soon};

async fn client(supernode: &Supernode) -> SwarmClient<Channel> {
    let url = format!("http://{}", supernode.control);
    let channel = Endpoint::from_shared(url).unwrap().connect().await;
    SwarmClient::new(channel.unwrap())
}

fn request(nodes: u32, platform: &str) -> PreheatRequest {
    PreheatRequest {
        image: format!("{}/{REPOSITORY}:latest", rig::REGISTRY),
        nodes,
        platform: platform.to_owned(),
    }
}

/// All that is told, to the end.
async fn preheat(
    supernode: &Supernode,
    request: PreheatRequest,
) -> Result<Vec<PreheatProgress>, Status> {
    let told = client(supernode).await.preheat(request).await?;
    let told = told.into_inner().collect::<Vec<_>>();
    soon(told).await.into_iter().collect()
}

#[tokio::test]
async fn every_node_is_asked_for_every_part_and_says_what_became_of_it() {
    let origin = Origin::start().await;
    let layers: Vec<Vec<u8>> = (0..60).map(|number| vec![number; 100]).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let image = origin.push_image(REPOSITORY, "latest", &layers);
    let supernode = Supernode::start(&origin);
    let mut good = Node::attending(&supernode, None).await;
    let mut bad = Node::attending(&supernode, None).await;

    let doing = preheat(&supernode, request(0, ""));
    let obeying = async {
        let mut parts = Vec::new();
        for _ in 0..image.blobs().count() + 1 {
            let part = soon(good.preheats.recv()).await.unwrap();
            assert_eq!(part.repository(), REPOSITORY);
            parts.push((part.digest().to_owned(), part.is_manifest()));
            part.done(100);
            let part = soon(bad.preheats.recv()).await.unwrap();
            if part.is_manifest() {
                part.done(100);
            } else {
                part.failed("no room");
            }
        }
        parts
    };
    let (told, parts) = tokio::join!(doing, obeying);
    assert_eq!(parts[0], (image.manifest.clone(), true));
    for blob in image.blobs() {
        assert!(parts.contains(&(blob.clone(), false)), "{blob}");
    }

    let told = told.unwrap();
    let last = |ok: bool| {
        let mut said = told.iter().rev();
        said.find(|said| said.finished == ok).unwrap()
    };
    let (done, failed) = (last(true), last(false));
    assert_eq!((done.blobs_done, done.blobs_all), (62, 62));
    assert_eq!(done.bytes_done, done.bytes_all);
    assert_ne!(done.node, failed.node, "one machine, two nodes");
    assert!(failed.error.contains("no room"), "{failed:?}");
    assert_eq!(failed.blobs_done, 1);
    assert_eq!(
        origin.count(Ask::blobs()),
        0,
        "the nodes pull, not the supernode"
    );
    supernode.stop().await;
}

#[tokio::test]
async fn as_many_nodes_as_asked_for_and_no_more() {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    let supernode = Supernode::start(&origin);
    let none = preheat(&supernode, request(0, "")).await;
    assert_eq!(none.unwrap(), [], "nobody attends");

    let nodes = [
        Node::attending(&supernode, None).await,
        Node::attending(&supernode, None).await,
    ];
    let mut client = client(&supernode).await;
    let told = client.preheat(request(1, "")).await.unwrap();
    let mut told = told.into_inner();
    soon(told.message()).await.unwrap().unwrap();
    // The one that was asked goes away.
    let [mut one, mut two] = nodes;
    tokio::select! {
        part = one.preheats.recv() => drop((part, one)),
        part = two.preheats.recv() => drop((part, two)),
    }
    let mut last = None;
    while let Some(said) = soon(told.message()).await.unwrap() {
        last = Some(said);
    }
    let last = last.unwrap();
    assert!(!last.finished && !last.error.is_empty(), "{last:?}");
    supernode.stop().await;
}

#[tokio::test]
async fn what_cannot_be_preheated_is_said_at_once() {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    origin.push_image("private/thing", "latest", &[b"secret"]);
    origin.require_tokens();
    origin.private("private/thing", "user", "password");
    let supernode = Supernode::start(&origin);
    let named = |image: &str| PreheatRequest {
        image: image.to_owned(),
        ..PreheatRequest::default()
    };
    let here = |rest: &str| named(&format!("{}/{rest}", rig::REGISTRY));
    for (request, code) in [
        (named("https://no.image"), Code::InvalidArgument),
        (named("nowhere.test/a:b"), Code::NotFound),
        (here("library/thing:nothing"), Code::NotFound),
        (here("private/thing"), Code::PermissionDenied),
        (request(0, "no platform"), Code::InvalidArgument),
    ] {
        let text = format!("{request:?}");
        let refused = preheat(&supernode, request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{text}: {refused}");
    }
    supernode.stop().await;
}
