//! Pulls as clients make them: cold, warm, many at once, by `ns` and without.

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use oci::{Algorithm, Digest};

use crate::image::{INDEX, Image, MANIFEST, noise};
use crate::node::{Node, Reply, config};
use crate::origin::Origin;

/// What containerd asks for, in its order. Returns all answers.
pub(crate) async fn pull(node: &Node, image: &Image, tag: &str) -> Vec<Reply> {
    let accept = format!("{INDEX}, {MANIFEST}, */*");
    let headers = [("accept", accept.as_str())];
    let mut replies = Vec::new();
    let tag = image.manifest_path(tag);
    replies.push(node.ask(Method::HEAD, &tag, &headers).await);
    for manifest in [&image.index, &image.manifest] {
        let path = image.digest_path(manifest);
        let reply = node.ask(Method::GET, &path, &headers).await;
        assert_eq!(reply.body, manifest);
        replies.push(reply);
    }
    for blob in image.layers.iter().chain([&image.config]) {
        let reply = node.get(&image.blob_path(blob)).await;
        assert!(
            reply.body == blob,
            "{:?}: {:?}",
            reply.status,
            reply.body.get(..200)
        );
        replies.push(reply);
    }
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == StatusCode::OK && !reply.cut)
    );
    replies
}

#[tokio::test]
async fn ping_is_answered_without_asking() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    for path in ["/v2/", "/v2", "/v2/?ns=docker.io"] {
        let reply = node.get(path).await;
        assert_eq!(
            (reply.status, &reply.body[..]),
            (StatusCode::OK, &b"{}"[..]),
            "{path}"
        );
        assert_eq!(
            reply.header("docker-distribution-api-version"),
            "registry/2.0"
        );
    }
    assert!(origin.asked().is_empty());
    node.stop().await;
}

#[tokio::test]
async fn cold_then_warm() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 300_000);
    image.push(&origin, "v1");
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let cold = pull(&node, &image, "v1").await;
    let asked = origin.asked().len();
    let warm = pull(&node, &image, "v1").await;
    assert_eq!(
        origin.asked().len(),
        asked,
        "a warm pull within the TTL asks nothing"
    );
    for (cold, warm) in cold.iter().zip(&warm) {
        let strip = |reply: &Reply| {
            let mut headers = reply.headers.clone();
            headers.remove("date");
            // Says which of the two it was.
            headers.remove("darner-source");
            headers
        };
        assert_eq!(strip(cold), strip(warm));
    }
    let tag = &cold[0];
    assert_eq!(tag.header("content-type"), INDEX);
    assert_eq!(tag.header("content-length"), image.index.len().to_string());
    let digest = Digest::sha256(&image.index).to_string();
    assert_eq!(tag.header("docker-content-digest"), digest);
    let layer = &cold[3];
    assert_eq!(layer.header("content-type"), "application/octet-stream");
    assert_eq!(layer.header("accept-ranges"), "bytes");
    assert_eq!(layer.header("content-encoding"), "");
    let blob = image.blob_path(&image.layers[0]);
    assert_eq!(origin.count(&Method::GET, &blob), 1);
    assert_eq!(origin.count(&Method::HEAD, &blob), 0);
    node.stop().await;
}

#[tokio::test]
async fn many_cold_readers_cost_one_get() {
    for readers in [8, 64] {
        let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
        let image = Image::new("library/app", 7, 3_000_000);
        image.push(&origin, "v1");
        let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
        let blob = image.blob_path(&image.layers[0]);
        let replies = (0..readers).map(|_| node.get(&blob));
        for reply in futures_util::future::join_all(replies).await {
            assert!(reply.body == image.layers[0]);
        }
        assert_eq!(origin.count(&Method::GET, &blob), 1, "{readers} readers");
        assert_eq!(origin.count(&Method::HEAD, &blob), 0, "{readers} readers");
        let manifest = image.digest_path(&image.manifest);
        let replies = (0..readers).map(|_| node.get(&manifest));
        for reply in futures_util::future::join_all(replies).await {
            assert_eq!(reply.body, image.manifest);
        }
        assert_eq!(
            origin.count(&Method::GET, &manifest),
            1,
            "{readers} readers"
        );
        node.stop().await;
    }
}

#[tokio::test]
async fn bytes_leave_before_the_blob_is_whole() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 3, 2_000_000);
    image.push(&origin, "v1");
    let layer = &image.layers[0];
    origin
        .content()
        .held_at
        .insert(Digest::sha256(layer), 1_000_000);
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let response = node.open(&image.blob_path(layer), &[]).await;
    assert_eq!(response.headers()["content-length"], "2000000");
    let mut body = response.into_body();
    let mut got = Vec::new();
    while got.len() < 1_000_000 {
        got.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
    origin.open_gate();
    got.extend_from_slice(&body.collect().await.unwrap().to_bytes());
    assert!(got == *layer);
    node.stop().await;
}

#[tokio::test]
async fn registries_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, quay) = (Origin::start().await, Origin::start().await);
    let (ours, theirs) = (
        Image::new("org/app", 1, 1000),
        Image::new("org/app", 50, 1000),
    );
    ours.push(&hub, "v1");
    theirs.push(&quay, "v1");
    let registries = [("docker.io", &hub), ("quay.io", &quay)];
    let node = Node::start(config(folder.path(), &registries));
    let plain = node.get("/v2/org/app/manifests/v1").await;
    assert_eq!(plain.body, ours.index);
    assert_eq!(plain.header("oci-namespace"), "");
    let by_ns = node.get("/v2/org/app/manifests/v1?ns=quay.io").await;
    assert_eq!(by_ns.body, theirs.index);
    assert_eq!(by_ns.header("oci-namespace"), "quay.io");
    for path in [
        "/v2/quay.io/org/app/manifests/v1",
        "/quay.io/v2/org/app/manifests/v1",
    ] {
        assert_eq!(node.get(path).await.body, theirs.index, "{path}");
    }
    let hub_by_ns = node
        .get("/v2/org/app/manifests/v1?ns=index.docker.io")
        .await;
    assert_eq!(hub_by_ns.body, ours.index);
    assert!(
        quay.asked()
            .iter()
            .all(|asked| !asked.query.contains("ns="))
    );
    // A blob of one registry is not found under the other's name, held or not.
    let path = ours.blob_path(&ours.layers[0]);
    assert_eq!(node.get(&path).await.status, StatusCode::OK);
    let other = node.get(&format!("{path}?ns=quay.io")).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    assert_eq!(other.code(), "BLOB_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn a_tag_is_asked_again_after_its_time_by_head_only() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 1000);
    image.push(&origin, "v1");
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.trust.tag = std::time::Duration::ZERO;
    let node = Node::start(config);
    let path = image.manifest_path("v1");
    assert_eq!(node.get(&path).await.body, image.index);
    assert_eq!(node.get(&path).await.body, image.index);
    assert_eq!(origin.count(&Method::GET, &path), 1);
    assert_eq!(origin.count(&Method::HEAD, &path), 1);
    let moved = Image::new("library/app", 90, 1000);
    moved.push(&origin, "v1");
    assert_eq!(node.get(&path).await.body, moved.index);
    node.stop().await;
}

#[tokio::test]
async fn sha512_is_served_and_labelled() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let blob = noise(5, 200_000);
    let digest = Digest::of(Algorithm::Sha512, &blob);
    origin.content().blob_as("library/app", digest, &blob);
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let path = format!("/v2/library/app/blobs/{digest}");
    for _ in 0..2 {
        let reply = node.get(&path).await;
        assert!(reply.body == blob);
        assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    }
    assert_eq!(origin.count(&Method::GET, &path), 1);
    node.stop().await;
}

#[tokio::test]
async fn head_of_a_cold_blob_fetches_nothing() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 123_456);
    image.push(&origin, "v1");
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let path = image.blob_path(&image.layers[0]);
    let reply = node.head(&path).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("content-length"), "123456");
    assert_eq!(origin.count(&Method::GET, &path), 0);
    origin
        .content()
        .no_blob_head
        .insert("library/app".to_owned());
    let reply = node.head(&image.blob_path(&image.layers[1])).await;
    assert_eq!(reply.header("content-length"), "1000");
    node.stop().await;
}

#[tokio::test]
async fn lists_are_relayed_and_lead_back() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let node = Node::start(config(folder.path(), &[("quay.io", &origin)]));
    let reply = node
        .get("/v2/org/app/tags/list?n=2&ns=quay.io&last=a")
        .await;
    // Upstream heeds `last` not; it is done here.
    assert_eq!(&reply.body[..], b"{\"name\":\"org/app\",\"tags\":[\"b\"]}");
    let link = "</v2/org/app/tags/list?last=b&n=2&ns=quay.io>; rel=\"next\"";
    assert_eq!(reply.header("link"), link);
    let asked = &origin.asked()[0];
    assert_eq!(asked.query, "n=2&last=a");
    let digest = Digest::sha256(b"");
    let reply = node
        .get(&format!("/v2/org/app/referrers/{digest}?ns=quay.io"))
        .await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.code(), "MANIFEST_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn the_admin_port_says_what_happened() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 300_000);
    image.push(&origin, "v1");
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    pull(&node, &image, "v1").await;
    pull(&node, &image, "v1").await;
    assert_eq!(node.ask_admin("/readyz").await.status, StatusCode::OK);
    let status = node.ask_admin("/status").await;
    let status: proxy::admin::Status = serde_json::from_slice(&status.body).unwrap();
    let blobs: u64 = image
        .layers
        .iter()
        .chain([&image.config])
        .map(|blob| blob.len() as u64)
        .sum();
    assert_eq!(status.counts.sent_bytes.upstream, blobs);
    assert_eq!(status.counts.sent_bytes.store, blobs);
    assert_eq!(status.counts.fetched_bytes.upstream, blobs);
    assert_eq!(status.counts.hit_ratio, Some(0.5));
    assert_eq!(status.about.listen, [node.addr]);
    node.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_a_body_end() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 3, 2_000_000);
    image.push(&origin, "v1");
    let layer = &image.layers[0];
    let held = (Digest::sha256(layer), 1_000_000);
    origin.content().held_at.extend([held]);
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let (addr, response) = (node.addr, node.open(&image.blob_path(layer), &[]).await);
    let stopped = tokio::spawn(node.stop());
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    origin.open_gate();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body == *layer);
    stopped.await.unwrap();
}
