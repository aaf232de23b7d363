//! With whose rights, and what no right changes.

use std::time::Duration;

use oci_conformance::origin::{content, sha256};
use oci_conformance::{Ask, Fault, Origin};
use proxy::upstream::{AccountConfig, EndpointConfig, Secret};

use crate::client::{UPLOADS, ask, delete, location, post};
use crate::rig::{Blob, Node, REPOSITORY, is_error, manifest_path, registry};

const ALICE: &str = "Basic YWxpY2U6YQ==";
const BOB: &str = "Basic Ym9iOmI=";

#[tokio::test]
async fn the_client_s_own_and_a_challenge_byte_for_byte() {
    let origin = Origin::start().await;
    origin.require_tokens();
    origin.writer(REPOSITORY, "alice", "a");
    let node = Node::of(&origin);
    let answer = post(&node, UPLOADS).await;
    is_error(&answer, 401, "UNAUTHORIZED");
    let direct = ask(origin.addr(), "POST", UPLOADS).body("").send().await;
    assert_eq!(
        answer.header("www-authenticate"),
        direct.header("www-authenticate")
    );
    assert_eq!(origin.count(Ask::token()), 0, "no token of ours");
    let scope = format!("/token?scope=repository:{REPOSITORY}:pull,push");
    let token = ask(origin.addr(), "GET", &scope).header("Authorization", ALICE);
    let token: serde_json::Value = serde_json::from_slice(&token.send().await.body).unwrap();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let begun = ask(node.addr, "POST", UPLOADS).header("Authorization", &bearer);
    let begun = begun.body("").send().await;
    assert_eq!(begun.status, 202);
    let status = ask(node.addr, "GET", &location(&begun)).header("Authorization", &bearer);
    assert_eq!(status.send().await.status, 204);
    is_error(
        &ask(node.addr, "GET", &location(&begun)).send().await,
        401,
        "UNAUTHORIZED",
    );
    node.stop().await;
}

#[tokio::test]
async fn an_own_account_never_writes() {
    let origin = Origin::start().await;
    origin.require_basic();
    origin.private(REPOSITORY, "alice", "a");
    let mut registries = vec![registry("docker.io", &[&origin])];
    registries[0].accounts = vec![AccountConfig {
        repositories: vec!["**".to_owned()],
        username: Some("alice".to_owned()),
        password: Some(Secret::new("a")),
        ..AccountConfig::default()
    }];
    let blob = Blob::new(&origin, 1, 5000);
    let node = Node::with(registries, |_| {});
    blob.is_whole(&node.get(&blob.path).await);
    is_error(&post(&node, UPLOADS).await, 401, "UNAUTHORIZED");
    is_error(&delete(&node, &blob.path).await, 401, "UNAUTHORIZED");
    let put = ask(node.addr, "PUT", &manifest_path("x"))
        .body("{}")
        .send()
        .await;
    is_error(&put, 401, "UNAUTHORIZED");
    let written = Ask::any().and(|seen| !matches!(seen.method.as_str(), "GET" | "HEAD"));
    let written = origin.seen(written);
    assert_eq!(written.len(), 3);
    assert!(written.iter().all(|seen| seen.authorization().is_none()));
    node.stop().await;
}

#[tokio::test]
async fn a_refused_delete_changes_nothing() {
    let origin = Origin::start().await;
    origin.require_basic();
    origin.private(REPOSITORY, "bob", "b");
    origin.writer(REPOSITORY, "alice", "a");
    let blob = Blob::new(&origin, 2, 5000);
    let node = Node::of(&origin);
    blob.is_whole(&node.get_as(&blob.path, BOB).await);
    origin.forget_requests();
    let refused = ask(node.addr, "DELETE", &blob.path).header("Authorization", BOB);
    is_error(&refused.send().await, 403, "DENIED");
    assert_eq!(delete(&node, &blob.path).await.status, 401);
    blob.is_whole(&node.get_as(&blob.path, BOB).await);
    // Reading was not asked about again: the right to write is another.
    assert_eq!(origin.count(Ask::any()), 2);
    node.stop().await;
}

#[tokio::test]
async fn a_push_gives_no_right_to_read() {
    let origin = Origin::start().await;
    origin.require_basic();
    origin.private(REPOSITORY, "alice", "a");
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.trust.grant = Duration::from_secs(3600);
    });
    let blob = Blob::new(&origin, 3, 5000);
    blob.is_whole(&node.get_as(&blob.path, ALICE).await);
    // Whoever asks to mount what is held here, from where he may not read, gets an upload.
    origin.private("bob/app", "bob", "b");
    let mount = format!(
        "/v2/bob/app/blobs/uploads/?mount={}&from={REPOSITORY}",
        blob.digest
    );
    let answer = ask(node.addr, "POST", &mount).header("Authorization", BOB);
    assert_eq!(answer.body("").send().await.status, 202);
    let path = format!("/v2/bob/app/blobs/{}", blob.digest);
    assert_eq!(node.get_as(&path, BOB).await.status, 404);
    assert_ne!(node.get_as(&blob.path, BOB).await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn the_official_endpoint_alone_is_written_to() {
    let (mirror, origin) = (Origin::start().await, Origin::start().await);
    let node = Node::with(vec![registry("docker.io", &[&mirror, &origin])], |_| {});
    let bytes = content(4, 5000);
    let one = format!("{UPLOADS}?digest={}", sha256(&bytes));
    let made = ask(node.addr, "POST", &one).body(&bytes).send().await;
    assert_eq!(made.status, 201);
    assert_eq!(mirror.count(Ask::any()), 0);
    // Nor is another one asked when it fails.
    origin.when(Ask::uploads()).answer(Fault::Status(500));
    is_error(&post(&node, UPLOADS).await, 502, "UNAVAILABLE");
    assert_eq!(mirror.count(Ask::any()), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_read_only_node_refuses_before_the_body() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 5, 5000);
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.read_only = true;
    });
    let session = format!("{UPLOADS}upload-1?_state=x");
    for (method, target) in [
        ("POST", UPLOADS),
        ("PATCH", &*session),
        ("PUT", &*session),
        ("DELETE", &*session),
        ("GET", &*session),
        ("PUT", &*manifest_path("x")),
        ("DELETE", &*manifest_path("x")),
        ("DELETE", &*blob.path),
        ("POST", "/v2/a/blobs/uploads/?ns=unknown.example"),
    ] {
        // The body is announced and never comes: only an answer that does not wait for it comes.
        let request = ask(node.addr, method, target).header("Content-Length", "1000000");
        let answer = request.send().await;
        is_error(&answer, 405, "UNSUPPORTED");
        assert_eq!(
            answer.header("allow"),
            Some("GET, HEAD"),
            "{method} {target}"
        );
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(origin.count(Ask::any()), 0);
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn an_endpoint_s_path_goes_before_every_repository() {
    let origin = Origin::start().await;
    let mut registries = ["docker.io", "quay.io"]
        .map(|name| registry(name, &[&origin]))
        .to_vec();
    registries[0].endpoints = vec![EndpointConfig::at(format!("{}/hub", origin.url()))];
    let node = Node::with(registries, |_| {});
    let begun = post(&node, UPLOADS).await;
    assert!(
        location(&begun).starts_with(UPLOADS),
        "{}",
        location(&begun)
    );
    let digest = sha256(b"x");
    let to = format!("{}&digest={digest}", location(&begun));
    let made = ask(node.addr, "PUT", &to).body("x").send().await;
    assert_eq!(location(&made), format!("/v2/{REPOSITORY}/blobs/{digest}"));
    assert!(origin.blob("hub/team/app", &digest).is_some());
    let mount = format!("/v2/other/blobs/uploads/?mount={digest}&from=docker.io/{REPOSITORY}");
    assert_eq!(post(&node, &mount).await.status, 201);
    // Another registry's cannot be mounted: that is never asked for.
    let foreign = mount
        .replace("from=docker.io", "from=quay.io")
        .replace("other", "third");
    assert_eq!(post(&node, &foreign).await.status, 202);
    let posts = origin.seen(Ask::uploads().method("POST"));
    assert_eq!(posts.last().unwrap().query, "");
    node.stop().await;
}
