//! The whole: real nodes behind their front doors, a supernode, a registry.

use std::net::SocketAddr;
use std::time::Duration;

use oci_conformance::origin::sha256;
use oci_conformance::{Ask, Fault, Gate, Origin};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rig::{self, Supernode, soon};
use super::{LENGTH, REPOSITORY, pushed};

struct RealNode {
    listen: SocketAddr,
    admin: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), proxy::RunError>>,
    _folder: tempfile::TempDir,
}

impl RealNode {
    fn start(origin: &Origin, supernode: &Supernode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = proxy::Config {
            listen: vec![loopback],
            admin: loopback,
            peer_listen: Some(loopback),
            supernodes: vec![supernode.control.to_string()],
            data_dir: folder.path().to_owned(),
            drain: Duration::from_secs(5),
            min_free: proxy::config::MinFree::Bytes(0),
            ..proxy::Config::default()
        };
        config.registries.public = false;
        config.registries.registries.push(rig::registry(origin));
        let app = proxy::App::build(config).unwrap();
        let shutdown = CancellationToken::new();
        Self {
            listen: app.addrs().listen[0],
            admin: app.addrs().admin,
            task: tokio::spawn(app.run(shutdown.clone())),
            shutdown,
            _folder: folder,
        }
    }

    async fn pull(&self, digest: &str) -> bytes::Bytes {
        let path = format!("/v2/{}/{REPOSITORY}/blobs/{digest}", rig::REGISTRY);
        let (head, body) = rig::fetch(self.listen, &path).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body
    }

    async fn stop(self) {
        self.shutdown.cancel();
        soon(self.task).await.unwrap().unwrap();
    }
}

async fn nodes(origin: &Origin, supernode: &Supernode, count: usize) -> Vec<RealNode> {
    let nodes: Vec<_> = (0..count)
        .map(|_| RealNode::start(origin, supernode))
        .collect();
    supernode.until(|status| status.nodes_count == count).await;
    // Each knows it, too: it has its own side of the stream.
    for node in &nodes {
        let live = async {
            let mut looks = tokio::time::interval(Duration::from_millis(5));
            while !rig::get(node.admin, "/status")
                .await
                .contains(r#""live":true"#)
            {
                looks.tick().await;
            }
        };
        soon(live).await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_pull_at_once_and_the_registry_is_read_once() {
    let origin = Origin::start().await;
    let (bytes, digest) = pushed(&origin, 31);
    let digest = digest.to_string();
    let supernode = Supernode::start(&origin);
    let nodes = nodes(&origin, &supernode, 4).await;
    let pulls = nodes.iter().map(|node| node.pull(&digest));
    for pulled in soon(futures_util::future::join_all(pulls)).await {
        assert_eq!(pulled.len(), bytes.len());
        assert_eq!(sha256(&pulled), digest);
    }
    assert_eq!(origin.body_bytes(Ask::blob(&digest)), LENGTH as u64);
    supernode
        .until(|status| status.nodes.iter().all(|node| node.holds == 1))
        .await;
    for node in nodes {
        node.stop().await;
    }
    supernode.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supernode_that_goes_in_mid_pull_fails_nobody() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 32);
    let digest = digest.to_string();
    let gate = Gate::closed();
    origin
        .when(Ask::blob(&digest).get())
        .once()
        .answer(Fault::Pace(gate.clone()));
    gate.allow(LENGTH as u64 / 2);
    let supernode = Supernode::start(&origin);
    let nodes = nodes(&origin, &supernode, 3).await;
    let pulls = nodes.iter().map(|node| node.pull(&digest));
    let pulls = futures_util::future::join_all(pulls);
    let goes = async {
        supernode
            .until(|status| {
                status
                    .blobs
                    .iter()
                    .any(|blob| blob.checked >= 4 && blob.wanting == 3)
            })
            .await;
        supernode.stop().await;
    };
    let (pulled, ()) = soon(async { tokio::join!(pulls, goes) }).await;
    for pulled in pulled {
        assert_eq!(sha256(&pulled), digest);
    }
    for node in nodes {
        node.stop().await;
    }
}
