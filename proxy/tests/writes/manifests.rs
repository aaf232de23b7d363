//! Manifests put and deleted, and what the node believes after it.

use std::time::Duration;

use oci_conformance::origin::{content, sha256};
use oci_conformance::{Ask, Fault, Gate, Origin};

use crate::client::{UPLOADS, ask, delete, location, manifest, push_blob, put_manifest};
use crate::rig::{Blob, Node, REPOSITORY, is_error, manifest_path, registry};

/// A node that believes everything for long, so that only a write can have changed its mind.
fn believing(origin: &Origin) -> Node {
    Node::with(vec![registry("docker.io", &[origin])], |config| {
        config.trust.tag = Duration::from_secs(3600);
        config.trust.negative = Duration::from_secs(3600);
        config.trust.grant = Duration::from_secs(3600);
    })
}

/// Two manifests over one config that the registry has.
fn two(origin: &Origin) -> [(String, String); 2] {
    let config = origin.push_blob(REPOSITORY, "{}");
    ["one", "two"].map(|word| {
        let bytes = manifest(&config, 2, word);
        (sha256(bytes.as_bytes()), bytes)
    })
}

#[tokio::test]
async fn a_push_is_seen_at_once_under_every_tag() {
    let origin = Origin::start().await;
    let node = believing(&origin);
    let [(first, one), (second, two)] = two(&origin);
    let tags = ["a", "b", "c"];
    for tag in tags {
        is_error(
            &node.get(&manifest_path(tag)).await,
            404,
            "MANIFEST_UNKNOWN",
        );
    }
    let made = put_manifest(&node, &manifest_path("a"), &one).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.header("docker-content-digest"), Some(&*first));
    assert_eq!(location(&made), manifest_path(&first));
    assert_eq!(node.get(&location(&made)).await.body, one.as_bytes());
    assert_eq!(node.get(&manifest_path("a")).await.body, one.as_bytes());
    is_error(
        &node.get(&manifest_path("b")).await,
        404,
        "MANIFEST_UNKNOWN",
    );

    let query = "?tag=a&tag=b&t%61g=c";
    let target = format!("{}{query}", manifest_path(&second));
    let made = put_manifest(&node, &target, &two).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let told = made.headers.iter().filter(|(name, _)| name == "oci-tag");
    assert_eq!(told.map(|(_, tag)| &**tag).collect::<Vec<_>>(), tags);
    for tag in tags {
        let head = node.head(&manifest_path(tag)).await;
        assert_eq!(
            head.header("docker-content-digest"),
            Some(&*second),
            "{tag}"
        );
        assert_eq!(
            node.get(&manifest_path(tag)).await.body,
            two.as_bytes(),
            "{tag}"
        );
    }
    let sent = &origin.seen(Ask::manifest(&second).method("PUT"))[0];
    assert_eq!(format!("?{}", sent.query), query);
    assert_eq!(&sent.body[..], two.as_bytes());
    node.stop().await;
}

#[tokio::test]
async fn a_question_asked_before_a_push_is_not_the_answer_after_it() {
    let origin = Origin::start().await;
    let node = believing(&origin);
    let [(_, one), (second, two)] = two(&origin);
    assert_eq!(
        put_manifest(&node, &manifest_path("a"), &one).await.status,
        201
    );
    // Upstream answers the old meaning, and its answer is under way while the tag moves.
    let gate = Gate::closed();
    let asks = Ask::manifest("a").and(|seen| seen.method != "PUT");
    origin
        .when(asks)
        .once()
        .answer(Fault::HoldHead(gate.clone()));
    let (addr, path) = (node.addr, manifest_path("a"));
    let early = tokio::spawn(async move { ask(addr, "GET", &path).send().await });
    origin.wait_for(2, Ask::manifest("a")).await;
    assert_eq!(
        put_manifest(&node, &manifest_path("a"), &two).await.status,
        201
    );
    let late = node.get(&manifest_path("a")).await;
    assert_eq!(late.header("docker-content-digest"), Some(&*second));
    gate.open();
    assert_eq!(early.await.unwrap().body, one.as_bytes());
    for _ in 0..2 {
        assert_eq!(node.get(&manifest_path("a")).await.body, two.as_bytes());
    }
    // Nor is the old meaning served when nobody can be asked.
    origin.stop().await;
    assert_eq!(node.get(&manifest_path("a")).await.body, two.as_bytes());
    node.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_gone_at_once_and_elsewhere_it_stays() {
    let origin = Origin::start().await;
    let node = believing(&origin);
    let [(digest, bytes), _] = two(&origin);
    for tag in ["a", "b"] {
        assert_eq!(
            put_manifest(&node, &manifest_path(tag), &bytes)
                .await
                .status,
            201
        );
        assert_eq!(node.get(&manifest_path(tag)).await.status, 200);
    }
    assert_eq!(node.get(&manifest_path(&digest)).await.status, 200);
    assert_eq!(delete(&node, &manifest_path("a")).await.status, 202);
    is_error(
        &node.get(&manifest_path("a")).await,
        404,
        "MANIFEST_UNKNOWN",
    );
    assert_eq!(node.get(&manifest_path("b")).await.status, 200);
    assert_eq!(delete(&node, &manifest_path(&digest)).await.status, 202);
    for reference in ["b", &digest] {
        is_error(
            &node.get(&manifest_path(reference)).await,
            404,
            "MANIFEST_UNKNOWN",
        );
    }

    let blob = Blob::new(&origin, 5, 5000);
    let other = format!("/v2/other/app/blobs/{}", blob.digest);
    origin.push_blob("other/app", blob.bytes.clone());
    for path in [&blob.path, &other] {
        blob.is_whole(&node.get(path).await);
    }
    assert_eq!(delete(&node, &blob.path).await.status, 202);
    for _ in 0..2 {
        is_error(&node.get(&blob.path).await, 404, "BLOB_UNKNOWN");
        assert_eq!(node.head(&blob.path).await.status, 404);
    }
    origin.forget_requests();
    blob.is_whole(&node.get(&other).await);
    assert_eq!(
        origin.count(Ask::any()),
        0,
        "held, and believed for the other place"
    );
    is_error(&delete(&node, &blob.path).await, 404, "BLOB_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_not_served_when_upstream_is_gone() {
    let origin = Origin::start().await;
    let node = believing(&origin);
    let [(digest, bytes), _] = two(&origin);
    assert_eq!(
        put_manifest(&node, &manifest_path("a"), &bytes)
            .await
            .status,
        201
    );
    let blob = Blob::new(&origin, 6, 5000);
    blob.is_whole(&node.get(&blob.path).await);
    assert_eq!(node.get(&manifest_path("a")).await.status, 200);
    assert_eq!(delete(&node, &manifest_path(&digest)).await.status, 202);
    assert_eq!(delete(&node, &blob.path).await.status, 202);
    origin.stop().await;
    for path in [&manifest_path("a"), &manifest_path(&digest), &blob.path] {
        assert_ne!(node.get(path).await.status, 200, "{path}");
    }
    // Nor after a restart.
    let node = node.restart().await;
    for path in [&manifest_path("a"), &manifest_path(&digest), &blob.path] {
        assert_ne!(node.get(path).await.status, 200, "{path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_upstream_does_not_delete_stays() {
    let origin = Origin::start().await;
    let node = believing(&origin);
    let blob = Blob::new(&origin, 7, 5000);
    blob.is_whole(&node.get(&blob.path).await);
    origin.habits(|habits| habits.deletes = false);
    origin.forget_requests();
    let refused = delete(&node, &blob.path).await;
    is_error(&refused, 405, "UNSUPPORTED");
    blob.is_whole(&node.get(&blob.path).await);
    assert_eq!(origin.count(Ask::blobs().get()), 0);
    assert_eq!(origin.count(Ask::blobs().head()), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_delete_whose_answer_is_lost_counts() {
    let origin = Origin::start().await;
    let node = believing(&origin);
    let blob = Blob::new(&origin, 8, 5000);
    blob.is_whole(&node.get(&blob.path).await);
    // Upstream does it, and the connection breaks before its answer.
    origin
        .when(Ask::blobs().method("DELETE"))
        .answer(Fault::HangUp);
    is_error(&delete(&node, &blob.path).await, 502, "UNAVAILABLE");
    is_error(&node.get(&blob.path).await, 404, "BLOB_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn sizes_up_to_the_limit_and_beyond() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let config = origin.push_blob(REPOSITORY, "{}");
    let empty = manifest(&config, 2, "").len();
    let whole = manifest(&config, 2, &"x".repeat((4 << 20) - empty));
    assert_eq!(whole.len(), 4 << 20);
    let made = put_manifest(&node, &manifest_path("large"), &whole).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(
        node.get(&manifest_path("large")).await.body,
        whole.as_bytes()
    );
    origin.forget_requests();
    let larger = format!("{whole} ");
    let announced = ask(node.addr, "PUT", &manifest_path("x"));
    let announced = announced.header("Content-Length", &larger.len().to_string());
    is_error(&announced.send().await, 413, "SIZE_INVALID");
    assert_eq!(origin.count(Ask::any()), 0, "refused before its first byte");
    let streamed = ask(node.addr, "PUT", &manifest_path("x")).chunks([larger.as_bytes()]);
    is_error(&streamed.send().await, 413, "SIZE_INVALID");
    assert_eq!(origin.resolve(REPOSITORY, "x"), None);
    node.stop().await;
}

#[tokio::test]
async fn an_image_with_a_subject_is_pushed_and_found() {
    let origin = Origin::start().await;
    let node = believing(&origin);
    let layer = content(9, 100_000);
    assert_eq!(push_blob(&node, UPLOADS, &layer).await.status, 201);
    let [(subject, bytes), _] = two(&origin);
    let signature = bytes.replacen(
        "\"layers\":[]",
        &format!("\"layers\":[],\"subject\":{{\"mediaType\":\"x/y\",\"digest\":\"{subject}\",\"size\":1}}"),
        1,
    );
    assert_ne!(signature, bytes);
    let list = format!("/v2/{REPOSITORY}/referrers/{subject}");
    assert_eq!(node.get(&list).await.status, 200);
    let digest = sha256(signature.as_bytes());
    let made = put_manifest(&node, &manifest_path(&digest), &signature).await;
    assert_eq!(made.header("oci-subject"), Some(&*subject));
    assert!(node.get(&list).await.text().contains(&digest));
    node.stop().await;
}
