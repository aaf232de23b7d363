//! A supernode and two nodes as processes of their own: bytes come once from the registry, and
//! `pull`, `preheat` and `status` tell of it.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::fs;

use cli::{Machine, Node, Said, wait_until};
use oci_conformance::origin::{content, sha256};
use oci_conformance::{Ask, Image, Origin};
use serde_json::Value;
use tokio::task::block_in_place;

const MIB: usize = 1 << 20;

struct Swarm {
    machine: Machine,
    origin: Origin,
    image: Image,
    supernode: Node,
    nodes: [Node; 2],
}

impl Swarm {
    async fn start() -> Self {
        let origin = Origin::start().await;
        let layers = [content(1, 6 * MIB), content(2, MIB)];
        let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
        let image = origin.push_image("app", "1", &layers);
        let machine = Machine::new();
        let registry = format!("registry.test={}", origin.url());
        let registry = ["--registry", &registry];
        let supernode = block_in_place(|| machine.supernode(&registry));
        let led = ["--supernode", &supernode.admin];
        let port = ["--peer-listen", "127.0.0.1:0"];
        let arguments = [&registry[..], &led, &port].concat();
        let nodes = ["one", "two"].map(|data| block_in_place(|| machine.proxy(data, &arguments)));
        let swarm = Self {
            machine,
            origin,
            image,
            supernode,
            nodes,
        };
        for node in &swarm.nodes {
            wait_until("the node attends", || {
                let status = swarm.status(node);
                (status["swarm"]["supernodes"][0]["live"] == true).then_some(())
            });
        }
        swarm
    }

    fn run(&self, arguments: &[&str]) -> Said {
        block_in_place(|| self.machine.run(arguments))
    }

    fn status(&self, node: &Node) -> Value {
        let said = self.run(&["status", "--json", "--admin", &node.admin]);
        serde_json::from_str(&said.out).unwrap()
    }

    fn each_blob_came_once(&self) {
        for digest in self.image.blobs() {
            let blob = || Ask::blob(digest).get();
            assert_eq!(self.origin.count(blob()), 1, "{digest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_pull_at_once_and_the_registry_is_read_once() {
    let swarm = Swarm::start().await;
    let folder = |node: usize| swarm.machine.path(&format!("layout{node}"));
    let pull = |node: usize| {
        let mut command = swarm
            .machine
            .command(["pull", "registry.test/app:1", "--json"]);
        command.args(swarm.nodes[node].flags()).arg("-o");
        swarm.machine.said(command.arg(folder(node)))
    };
    let both = block_in_place(|| {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| pull(1));
            [pull(0), other.join().unwrap()]
        })
    });
    for (node, said) in both.iter().enumerate() {
        assert_eq!(said.code, 0, "{}", said.text());
        let report: Value = serde_json::from_str(&said.out).unwrap();
        let of = |source: &str| report["sources"][source].as_u64().unwrap();
        assert_eq!(of("upstream"), 0, "{}", said.text());
        assert!(
            of("supernode") + of("peer") >= 7 * MIB as u64,
            "{}",
            said.text()
        );
        for digest in swarm.image.blobs() {
            let name = digest.strip_prefix("sha256:").unwrap();
            let path = folder(node).join("blobs/sha256").join(name);
            assert_eq!(sha256(&fs::read(path).unwrap()), *digest);
        }
    }
    swarm.each_blob_came_once();
    let said = swarm.run(&["status", "--admin", &swarm.nodes[0].admin]);
    assert!(
        said.out.contains("in a swarm: 1 of 1 supernodes lead, "),
        "{}",
        said.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn preheating_brings_an_image_to_all_nodes() {
    let swarm = Swarm::start().await;
    let at = ["--supernode", &swarm.supernode.admin];
    let image = ["preheat", "registry.test/app:1", "--nodes", "all", "--json"];
    let said = swarm.run(&[&image[..], &at].concat());
    assert_eq!(said.code, 0, "{}", said.text());
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["nodes"].as_array().unwrap().len(), 2, "{}", said.out);
    swarm.each_blob_came_once();

    // Now nobody but the node itself is needed; only what the tag means is the registry's to say.
    let image = format!("registry.test/app@{}", swarm.image.manifest);
    swarm.origin.stop().await;
    for node in &swarm.nodes {
        let image = ["pull", &image, "--json"];
        let said = swarm.run(&[&image[..], &node.flags()].concat());
        assert_eq!(said.code, 0, "{}", said.text());
        let report: Value = serde_json::from_str(&said.out).unwrap();
        assert!(report["sources"]["store"].as_u64().unwrap() >= 7 * MIB as u64);
    }

    let missing = ["preheat", "registry.test/none:1", "--nodes", "all"];
    let said = swarm.run(&[&missing[..], &at].concat());
    assert_eq!(said.code, 1, "{}", said.text());
}
