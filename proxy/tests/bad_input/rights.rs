//! Private images behind a token server: held or not, only a reader with the right gets them.

use std::time::Duration;

use oci_conformance::origin::content;
use oci_conformance::raw;
use oci_conformance::{Ask, Fault, Image, Origin};

use crate::rig::{Node, registry};

const SECRET: &str = "team/secret";
const ANN: &str = "Basic YW5uOnB3";
const BOB: &str = "Basic Ym9iOnB3";

/// An origin where ann reads `team/secret`, bob `team/other`, and everybody `team/open`.
struct Private {
    origin: Origin,
    image: Image,
}

impl Private {
    async fn new() -> Self {
        let origin = Origin::start().await;
        let image = origin.push_image(SECRET, "1", &[&content(1, 300_000)]);
        origin.push_image("team/other", "1", &[b"other"]);
        origin.push_image("team/open", "1", &[b"open"]);
        origin.require_tokens();
        origin.private(SECRET, "ann", "pw");
        origin.private("team/other", "bob", "pw");
        Self { origin, image }
    }

    fn node(&self, change: impl FnOnce(&mut proxy::Config)) -> Node {
        Node::with(vec![registry("docker.io", &[&self.origin])], change)
    }

    /// A token as a client gets it from the real token server.
    async fn token(&self, account: Option<&str>, repository: &str) -> String {
        let target = format!("/token?service=test&scope=repository:{repository}:pull");
        let request = raw::get(self.origin.addr(), &target);
        let answer = match account {
            Some(account) => request.header("Authorization", account).send().await,
            None => request.send().await,
        };
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        format!("Bearer {}", body["token"].as_str().unwrap())
    }

    fn targets(&self, repository: &str) -> Vec<String> {
        let manifests =
            ["1", &self.image.manifest].map(|r| format!("/v2/{repository}/manifests/{r}"));
        let blobs = self
            .image
            .blobs()
            .map(|d| format!("/v2/{repository}/blobs/{d}"));
        manifests.into_iter().chain(blobs).collect()
    }

    async fn read_all(&self, node: &Node, authorization: &str) {
        for target in self.targets(SECRET) {
            let answer = node.get_as(&target, authorization).await;
            assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        }
    }

    async fn read_none(&self, node: &Node, authorization: &str) {
        for target in self.targets(SECRET) {
            for range in [None, Some("bytes=0-9")] {
                let mut request = raw::get(node.addr, &target);
                if !authorization.is_empty() {
                    request = request.header("Authorization", authorization);
                }
                if let Some(range) = range {
                    request = request.header("Range", range);
                }
                let answer = request.send().await;
                assert!(
                    answer.status >= 400,
                    "{target} {range:?}: {}",
                    answer.status
                );
                assert!(answer.body.len() < 1000);
            }
            let mut head = raw::head(node.addr, &target);
            if !authorization.is_empty() {
                head = head.header("Authorization", authorization);
            }
            let head = head.send().await;
            assert!(head.status >= 400, "HEAD {target}: {}", head.status);
        }
    }
}

#[tokio::test]
async fn the_challenge_is_relayed_byte_for_byte() {
    let private = Private::new().await;
    let node = private.node(|_| {});
    let challenge = format!(
        r#"Bearer realm="{}/token",service="test",scope="repository:team/secret:pull""#,
        private.origin.url()
    );
    for target in private.targets(SECRET) {
        let answer = node.get(&target).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "UNAUTHORIZED"),
            "{target}"
        );
        let told = answer.header("www-authenticate").unwrap();
        // The node's own anonymous token may have been tried first, which adds an error.
        assert!(told.starts_with(&challenge), "{told}");
    }
    node.stop().await;
}

#[tokio::test]
async fn held_bytes_go_to_their_reader_only() {
    let private = Private::new().await;
    let node = private.node(|_| {});
    let ann = private.token(Some(ANN), SECRET).await;
    private.read_all(&node, &ann).await;
    private.read_all(&node, &ann).await;
    let others = [
        String::new(),
        private.token(Some(BOB), SECRET).await,
        private.token(Some(BOB), "team/other").await,
        private.token(None, SECRET).await,
        "Bearer garbage".to_owned(),
        "Bearer".to_owned(),
        "Basic !!!".to_owned(),
        BOB.to_owned(),
    ];
    for other in &others {
        println!("{other}");
        private.read_none(&node, other).await;
    }
    private.read_all(&node, &ann).await;
    node.stop().await;
}

#[tokio::test]
async fn a_digest_opens_no_door_in_another_repository() {
    let private = Private::new().await;
    let node = private.node(|_| {});
    let ann = private.token(Some(ANN), SECRET).await;
    private.read_all(&node, &ann).await;
    let bob = private.token(Some(BOB), "team/other").await;
    for repository in ["team/open", "team/other"] {
        let allowed = node
            .get_as(&format!("/v2/{repository}/manifests/1"), &bob)
            .await;
        assert_eq!(allowed.status, 200, "{repository}");
        for target in private.targets(repository).iter().skip(1) {
            let answer = node.get_as(target, &bob).await;
            // Bob's token is not for this place, which a registry may say before it looks.
            assert!(
                matches!(answer.status, 401 | 404),
                "{target}: {}",
                answer.status
            );
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_revoked_right_ends_with_the_grant() {
    let private = Private::new().await;
    let node = private.node(|config| {
        config.trust.grant = Duration::ZERO;
        config.trust.tag = Duration::ZERO;
    });
    let ann = private.token(Some(ANN), SECRET).await;
    private.read_all(&node, &ann).await;
    private.origin.revoke(SECRET);
    private.read_none(&node, &ann).await;
    node.stop().await;
}

#[tokio::test]
async fn without_an_answer_only_a_live_grant_counts() {
    for fault in [Fault::Status(500), Fault::TooMany(None), Fault::HangUp] {
        println!("{fault:?}");
        let private = Private::new().await;
        let node = private.node(|config| config.trust.tag = Duration::ZERO);
        let ann = private.token(Some(ANN), SECRET).await;
        private.read_all(&node, &ann).await;
        private.origin.when(Ask::any()).answer(fault.clone());
        private.read_all(&node, &ann).await;
        private.read_none(&node, "").await;
        private.read_none(&node, "Bearer garbage").await;
        node.stop().await;

        let private = Private::new().await;
        let node = private.node(|config| config.trust.grant = Duration::ZERO);
        let ann = private.token(Some(ANN), SECRET).await;
        private.read_all(&node, &ann).await;
        private.origin.when(Ask::any()).answer(fault);
        private.read_none(&node, &ann).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn one_clients_token_is_never_used_for_another() {
    let private = Private::new().await;
    let node = private.node(|_| {});
    let ann = private.token(Some(ANN), SECRET).await;
    private.read_all(&node, &ann).await;
    private.origin.forget_requests();
    private.read_none(&node, "").await;
    let bob = private.token(Some(BOB), "team/other").await;
    private.read_none(&node, &bob).await;
    for seen in private.origin.seen(Ask::any()) {
        assert_ne!(seen.authorization(), Some(&*ann), "{seen}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_clients_credential_goes_to_its_registry_only() {
    let (private, other) = (Private::new().await, Origin::start().await);
    other.push_image(SECRET, "1", &[b"theirs"]);
    let registries = vec![
        registry("docker.io", &[&private.origin]),
        registry("quay.io", &[&other]),
    ];
    let node = Node::with(registries, |_| {});
    let ann = private.token(Some(ANN), SECRET).await;
    private.read_all(&node, &ann).await;
    let quay = format!("/v2/{SECRET}/manifests/1?ns=quay.io");
    let answer = node.get_as(&quay, "Bearer for-quay-only").await;
    assert_eq!(answer.status, 200);
    assert_ne!(
        answer.header("docker-content-digest"),
        Some(&*private.image.manifest)
    );
    for seen in private.origin.seen(Ask::any()) {
        assert_ne!(seen.authorization(), Some("Bearer for-quay-only"));
    }
    for seen in other.seen(Ask::any()) {
        assert_ne!(seen.authorization(), Some(&*ann));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_first_endpoint_that_is_not_trusted_sees_no_credential() {
    let (private, accelerator) = (Private::new().await, Origin::start().await);
    let node = Node::with(
        vec![registry("docker.io", &[&accelerator, &private.origin])],
        |_| {},
    );
    let ann = private.token(Some(ANN), SECRET).await;
    private.read_all(&node, &ann).await;
    assert!(accelerator.count(Ask::any()) > 0);
    for seen in accelerator.seen(Ask::any()) {
        assert_eq!(seen.authorization(), None, "{seen}");
    }
    node.stop().await;
}
