//! Manifests and lists from bad registries: the truth, quickly, and never bytes that do not fit.

use std::time::Duration;

use oci_conformance::origin::{Reply, content, nobody, sha256};
use oci_conformance::raw::{self, Ending};
use oci_conformance::{Ask, Fault, Gate, Origin};
use serde_json::json;

use crate::rig::{Node, REPOSITORY, is_error, manifest_path, registry};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[tokio::test]
async fn failures_are_told_as_they_are() {
    let origin = Origin::start().await;
    let image = origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.trust.tag = Duration::ZERO;
    });
    for (fault, status, code) in [
        (Fault::Status(404), 404, "MANIFEST_UNKNOWN"),
        (Fault::Status(401), 401, "UNAUTHORIZED"),
        (Fault::Status(403), 403, "DENIED"),
        (Fault::Status(500), 502, "UNAVAILABLE"),
        (Fault::Status(503), 502, "UNAVAILABLE"),
        (Fault::Html, 502, "UNAVAILABLE"),
        (Fault::Gzip, 502, "UNAVAILABLE"),
        (Fault::HangUp, 502, "UNAVAILABLE"),
        (Fault::Reset, 502, "UNAVAILABLE"),
        (Fault::CutFin(10), 502, "UNAVAILABLE"),
        (Fault::CutRst(10), 502, "UNAVAILABLE"),
        (
            Fault::Redirect("http://127.0.0.1:1/x".to_owned()),
            502,
            "UNAVAILABLE",
        ),
        (Fault::Redirect("/v2/".to_owned()), 502, "UNAVAILABLE"),
        (Fault::Redirect(":::".to_owned()), 502, "UNAVAILABLE"),
        (Fault::Reply(Reply::new(302)), 502, "UNAVAILABLE"),
    ] {
        origin.behave();
        origin.when(Ask::manifests()).answer(fault.clone());
        for reference in ["1", &image.manifest] {
            println!("{fault:?} {reference}");
            is_error(&node.get(&manifest_path(reference)).await, status, code);
            let head = node.head(&manifest_path(reference)).await;
            assert!(
                !matches!(head.status, 200..400) || !hits_body(&fault),
                "HEAD {}",
                head.status
            );
            assert_eq!(head.body.len(), 0);
        }
    }
    origin.behave();
    assert_eq!(node.get(&manifest_path("1")).await.status, 200);
    node.stop().await;
}

/// Whether the fault shows in a body only, so that a HEAD may succeed.
fn hits_body(fault: &Fault) -> bool {
    !matches!(fault, Fault::CutFin(_) | Fault::CutRst(_))
}

#[tokio::test]
async fn nobody_listens() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    origin.stop().await;
    is_error(&node.get(&manifest_path("1")).await, 502, "UNAVAILABLE");
    is_error(
        &node.get(&format!("/v2/{REPOSITORY}/tags/list")).await,
        502,
        "UNAVAILABLE",
    );
    assert_eq!(node.get("/v2/").await.status, 200);
    let address = nobody().await;
    assert_eq!(
        node.get(&manifest_path(&format!("1?ns={address}")))
            .await
            .status,
        400
    );
    node.stop().await;
}

#[tokio::test]
async fn too_many_requests_with_and_without_retry_after() {
    for after in [Some("9".to_owned()), None] {
        let origin = Origin::start().await;
        origin.push_image(REPOSITORY, "1", &[b"layer"]);
        origin
            .when(Ask::manifests())
            .answer(Fault::TooMany(after.clone()));
        let node = Node::of(&origin);
        let answer = node.get(&manifest_path("1")).await;
        is_error(&answer, 429, "TOOMANYREQUESTS");
        if after.is_some() {
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=9).contains(&seconds));
            let before = origin.count(Ask::any());
            is_error(&node.get(&manifest_path("1")).await, 429, "TOOMANYREQUESTS");
            assert_eq!(origin.count(Ask::any()), before, "the time is not over");
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn content_that_does_not_fit_its_digest() {
    let origin = Origin::start().await;
    let image = origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let by_digest = manifest_path(&image.manifest);
    for fault in [
        Fault::WrongByteAt(3),
        Fault::ShortBody(1),
        Fault::LongBody(1),
    ] {
        println!("{fault:?}");
        let node = Node::of(&origin);
        origin.when(Ask::manifests()).answer(fault);
        is_error(&node.get(&by_digest).await, 502, "UNAVAILABLE");
        is_error(&node.get(&manifest_path("1")).await, 502, "UNAVAILABLE");
        origin.behave();
        let answer = node.get(&by_digest).await;
        assert_eq!(
            (answer.status, sha256(&answer.body)),
            (200, image.manifest.clone())
        );
        node.stop().await;
    }
    let node = Node::of(&origin);
    origin
        .when(Ask::manifests())
        .answer(Fault::Digest(sha256(b"another")));
    is_error(&node.get(&by_digest).await, 502, "UNAVAILABLE");
    is_error(&node.get(&manifest_path("1")).await, 502, "UNAVAILABLE");
    node.stop().await;
}

#[tokio::test]
async fn what_upstream_does_not_say_is_said_here() {
    for faults in [
        vec![Fault::NoDigest],
        vec![Fault::Chunked],
        vec![Fault::NoDigest, Fault::CloseDelimited],
    ] {
        println!("{faults:?}");
        let origin = Origin::start().await;
        let image = origin.push_image(REPOSITORY, "1", &[b"layer"]);
        origin.when(Ask::manifests()).answer_all(faults);
        let node = Node::of(&origin);
        for reference in ["1", &image.manifest] {
            for _ in 0..2 {
                let head = node.head(&manifest_path(reference)).await;
                let answer = node.get(&manifest_path(reference)).await;
                let length = answer.body.len().to_string();
                for answer in [&head, &answer] {
                    assert_eq!(answer.status, 200);
                    assert_eq!(
                        answer.header("docker-content-digest"),
                        Some(&*image.manifest)
                    );
                    assert_eq!(answer.header("content-length"), Some(&*length));
                    assert_eq!(answer.header("content-type"), Some(OCI_MANIFEST));
                }
            }
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_taken_in() {
    let large = content(1, 5 << 20);
    let huge = content(1, 64 << 20);
    for (bytes, faults) in [
        (&large, vec![]),
        (&large, vec![Fault::Chunked]),
        (&huge, vec![Fault::Chunked]),
    ] {
        let origin = Origin::start().await;
        let digest = origin.push_manifest(REPOSITORY, Some("1"), OCI_MANIFEST, bytes.clone());
        origin.when(Ask::manifests()).answer_all(faults.clone());
        let page = Reply::new(200)
            .header("Content-Type", "application/json")
            .body(huge.clone());
        let page = [Fault::Reply(page), Fault::Chunked];
        origin
            .when(Ask::path(&format!("/v2/{REPOSITORY}/tags/list")))
            .answer_all(page);
        let node = Node::of(&origin);
        for reference in ["1", &digest] {
            let answer = node.get(&manifest_path(reference)).await;
            is_error(&answer, 502, "UNAVAILABLE");
        }
        is_error(
            &node.get(&format!("/v2/{REPOSITORY}/tags/list")).await,
            502,
            "UNAVAILABLE",
        );
        let taken = origin.body_bytes(Ask::any());
        assert!(taken < 60 << 20, "{taken} bytes left the registry");
        node.stop().await;
    }
}

#[tokio::test]
async fn nearly_four_mebibytes_and_odd_bytes_pass_unchanged() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let padding = "x".repeat(3_900_000);
    for (tag, body) in [
        (
            "wide",
            format!(
                "{{ \"schemaVersion\" : 2,\r\n\t\"annotations\":{{\"a\":\"{padding}\"}},\"layers\":[]}} \n"
            ),
        ),
        (
            "odd",
            format!(
                "{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\",\"new\":[1.50],\"layers\":[],\"data\":\"e30=\"}}"
            ),
        ),
    ] {
        let digest = origin.push_manifest(REPOSITORY, Some(tag), OCI_MANIFEST, body.clone());
        for reference in [&*digest, tag] {
            let answer = node.get(&manifest_path(reference)).await;
            assert_eq!(
                (answer.status, answer.text() == body),
                (200, true),
                "{reference}"
            );
        }
        let node_head = node.head(&manifest_path(&digest)).await;
        assert_eq!(
            node_head.header("content-length"),
            Some(&*body.len().to_string())
        );
    }
    node.stop().await;
}

/// distribution GHSA-qq97-vm5h-rrhg: a document with two readings teaches nothing about rights.
#[tokio::test]
async fn an_ambiguous_manifest_is_not_read() {
    let origin = Origin::start().await;
    let layer = content(1, 1000);
    let hidden = origin.push_blob("other/place", layer.clone());
    let entry = json!({"mediaType": "x/y", "digest": hidden, "size": layer.len()});
    let both = json!({"mediaType": OCI_MANIFEST, "layers": [entry], "manifests": []}).to_string();
    let digest = origin.push_manifest(REPOSITORY, Some("both"), OCI_MANIFEST, both.clone());
    let node = Node::of(&origin);
    // Now the node holds the blob, from where it lives.
    assert_eq!(
        node.get(&format!("/v2/other/place/blobs/{hidden}"))
            .await
            .body,
        layer
    );
    let answer = node.get(&manifest_path(&digest)).await;
    assert!(
        answer.status == 502 || answer.text() == both,
        "{}",
        answer.status
    );
    let through = node.get(&format!("/v2/{REPOSITORY}/blobs/{hidden}")).await;
    is_error(&through, 404, "BLOB_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn a_registry_that_never_answers_is_given_up() {
    let origin = Origin::start().await;
    let image = origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.limits.head = Duration::from_secs(3);
        config.limits.revalidation = Duration::from_millis(500);
        config.trust.tag = Duration::ZERO;
    });
    let path = manifest_path("1");
    origin
        .when(Ask::manifests())
        .once()
        .answer(Fault::HoldHead(Gate::closed()));
    is_error(&node.get(&path).await, 504, "UNAVAILABLE");
    let first = node.get(&path).await;
    assert_eq!(
        first.header("docker-content-digest"),
        Some(&*image.manifest)
    );
    origin
        .when(Ask::manifests())
        .answer(Fault::HoldHead(Gate::closed()));
    let stale = node.get(&path).await;
    assert_eq!((stale.status, stale.body == first.body), (200, true));
    let warning = stale.header("warning").unwrap();
    assert!(
        warning.starts_with("110") || warning.starts_with("299"),
        "{warning}"
    );
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_only_docker_types_changes_nothing_for_others() {
    let origin = Origin::start().await;
    let image = origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let docker_only = |seen: &oci_conformance::Seen| {
        let accept = seen.header("accept").unwrap_or_default();
        !accept.contains("oci") && !accept.contains("*/*")
    };
    origin
        .when(Ask::manifests().and(docker_only))
        .answer(Fault::Status(404));
    let node = Node::of(&origin);
    let get = async |accept: &str| {
        let request = raw::get(node.addr, &manifest_path("1")).header("Accept", accept);
        request.send().await
    };
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    is_error(&get(docker).await, 404, "MANIFEST_UNKNOWN");
    for accept in [
        OCI_MANIFEST,
        &format!("{docker}, {OCI_MANIFEST};q=0.5"),
        "*/*",
    ] {
        let answer = get(accept).await;
        assert_eq!(answer.status, 200, "{accept}");
        assert_eq!(
            answer.header("docker-content-digest"),
            Some(&*image.manifest)
        );
    }
    assert_ne!(get(docker).await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn lists_from_bad_registries() {
    let origin = Origin::start().await;
    let image = origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let node = Node::of(&origin);
    let tags = format!("/v2/{REPOSITORY}/tags/list");
    let referrers = format!("/v2/{REPOSITORY}/referrers/{}", image.manifest);
    for target in [&tags, &referrers] {
        for (fault, status) in [
            (Fault::Status(404), 404),
            (Fault::Status(500), 502),
            (Fault::Html, 502),
            (Fault::Gzip, 502),
            (Fault::HangUp, 502),
        ] {
            println!("{target} {fault:?}");
            origin.behave();
            origin.when(Ask::any()).answer(fault);
            let answer = node.get(target).await;
            assert_eq!((answer.status, answer.ending), (status, Ending::Complete));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert!(!answer.code().is_empty());
        }
        origin.behave();
        assert_eq!(node.get(target).await.status, 200, "{target}");
    }
    origin.when(Ask::any()).answer(Fault::TooMany(None));
    is_error(&node.get(&tags).await, 429, "TOOMANYREQUESTS");
    node.stop().await;
}
