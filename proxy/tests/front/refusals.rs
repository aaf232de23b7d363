//! What must not work, and how that is said.

use http::{Method, StatusCode};
use oci::Digest;
use proxy::{App, BuildError};

use crate::image::{Image, noise};
use crate::node::{Node, config};
use crate::origin::Origin;

#[tokio::test]
async fn requests_that_name_nothing_we_serve() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.read_only = true;
    let node = Node::start(config);
    for (path, status, code) in [
        ("/v2/a/manifests/x?ns=unknown.example", 404, "NAME_UNKNOWN"),
        ("/v2/a/manifests/x?ns=http://evil", 400, "NAME_INVALID"),
        ("/v2/a/manifests/x?ns=a.io&ns=b.io", 400, "NAME_INVALID"),
        ("/v2/A/manifests/x", 404, "NAME_UNKNOWN"),
        ("/v2/a/blobs/sha256:xyz", 400, "DIGEST_INVALID"),
        ("/v2/_catalog", 404, "UNSUPPORTED"),
    ] {
        let reply = node.get(path).await;
        assert_eq!(reply.header("content-type"), "application/json", "{path}");
        let got = (reply.status.as_u16(), reply.code());
        if path.contains("/A/") {
            assert!(reply.status.is_client_error(), "{path}: {got:?}");
        } else {
            assert_eq!(got, (status, code.to_owned()), "{path}");
        }
    }
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let reply = node.ask(method, "/v2/a/blobs/uploads/", &[]).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(reply.header("allow"), "GET, HEAD");
        assert_eq!(reply.code(), "UNSUPPORTED");
    }
    assert!(origin.asked().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn tampered_content_is_never_whole_and_never_kept() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 400_000);
    image.push(&origin, "v1");
    let layer = &image.layers[0];
    let swap = |bytes: &bytes::Bytes| {
        let wrong = noise(1234, bytes.len());
        origin
            .content()
            .swapped
            .insert(Digest::sha256(bytes), wrong);
    };
    swap(layer);
    swap(&image.manifest);
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.trust.negative = std::time::Duration::ZERO;
    let node = Node::start(config);
    for _ in 0..2 {
        let reply = node.get(&image.blob_path(layer)).await;
        assert!(reply.cut || reply.status == StatusCode::NOT_FOUND);
        assert!(reply.body.len() < layer.len());
        let reply = node.get(&image.digest_path(&image.manifest)).await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    }
    origin.content().swapped.clear();
    assert!(node.get(&image.blob_path(layer)).await.body == layer);
    assert_eq!(
        node.get(&image.digest_path(&image.manifest)).await.body,
        image.manifest
    );
    node.stop().await;
}

#[tokio::test]
async fn answers_that_are_no_manifest() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let page = bytes::Bytes::from_static(b"<html>log in first</html>");
    let json = bytes::Bytes::from_static(b"{\"hello\":1}");
    let large = bytes::Bytes::from(format!(
        "{{\"schemaVersion\":2,\"x\":\"{}\"}}",
        "y".repeat(5 << 20)
    ));
    let index = crate::image::INDEX;
    {
        let mut content = origin.content();
        content.manifest("library/app", "html", "text/html", &page);
        content.manifest("library/app", "typed", index, &page);
        content.manifest("library/app", "json", "application/json", &json);
        content.manifest("library/app", "large", index, &large);
    }
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    for tag in ["html", "typed", "json", "large"] {
        let reply = node.get(&format!("/v2/library/app/manifests/{tag}")).await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{tag}");
        assert_eq!(reply.code(), "UNAVAILABLE", "{tag}");
    }
    let image = Image::new("library/app", 1, 10);
    image.push(&origin, "lie");
    origin.content().digest_lie = Some(Digest::sha256(b"other").to_string());
    let reply = node.get(&image.manifest_path("lie")).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    node.stop().await;
}

#[tokio::test]
async fn a_size_that_the_manifest_does_not_name_is_refused() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 1000);
    image.push(&origin, "v1");
    let layer = &image.layers[0];
    let longer = noise(8, 2000);
    origin
        .content()
        .swapped
        .insert(Digest::sha256(layer), longer);
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    node.get(&image.digest_path(&image.manifest)).await;
    let reply = node.get(&image.blob_path(layer)).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_start_says_why() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let good = config(folder.path(), &[("docker.io", &origin)]);
    let node = Node::start(good.clone());
    let error = App::build(good.clone()).unwrap_err();
    assert!(matches!(error, BuildError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("hint: "), "{error}");

    let mut taken = good.clone();
    taken.listen = vec![node.addr];
    let error = App::build(taken).unwrap_err();
    assert!(matches!(error, BuildError::Listen { .. }), "{error}");
    assert!(
        error.to_string().contains(&node.addr.to_string()),
        "{error}"
    );

    let mut file = good.clone();
    file.data_dir = folder.path().join("catalog.redb").join("below-a-file");
    let error = App::build(file).unwrap_err();
    assert!(matches!(error, BuildError::DataDir { .. }), "{error}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_is_its_own_upstream_says_so() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 10);
    image.push(&origin, "v1");
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let path = image.manifest_path("v1");
    assert_eq!(node.get(&path).await.status, StatusCode::OK);
    let via = origin.asked()[0].headers["via"].clone();
    let headers = [("via", via.to_str().unwrap())];
    let reply = node.ask(Method::GET, &path, &headers).await;
    assert_eq!(reply.status, StatusCode::LOOP_DETECTED);
    let headers = [("via", "1.1 somebody-else")];
    let reply = node.ask(Method::GET, &path, &headers).await;
    assert_eq!(reply.status, StatusCode::OK);
    node.stop().await;
}

#[tokio::test]
async fn a_ping_challenges_only_if_told_to() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    {
        let mut content = origin.content();
        content.fail = Some(StatusCode::UNAUTHORIZED);
        let challenge = "Bearer realm=\"http://127.0.0.1:1/token\",service=\"x\"";
        let line = challenge.parse().unwrap();
        content.headers.insert("www-authenticate", line);
    }
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.challenge_ping = true;
    let node = Node::start(config);
    for _ in 0..2 {
        let reply = node.get("/v2/").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        let challenge = "Bearer realm=\"http://127.0.0.1:1/token\",service=\"x\"";
        assert_eq!(reply.header("www-authenticate"), challenge);
    }
    assert_eq!(origin.asked().len(), 1);
    let headers = [("authorization", "Bearer x")];
    let reply = node.ask(Method::GET, "/v2/", &headers).await;
    assert_eq!(reply.status, StatusCode::OK);
    node.stop().await;
}
