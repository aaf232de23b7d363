//! A node and its supernodes: manifests through their owner, preheats, and what a restart remembers.
//!
//! The control stream is a test's own; the seed behind it is a real node.

use std::net::SocketAddr;
use std::path::Path;

use http::{Method, StatusCode};
use oci::Digest;
use proxy::Config;
use proxy::attending::SwarmStatus;
use swarm::wire::{Fetch, Fetched, Holding, node_says, supernode_says};

use crate::image::Image;
use crate::node::{Node, ask, config};
use crate::origin::Origin;
use crate::rig::{Liar, within};
use crate::supernode::{FakeStream, FakeSupernode, KeptAlive};

const REPOSITORY: &str = "org/app";

fn attending(folder: &Path, origin: &Origin, supernode: &FakeSupernode) -> Config {
    let mut config = config(folder, &[("docker.io", origin)]);
    config.supernodes = vec![supernode.address.to_string()];
    config.peer_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    config
}

fn seed(folder: &Path, origin: &Origin) -> Node {
    let mut config = config(folder, &[("docker.io", origin)]);
    config.seed = true;
    Node::start(config)
}

/// A node that attends a supernode whose seed is at `bytes`.
struct Attended {
    node: Node,
    stream: FakeStream,
    _alive: KeptAlive,
    _supernode: FakeSupernode,
    _folder: tempfile::TempDir,
}

impl Attended {
    async fn start(origin: &Origin, bytes: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut supernode = FakeSupernode::start();
        let node = Node::start(attending(folder.path(), origin, &supernode));
        let stream = supernode.attended_at("one", bytes.to_string()).await;
        let alive = stream.keep_alive();
        let attended = Self {
            node,
            stream,
            _alive: alive,
            _supernode: supernode,
            _folder: folder,
        };
        attended.until_live().await;
        attended
    }

    async fn status(&self) -> SwarmStatus {
        status_of(&self.node).await
    }

    async fn until_live(&self) {
        let live = async { while !self.status().await.supernodes[0].live {} };
        within(live).await;
    }
}

async fn status_of(node: &Node) -> SwarmStatus {
    let page = node.ask_admin("/status").await;
    let page: serde_json::Value = serde_json::from_slice(&page.body).unwrap();
    serde_json::from_value(page["swarm"].clone()).unwrap()
}

fn image(origin: &Origin, seed: u64) -> Image {
    let image = Image::new(REPOSITORY, seed, 100_000);
    image.push(origin, "1");
    image
}

fn by_digest(bytes: &[u8]) -> String {
    format!("/v2/{REPOSITORY}/manifests/{}", Digest::sha256(bytes))
}

fn blob(bytes: &[u8]) -> String {
    format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(bytes))
}

/// What `user` with `pass` sends.
const OWN: &str = "Basic dXNlcjpwYXNz";

/// From now on only they read the repository.
fn close(origin: &Origin, repository: &str) {
    let account = OWN.trim_start_matches("Basic ").to_owned();
    let mut content = origin.content();
    content.private.insert(repository.to_owned(), account);
}

const TAG: &str = "/v2/org/app/manifests/1";

#[tokio::test]
async fn a_public_manifest_costs_its_registry_one_get_for_all_nodes() {
    let origin = Origin::start().await;
    let image = image(&origin, 1);
    let folder = tempfile::tempdir().unwrap();
    let seed = seed(folder.path(), &origin);
    let one = Attended::start(&origin, seed.addr).await;
    let two = Attended::start(&origin, seed.addr).await;
    for node in [&one.node, &two.node] {
        let manifest = node.get(&by_digest(&image.manifest)).await;
        assert!(manifest.body == image.manifest);
        // By tag, upstream is only asked what it means now.
        let index = node.get(TAG).await;
        assert!(index.body == image.index, "{index:?}");
    }
    let gets = |path: &str| origin.count(&Method::GET, path);
    assert_eq!(gets(&by_digest(&image.manifest)), 1);
    assert_eq!(gets(&by_digest(&image.index)) + gets(TAG), 1);
    assert_eq!(origin.count(&Method::HEAD, TAG), 2);
    // What the owner said holds for everybody: no more questions.
    let before = origin.asked().len();
    let again = one.node.get(&by_digest(&image.manifest)).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(origin.asked().len(), before);
    for attended in [one, two] {
        attended.node.stop().await;
    }
    seed.stop().await;
}

#[tokio::test]
async fn a_private_manifest_is_had_with_the_clients_own_credential_only() {
    let origin = Origin::start().await;
    let image = image(&origin, 2);
    close(&origin, REPOSITORY);
    let folder = tempfile::tempdir().unwrap();
    let seed = seed(folder.path(), &origin);
    let attended = Attended::start(&origin, seed.addr).await;
    let path = by_digest(&image.manifest);
    let own = [("authorization", OWN)];
    let manifest = attended.node.ask(Method::GET, &path, &own).await;
    assert!(manifest.body == image.manifest);
    // The seed has no copy, and no right to one.
    let refused = seed.get(&path).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    // Nor does the node give it to those without.
    let refused = attended.node.get(&path).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    attended.node.stop().await;
    seed.stop().await;
}

#[tokio::test]
async fn an_operators_account_at_the_seed_makes_nothing_public() {
    let origin = Origin::start().await;
    let image = image(&origin, 3);
    let folder = tempfile::tempdir().unwrap();
    let seed = seed(folder.path(), &origin);
    let path = by_digest(&image.manifest);
    let answer = seed.get(&path).await;
    assert_eq!(answer.header("darner-public"), "1");
    seed.stop().await;
    // The same at a node that is no seed, and at a seed that reads with an account.
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let answer = node.get(&path).await;
    assert_eq!(
        (answer.status, answer.header("darner-public")),
        (StatusCode::OK, "")
    );
    node.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let mut lent = config(folder.path(), &[("docker.io", &origin)]);
    lent.seed = true;
    lent.registries.registries[0].accounts = vec![proxy::upstream::AccountConfig {
        username: Some("user".to_owned()),
        password: Some(proxy::upstream::Secret::new("pass")),
        repositories: vec![REPOSITORY.to_owned()],
        ..Default::default()
    }];
    close(&origin, REPOSITORY);
    let lent = Node::start(lent);
    let answer = lent.get(&path).await;
    assert_eq!(
        (answer.status, answer.header("darner-public")),
        (StatusCode::OK, "")
    );
    lent.stop().await;
}

#[tokio::test]
async fn owners_that_lie_or_are_silent_cost_time_and_nothing_else() {
    let origin = Origin::start().await;
    let image = image(&origin, 4);
    let kind = crate::image::MANIFEST;
    let answer = |bytes: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ndarner-public: 1\r\n\
             content-length: {}\r\n\r\n{bytes}",
            bytes.len()
        )
    };
    for (lie, closes) in [
        (answer("{}"), false),
        (
            "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (
            "HTTP/1.1 302 Go\r\nlocation: /v2/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (String::new(), true),
        (String::new(), false),
    ] {
        let liar = Liar::start(lie.clone(), closes).await;
        let attended = Attended::start(&origin, liar.address).await;
        let manifest = attended.node.get(&by_digest(&image.manifest)).await;
        assert!(manifest.body == image.manifest, "{lie}: {manifest:?}");
        attended.node.stop().await;
    }
}

#[tokio::test]
async fn what_a_supernode_asks_for_is_pulled_before_a_client_asks() {
    let origin = Origin::start().await;
    let image = image(&origin, 5);
    let nobody = Liar::start("", true).await;
    let mut attended = Attended::start(&origin, nobody.address).await;
    let fetch = |bytes: &[u8], manifest: bool, task: u64| Fetch {
        registry: "docker.io".to_owned(),
        repository: REPOSITORY.to_owned(),
        digest: Digest::sha256(bytes).to_string(),
        manifest,
        task,
    };
    let wanted = [
        (fetch(&image.manifest, true, 1), image.manifest.len()),
        (fetch(&image.layers[0], false, 2), image.layers[0].len()),
        (fetch(b"nowhere", false, 3), 0),
    ];
    for (fetch, _) in wanted.clone() {
        let word = supernode_says::Word::Fetch(fetch);
        attended.stream.say(word).await;
    }
    let mut answers = Vec::new();
    while answers.len() < wanted.len() {
        answers.push(attended.stream.hears_of(fetched).await);
    }
    answers.sort_by_key(|answer| answer.task);
    for (answer, (asked, bytes)) in answers.iter().zip(&wanted) {
        assert_eq!((answer.task, answer.bytes), (asked.task, *bytes as u64));
        assert_eq!(answer.error.is_empty(), *bytes > 0, "{}", answer.error);
    }
    origin.stop().await;
    let layer = attended.node.get(&blob(&image.layers[0])).await;
    assert!(layer.body == image.layers[0]);
    attended.node.stop().await;
}

fn fetched(word: node_says::Word) -> Option<Fetched> {
    match word {
        node_says::Word::Fetched(fetched) => Some(fetched),
        _ => None,
    }
}

fn held(word: node_says::Word) -> Option<Vec<Holding>> {
    match word {
        node_says::Word::Held(held) => Some(held.list),
        _ => None,
    }
}

#[tokio::test]
async fn what_is_held_of_public_places_is_shared_again_after_a_restart() {
    let origin = Origin::start().await;
    let image = image(&origin, 6);
    let private = crate::image::noise(7, 50_000);
    origin.content().blob("org/private", &private);
    close(&origin, "org/private");
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    assert_eq!(node.get(TAG).await.status, StatusCode::OK);
    for path in [by_digest(&image.manifest), blob(&image.layers[0])] {
        assert_eq!(node.get(&path).await.status, StatusCode::OK);
    }
    let path = format!("/v2/org/private/blobs/{}", Digest::sha256(&private));
    let own = [("authorization", OWN)];
    let pulled = node.ask(Method::GET, &path, &own).await;
    assert!(pulled.body == private);
    node.stop().await;

    let mut supernode = FakeSupernode::start();
    let node = Node::start(attending(folder.path(), &origin, &supernode));
    let mut stream = supernode.attended("one").await;
    let _alive = stream.keep_alive();
    let mut told = Vec::new();
    while told.len() < 3 {
        told.extend(stream.hears_of(held).await);
    }
    let mut told: Vec<(String, u64)> = told.into_iter().map(|it| (it.digest, it.total)).collect();
    told.sort();
    let of = |bytes: &[u8]| (Digest::sha256(bytes).to_string(), bytes.len() as u64);
    let mut shared = [of(&image.index), of(&image.manifest), of(&image.layers[0])];
    shared.sort();
    assert_eq!(told, shared);

    let given = |bytes: &[u8]| format!("/v2/swarm/blobs/{}", Digest::sha256(bytes));
    let peer = node.peer.unwrap();
    let layer = within(ask(peer, Method::GET, &given(&image.layers[0]), &[])).await;
    assert!(layer.body == image.layers[0]);
    let refused = within(ask(peer, Method::GET, &given(&private), &[])).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test]
async fn the_status_names_supernodes_and_why_they_are_away() {
    let origin = Origin::start().await;
    let nobody = Liar::start("", true).await;
    let attended = Attended::start(&origin, nobody.address).await;
    let status = attended.status().await;
    assert_eq!(Some(status.peer_listen), attended.node.peer);
    assert_eq!(status.supernodes[0].name, "one");
    let metrics = attended.node.ask_admin("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("darner_supernodes_live 1\n"), "{metrics}");
    attended.node.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let mut alone = config(folder.path(), &[("docker.io", &origin)]);
    alone.supernodes = vec!["127.0.0.1:1".to_owned()];
    alone.peer_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let node = Node::start(alone);
    let away = async { while status_of(&node).await.supernodes[0].why.is_empty() {} };
    within(away).await;
    assert!(!status_of(&node).await.supernodes[0].live);
    node.stop().await;
}
