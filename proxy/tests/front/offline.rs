//! Upstream stopped, failing or limiting: what was pulled is pulled again, by a stated policy.

use std::time::Duration;

use http::StatusCode;

use crate::image::Image;
use crate::node::{Node, config};
use crate::origin::Origin;
use crate::pull::pull;

#[tokio::test]
async fn what_was_pulled_is_pulled_again() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 300_000);
    image.push(&origin, "v1");
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.trust.tag = Duration::ZERO;
    config.trust.grant = Duration::ZERO;
    let node = Node::start(config.clone());
    pull(&node, &image, "v1").await;
    origin.stop().await;
    let again = pull(&node, &image, "v1").await;
    let warnings = again[0].headers.get_all("warning").iter();
    let warnings: Vec<&str> = warnings.map(|line| line.to_str().unwrap()).collect();
    assert!(warnings[0].starts_with("110 - "), "{warnings:?}");
    assert!(warnings[1].starts_with("299 - "), "{warnings:?}");
    assert_eq!(again[1].header("warning"), "", "a digest is never stale");
    node.stop().await;

    let node = Node::start(config);
    pull(&node, &image, "v1").await;
    let unknown = node.get("/v2/library/app/manifests/v2").await;
    assert_eq!(unknown.status, StatusCode::BAD_GATEWAY);
    assert_eq!(unknown.code(), "UNAVAILABLE");
    let missing = Image::new("library/app", 77, 10);
    let blob = node.get(&missing.blob_path(&missing.config)).await;
    assert_eq!(blob.status, StatusCode::NOT_FOUND);
    assert_eq!(blob.code(), "BLOB_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn stale_has_a_limit() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 1000);
    image.push(&origin, "v1");
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.trust.tag = Duration::ZERO;
    config.trust.stale_tag = Duration::ZERO;
    let node = Node::start(config);
    pull(&node, &image, "v1").await;
    origin.content().fail = Some(StatusCode::SERVICE_UNAVAILABLE);
    let reply = node.get(&image.manifest_path("v1")).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    node.stop().await;
}

#[tokio::test]
async fn limits_and_failures_are_bridged_refusals_are_not() {
    for (failure, bridged) in [
        (StatusCode::TOO_MANY_REQUESTS, true),
        (StatusCode::INTERNAL_SERVER_ERROR, true),
        (StatusCode::SERVICE_UNAVAILABLE, true),
        (StatusCode::UNAUTHORIZED, false),
        (StatusCode::FORBIDDEN, false),
        (StatusCode::NOT_FOUND, false),
    ] {
        let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
        let image = Image::new("library/app", 1, 1000);
        image.push(&origin, "v1");
        let mut config = config(folder.path(), &[("docker.io", &origin)]);
        config.trust.tag = Duration::ZERO;
        let node = Node::start(config);
        pull(&node, &image, "v1").await;
        origin.content().fail = Some(failure);
        let reply = node.get(&image.manifest_path("v1")).await;
        if bridged {
            assert_eq!(reply.status, StatusCode::OK, "{failure}");
            assert_eq!(reply.body, image.index, "{failure}");
            assert_ne!(reply.header("warning"), "", "{failure}");
        } else {
            assert_eq!(reply.status, failure);
        }
        let unknown = node.get(&image.manifest_path("v2")).await;
        let told = match failure {
            failure if failure.is_server_error() => StatusCode::BAD_GATEWAY,
            failure => failure,
        };
        assert_eq!(unknown.status, told);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_tag_that_is_gone_stays_gone() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 1000);
    image.push(&origin, "v1");
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.trust.tag = Duration::ZERO;
    config.trust.negative = Duration::ZERO;
    let node = Node::start(config);
    pull(&node, &image, "v1").await;
    origin.content().remove("library/app", "v1");
    let path = image.manifest_path("v1");
    assert_eq!(node.get(&path).await.status, StatusCode::NOT_FOUND);
    origin.stop().await;
    assert_eq!(node.get(&path).await.status, StatusCode::BAD_GATEWAY);
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_catalog_costs_questions_and_no_bytes() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 300_000);
    image.push(&origin, "v1");
    let config = config(folder.path(), &[("docker.io", &origin)]);
    let node = Node::start(config.clone());
    pull(&node, &image, "v1").await;
    node.stop().await;
    std::fs::write(folder.path().join("catalog.redb"), "not a catalog").unwrap();
    let node = Node::start(config);
    pull(&node, &image, "v1").await;
    let layer = image.blob_path(&image.layers[0]);
    assert_eq!(origin.count(&http::Method::GET, &layer), 1);
    assert!(folder.path().join("catalog.redb.damaged-0").exists());
    node.stop().await;
}

#[tokio::test]
async fn a_rotten_manifest_is_fetched_again() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 1000);
    image.push(&origin, "v1");
    let config = config(folder.path(), &[("docker.io", &origin)]);
    let node = Node::start(config.clone());
    pull(&node, &image, "v1").await;
    node.stop().await;
    let hex = oci::Digest::sha256(&image.manifest).hex();
    let file = folder
        .path()
        .join("blobs/sha256")
        .join(&hex[..2])
        .join(&hex);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let node = Node::start(config);
    pull(&node, &image, "v1").await;
    node.stop().await;
}

#[tokio::test]
async fn what_the_store_cannot_take_is_passed_through() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.cache_size = 64 << 20;
    let blob = crate::image::noise(1, (64 << 20) + 1000);
    origin.content().blob("library/app", &blob);
    let node = Node::start(config);
    let path = format!("/v2/library/app/blobs/{}", oci::Digest::sha256(&blob));
    for _ in 0..2 {
        let reply = node.get(&path).await;
        assert!(reply.body == blob && !reply.cut);
    }
    node.stop().await;
}
