//! Private stays private: held bytes go only to readers whose right is confirmed.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::image::Image;
use crate::node::{Node, Reply, config};
use crate::origin::Origin;

const ALICE: &str = "YWxpY2U6cw==";

async fn get_as(node: &Node, path: &str, account: &str) -> Reply {
    let authorization = format!("Basic {account}");
    let headers = [("authorization", authorization.as_str())];
    node.ask(Method::GET, path, &headers).await
}

struct Private {
    folder: tempfile::TempDir,
    origin: Origin,
    image: Image,
}

impl Private {
    async fn new() -> Self {
        let origin = Origin::start().await;
        let image = Image::new("corp/secret", 1, 100_000);
        image.push(&origin, "v1");
        let account = ("corp/secret".to_owned(), ALICE.to_owned());
        origin.content().private.extend([account]);
        Self {
            folder: tempfile::tempdir().unwrap(),
            image,
            origin,
        }
    }

    fn config(&self) -> proxy::Config {
        config(self.folder.path(), &[("docker.io", &self.origin)])
    }

    /// Everything there is to read.
    fn paths(&self) -> Vec<String> {
        let image = &self.image;
        vec![
            image.manifest_path("v1"),
            image.digest_path(&image.index),
            image.digest_path(&image.manifest),
            image.blob_path(&image.config),
            image.blob_path(&image.layers[0]),
        ]
    }

    async fn read_all(&self, node: &Node) {
        for path in self.paths() {
            let reply = get_as(node, &path, ALICE).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn held_private_bytes_are_refused_to_others() {
    let private = Private::new().await;
    let node = Node::start(private.config());
    for path in private.paths() {
        let cold = node.get(&path).await;
        assert_eq!(cold.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    private.read_all(&node).await;
    private.read_all(&node).await;
    for path in private.paths() {
        let anonymous = node.get(&path).await;
        assert_eq!(anonymous.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(anonymous.code(), "UNAUTHORIZED");
        let challenge = anonymous.header("www-authenticate");
        assert_eq!(challenge, "Basic  realm=\"small registry\"");
        let mallory = get_as(&node, &path, "bWFsbG9yeTp4").await;
        assert_eq!(mallory.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let blob = private.image.blob_path(&private.image.layers[0]);
    let asked = private.origin.asked();
    let gets = asked.iter().filter(|asked| {
        asked.method == Method::GET && asked.path == blob && !asked.headers.contains_key("range")
    });
    // Anonymous cold, then anonymous before alice's own, each refused, and one that brought bytes.
    assert!(gets.count() <= 3);
    node.stop().await;
}

#[tokio::test]
async fn a_private_blob_is_not_found_through_a_public_place() {
    let private = Private::new().await;
    let public = Image::new("library/app", 500, 1000);
    public.push(&private.origin, "v1");
    let node = Node::start(private.config());
    private.read_all(&node).await;
    assert_eq!(
        node.get(&public.manifest_path("v1")).await.status,
        StatusCode::OK
    );
    let secret = private.image.blob_path(&private.image.layers[0]);
    let through = secret.replace("corp/secret", "library/app");
    let reply = node.get(&through).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let manifest = private.image.digest_path(&private.image.manifest);
    let through = manifest.replace("corp/secret", "library/app");
    assert_eq!(node.get(&through).await.status, StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test]
async fn while_upstream_is_away_only_a_live_grant_reads_private_bytes() {
    let private = Private::new().await;
    let node = Node::start(private.config());
    private.read_all(&node).await;
    private.origin.stop().await;
    private.read_all(&node).await;
    for path in private.paths() {
        let anonymous = node.get(&path).await;
        assert!(!anonymous.status.is_success(), "{path}");
        let mallory = get_as(&node, &path, "bWFsbG9yeTp4").await;
        assert!(!mallory.status.is_success(), "{path}");
    }
    node.stop().await;

    // A grant does not outlive the process, and privacy does.
    let node = Node::start(private.config());
    for path in private.paths() {
        let alice = get_as(&node, &path, ALICE).await;
        assert!(!alice.status.is_success(), "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_revoked_right_ends_with_its_grant() {
    let private = Private::new().await;
    let mut config = private.config();
    config.trust.grant = Duration::ZERO;
    config.trust.tag = Duration::ZERO;
    let node = Node::start(config);
    private.read_all(&node).await;
    let changed = "Ym9iOng=".to_owned();
    private
        .origin
        .content()
        .private
        .insert("corp/secret".to_owned(), changed);
    for path in private.paths() {
        let alice = get_as(&node, &path, ALICE).await;
        assert_eq!(alice.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn credentials_reach_upstream_only_after_anonymous_access_failed() {
    let private = Private::new().await;
    let public = Image::new("library/app", 500, 1000);
    public.push(&private.origin, "v1");
    let node = Node::start(private.config());
    let reply = get_as(&node, &public.manifest_path("v1"), ALICE).await;
    assert_eq!(reply.status, StatusCode::OK);
    let asked = private.origin.asked();
    let sent = |asked: &crate::origin::Asked| asked.headers.contains_key("authorization");
    assert!(!asked.iter().any(sent));
    node.stop().await;
}

#[tokio::test]
async fn many_unproven_readers_of_a_held_blob_cost_one_question() {
    let private = Private::new().await;
    let mut config = private.config();
    config.trust.grant = Duration::ZERO;
    let node = Node::start(config);
    private.read_all(&node).await;
    let blob = private.image.blob_path(&private.image.layers[0]);
    let before = private.origin.count(&Method::HEAD, &blob);
    let reads = (0..32).map(|_| get_as(&node, &blob, ALICE));
    for reply in futures_util::future::join_all(reads).await {
        assert!(reply.body == private.image.layers[0]);
    }
    let asked = private.origin.count(&Method::HEAD, &blob) - before;
    assert!((1..=8).contains(&asked), "{asked} questions");
    assert_eq!(private.origin.count(&Method::GET, &blob), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_flight_of_one_reader_is_not_for_another_without_the_right() {
    let private = Private::new().await;
    let layer = private.image.layers[0].clone();
    let held = (oci::Digest::sha256(&layer), 50_000);
    private.origin.content().held_at.extend([held]);
    let node = Node::start(private.config());
    let blob = private.image.blob_path(&layer);
    let authorization = format!("Basic {ALICE}");
    let headers = [("authorization", authorization.as_str())];
    let alice = node.open(&blob, &headers).await;
    assert_eq!(alice.status(), StatusCode::OK);
    for account in ["", "bWFsbG9yeTp4"] {
        let reply = match account {
            "" => node.get(&blob).await,
            account => get_as(&node, &blob, account).await,
        };
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{account}");
    }
    private.origin.open_gate();
    let body = http_body_util::BodyExt::collect(alice.into_body()).await;
    assert!(body.unwrap().to_bytes() == layer);
    node.stop().await;
}

#[tokio::test]
async fn an_own_account_reads_its_patterns_for_everybody_and_nothing_else() {
    let private = Private::new().await;
    let other = Image::new("team/secret", 700, 1000);
    other.push(&private.origin, "v1");
    let account = ("team/secret".to_owned(), ALICE.to_owned());
    private.origin.content().private.extend([account]);
    let mut config = private.config();
    config.registries.registries[0].accounts = vec![proxy::upstream::AccountConfig {
        repositories: vec!["corp/*".to_owned()],
        username: Some("alice".to_owned()),
        password: Some(proxy::upstream::Secret::new("s")),
        ..Default::default()
    }];
    let node = Node::start(config);
    for path in private.paths() {
        assert_eq!(node.get(&path).await.status, StatusCode::OK, "{path}");
    }
    let reply = node.get(&other.manifest_path("v1")).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    // It made nothing public: with upstream away only the grant counts, and that ends.
    node.stop().await;
    let mut config = private.config();
    config.trust.grant = Duration::ZERO;
    let node = Node::start(config);
    private.origin.stop().await;
    for path in private.paths() {
        assert!(!node.get(&path).await.status.is_success(), "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_blob_that_upstream_no_longer_has_is_not_served_without_a_grant() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 1000);
    image.push(&origin, "v1");
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.trust.grant = Duration::ZERO;
    let node = Node::start(config);
    crate::pull::pull(&node, &image, "v1").await;
    origin.content().remove_blob("library/app", &image.config);
    let reply = node.get(&image.blob_path(&image.config)).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    node.stop().await;

    // Nor later, when the answer is forgotten and nobody can be asked.
    origin.stop().await;
    let mut config = self::config(folder.path(), &[("docker.io", &origin)]);
    config.trust.grant = Duration::ZERO;
    let node = Node::start(config);
    let reply = node.get(&image.blob_path(&image.config)).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let reply = node.get(&image.blob_path(&image.layers[0])).await;
    assert_eq!(reply.status, StatusCode::OK);
    node.stop().await;
}
