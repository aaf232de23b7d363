//! Each way of uploading a blob.

use oci_conformance::origin::{content, sha256, sha512};
use oci_conformance::{Ask, Fault, Origin};

use crate::client::{UPLOADS, and, ask, delete, location, post, push_blob};
use crate::rig::{Blob, Node, REPOSITORY, is_error, registry};

#[tokio::test]
async fn a_blob_by_post_and_put_and_by_one_post() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let bytes = content(1, 3_000_000);
    let digest = sha256(&bytes);
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    // A refusal that the upload makes untrue, where refusals are believed for long.
    assert_eq!(node.get(&path).await.status, 404);
    let pushed = push_blob(&node, UPLOADS, &bytes).await;
    assert_eq!((pushed.status, location(&pushed)), (201, path.clone()));
    assert_eq!(pushed.header("docker-content-digest"), Some(&*digest));
    assert_eq!(origin.blob(REPOSITORY, &digest).unwrap(), bytes);
    assert_eq!(node.get(&path).await.body, bytes);

    for (digest, chunked) in [(sha256(&bytes[1..]), true), (sha512(&bytes[1..]), false)] {
        let target = format!("{UPLOADS}?digest={digest}");
        let request = ask(node.addr, "POST", &target);
        let request = match chunked {
            true => request.chunks([&bytes[1..70_000], &bytes[70_000..]]),
            false => request.body(&bytes[1..]),
        };
        let made = request.send().await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(location(&made), format!("/v2/{REPOSITORY}/blobs/{digest}"));
        assert_eq!(origin.blob(REPOSITORY, &digest).unwrap(), bytes[1..]);
    }
    assert_eq!(origin.uploads(), 0);
    node.stop().await;
}

#[tokio::test]
async fn earlier_refusals_are_forgotten() {
    let origin = Origin::start().await;
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.trust.negative = std::time::Duration::from_secs(3600);
    });
    let digest = sha256(b"a layer");
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    for _ in 0..2 {
        assert_eq!(node.get(&path).await.status, 404);
    }
    assert_eq!(origin.count(Ask::blob(&digest)), 1, "believed");
    assert_eq!(push_blob(&node, UPLOADS, b"a layer").await.status, 201);
    assert_eq!(node.get(&path).await.body, b"a layer");
    node.stop().await;
}

#[tokio::test]
async fn chunks_and_what_upstream_says_of_them() {
    let origin = Origin::start().await;
    origin.habits(|habits| habits.chunk_min = Some(1000));
    let node = Node::of(&origin);
    let bytes = content(2, 3000);
    let begun = post(&node, &format!("{UPLOADS}?digest-algorithm=sha256")).await;
    assert_eq!(begun.header("oci-chunk-min-length"), Some("1000"));
    assert_eq!(begun.header("docker-upload-uuid"), Some("upload-1"));
    let seen = &origin.seen(Ask::uploads())[0];
    assert_eq!(
        (&*seen.query, seen.header("content-length")),
        ("digest-algorithm=sha256", Some("0"))
    );
    let mut to = location(&begun);
    assert!(to.starts_with(UPLOADS) && to.contains("?_state="), "{to}");
    let chunk = async |to: &str, range: &str, part: &[u8]| {
        let request = ask(node.addr, "PATCH", to).header("Content-Range", range);
        request.body(part).send().await
    };
    let first = chunk(&to, "0-999", &bytes[..1000]).await;
    assert_eq!((first.status, first.header("range")), (202, Some("0-999")));
    to = location(&first);
    let early = chunk(&to, "2000-2999", &bytes[2000..]).await;
    is_error(&early, 416, "BLOB_UPLOAD_INVALID");
    assert_eq!(early.header("range"), Some("0-999"));
    to = location(&early);
    let status = ask(node.addr, "GET", &to).send().await;
    assert_eq!(
        (status.status, status.header("range")),
        (204, Some("0-999"))
    );
    to = location(&status);
    // A stream: no range, no length.
    let streamed = ask(node.addr, "PATCH", &to).chunks([&bytes[1000..1500], &bytes[1500..2000]]);
    let streamed = streamed.send().await;
    assert_eq!(
        (streamed.status, streamed.header("range")),
        (202, Some("0-1999"))
    );
    let digest = sha256(&bytes);
    let end = and(&location(&streamed), &format!("digest={digest}"));
    let last = ask(node.addr, "PUT", &end).header("Content-Range", "2000-2999");
    let last = last.body(&bytes[2000..]).send().await;
    assert_eq!(last.status, 201, "{}", last.text());
    assert_eq!(origin.blob(REPOSITORY, &digest).unwrap(), bytes);
    node.stop().await;
}

#[tokio::test]
async fn wrong_digests_and_cancelled_uploads() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let wrong = format!("digest={}", sha256(b"else"));
    let one = ask(node.addr, "POST", &format!("{UPLOADS}?{wrong}"))
        .body("bytes")
        .send()
        .await;
    is_error(&one, 400, "DIGEST_INVALID");
    let to = location(&post(&node, UPLOADS).await);
    let put = ask(node.addr, "PUT", &and(&to, &wrong))
        .body("bytes")
        .send()
        .await;
    is_error(&put, 400, "DIGEST_INVALID");
    let to = location(&post(&node, UPLOADS).await);
    assert_eq!(delete(&node, &to).await.status, 204);
    is_error(&delete(&node, &to).await, 404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(origin.uploads(), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_mount_is_upstream_s_to_grant() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let blob = Blob::new(&origin, 3, 5000);
    blob.is_whole(&node.get(&blob.path).await);
    let mount = format!("/v2/other/app/blobs/uploads/?mount={}", blob.digest);
    let from = format!("{mount}&from={REPOSITORY}");
    // Held here, but upstream mounts nothing.
    origin.habits(|habits| habits.mounts = false);
    let refused = post(&node, &from).await;
    assert_eq!(refused.status, 202);
    assert_eq!(
        node.get(&format!("/v2/other/app/blobs/{}", blob.digest))
            .await
            .status,
        404
    );
    origin.habits(|habits| habits.mounts = true);
    let mounted = post(&node, &from).await;
    assert_eq!(mounted.status, 201);
    assert_eq!(
        location(&mounted),
        format!("/v2/other/app/blobs/{}", blob.digest)
    );
    assert_eq!(node.get(&location(&mounted)).await.body, blob.bytes);
    assert_eq!(
        post(&node, &mount.replace("other/app", "third"))
            .await
            .status,
        201
    );
    let missing = from.replace(&format!("from={REPOSITORY}"), "from=no/where");
    assert_eq!(
        post(&node, &missing.replace("other", "fourth"))
            .await
            .status,
        202
    );
    node.stop().await;
}

#[tokio::test]
async fn errors_are_told_in_the_specification_s_words() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let reply = |status: u16, body: &str| {
        Fault::Reply(oci_conformance::origin::Reply::new(status).body(body.to_owned()))
    };
    let known = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"project x is not there"}]}"#;
    let foreign = r#"{"errors":[{"code":"TAG_INVALID","message":"secret of the house"}]}"#;
    for (fault, status, code) in [
        (reply(404, known), 404, "NAME_UNKNOWN"),
        (reply(400, foreign), 400, "BLOB_UPLOAD_INVALID"),
        (reply(404, "<html>"), 404, "BLOB_UPLOAD_UNKNOWN"),
        (reply(405, ""), 405, "UNSUPPORTED"),
        (reply(413, ""), 413, "SIZE_INVALID"),
        (reply(500, foreign), 502, "UNAVAILABLE"),
        (reply(503, ""), 502, "UNAVAILABLE"),
        (reply(504, ""), 504, "UNAVAILABLE"),
        (reply(301, ""), 502, "UNAVAILABLE"),
        (Fault::TooMany(Some("7".to_owned())), 429, "TOOMANYREQUESTS"),
        (Fault::HangUp, 502, "UNAVAILABLE"),
    ] {
        origin.behave();
        origin.when(Ask::uploads()).answer(fault);
        let answer = post(&node, UPLOADS).await;
        is_error(&answer, status, code);
        assert!(!answer.text().contains("secret"), "{}", answer.text());
        assert_eq!(answer.text().contains("project x"), code == "NAME_UNKNOWN");
        let wait = (status == 429).then_some("7");
        assert_eq!(answer.header("retry-after"), wait);
    }
    origin.stop().await;
    is_error(&post(&node, UPLOADS).await, 502, "UNAVAILABLE");
    node.stop().await;
}

#[tokio::test]
async fn methods_that_a_path_does_not_have() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let manifest = format!("/v2/{REPOSITORY}/manifests/x");
    for (method, target, allowed) in [
        ("PUT", UPLOADS, "POST"),
        ("HEAD", "/v2/a/blobs/uploads/x", "GET, PATCH, PUT, DELETE"),
        ("POST", &manifest, "GET, HEAD, PUT, DELETE"),
        ("DELETE", "/v2/a/tags/list", "GET, HEAD"),
        ("PUT", "/v2/", "GET, HEAD"),
        ("TRACE", "/v2/", "GET, HEAD, POST, PUT, PATCH, DELETE"),
    ] {
        let answer = ask(node.addr, method, target).send().await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{method} {target}"
        );
    }
    assert_eq!(origin.count(Ask::any()), 0);
    node.stop().await;
}
