//! Registries that do not give a blob: a quick 404 with a JSON body, on which clients go on.

use std::time::Duration;

use oci_conformance::{Ask, Fault, Gate, Origin};

use crate::rig::{Blob, Node, is_blob_unknown, is_error, registry};

#[tokio::test]
async fn nobody_listens() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 100_000);
    let node = Node::of(&origin);
    origin.stop().await;
    is_blob_unknown(&node.get(&blob.path).await);
    assert_eq!(node.head(&blob.path).await.status, 404);
    origin.start_again().await;
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn answers_without_the_blob() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 100_000);
    let node = Node::of(&origin);
    for fault in [
        Fault::Status(404),
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
        Fault::Status(204),
        Fault::Status(304),
        Fault::Html,
        Fault::Gzip,
        Fault::HangUp,
        Fault::Reset,
        Fault::CutFin(0),
        Fault::CutRst(0),
    ] {
        println!("{fault:?}");
        origin.behave();
        origin.when(Ask::blobs()).answer(fault);
        is_blob_unknown(&node.get(&blob.path).await);
    }
    origin.behave();
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn refusals_are_told_as_they_are() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 100_000);
    let node = Node::of(&origin);
    let refuse = |fault| {
        origin.behave();
        origin.when(Ask::blobs()).answer(fault);
    };
    refuse(Fault::Status(401));
    is_error(&node.get(&blob.path).await, 401, "UNAUTHORIZED");
    refuse(Fault::Status(403));
    is_error(&node.get(&blob.path).await, 403, "DENIED");
    let challenge = r#"Basic   realm="as it is" , Foo bar="baz""#;
    refuse(Fault::Challenge(challenge.to_owned()));
    let answer = node.get(&blob.path).await;
    is_error(&answer, 401, "UNAUTHORIZED");
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
    node.stop().await;
}

#[tokio::test]
async fn too_many_requests() {
    for (after, told) in [(Some("7"), Some("7")), (None, None)] {
        let origin = Origin::start().await;
        let blob = Blob::new(&origin, 1, 100_000);
        let node = Node::of(&origin);
        origin
            .when(Ask::blobs())
            .answer(Fault::TooMany(after.map(str::to_owned)));
        let answer = node.get(&blob.path).await;
        is_error(&answer, 429, "TOOMANYREQUESTS");
        if told.is_some() {
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=7).contains(&seconds), "{seconds}");
            // Before that time is over nothing is sent there.
            let before = origin.count(Ask::any());
            is_error(&node.get(&blob.path).await, 429, "TOOMANYREQUESTS");
            assert_eq!(origin.count(Ask::any()), before);
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn a_head_that_is_late_is_waited_for() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 100_000);
    let gate = Gate::closed();
    origin
        .when(Ask::blobs())
        .answer(Fault::HoldHead(gate.clone()));
    let node = Node::of(&origin);
    let asking = tokio::spawn(oci_conformance::raw::get(node.addr, &blob.path).send());
    origin.wait_for(1, Ask::blob(&blob.digest)).await;
    assert!(!asking.is_finished());
    gate.open();
    blob.is_whole(&asking.await.unwrap());
    assert_eq!(origin.count(Ask::blobs()), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_head_that_never_comes_is_a_quick_404() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 100_000);
    origin
        .when(Ask::any())
        .answer(Fault::HoldHead(Gate::closed()));
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.limits.head = Duration::from_millis(500);
    });
    is_blob_unknown(&node.get(&blob.path).await);
    is_error(
        &node.get("/v2/team/app/manifests/1").await,
        504,
        "UNAVAILABLE",
    );
    node.stop().await;
}

#[tokio::test]
async fn the_next_endpoint_has_it() {
    for fault in [
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::TooMany(None),
        Fault::Status(503),
        Fault::Html,
        Fault::Gzip,
        Fault::HangUp,
        Fault::Reset,
        Fault::CutRst(0),
    ] {
        println!("{fault:?}");
        let (first, second) = (Origin::start().await, Origin::start().await);
        first.when(Ask::any()).answer(fault);
        Blob::new(&first, 1, 300_000);
        let blob = Blob::new(&second, 1, 300_000);
        let node = Node::with(vec![registry("docker.io", &[&first, &second])], |_| {});
        blob.is_whole(&node.get(&blob.path).await);
        node.stop().await;
    }
    let (absent, second) = (Origin::start().await, Origin::start().await);
    absent.stop().await;
    let blob = Blob::new(&second, 1, 300_000);
    let node = Node::with(vec![registry("docker.io", &[&absent, &second])], |_| {});
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn lengths_and_digests_that_are_not_said() {
    let origin = Origin::start().await;
    for (seed, fault) in [Fault::Chunked, Fault::CloseDelimited, Fault::NoDigest]
        .into_iter()
        .enumerate()
    {
        println!("{fault:?}");
        let blob = Blob::new(&origin, seed as u64, 200_000);
        origin.when(Ask::blobs().get()).answer(fault);
        let node = Node::of(&origin);
        blob.is_whole(&node.get(&blob.path).await);
        blob.is_whole(&node.get(&blob.path).await);
        origin.behave();
        node.stop().await;
    }
}

#[tokio::test]
async fn a_registry_without_head_for_blobs() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 200_000);
    origin.when(Ask::blobs().head()).answer(Fault::Status(401));
    let node = Node::of(&origin);
    let head = node.head(&blob.path).await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("200000"))
    );
    assert!(origin.body_bytes(Ask::blobs()) <= 1, "HEAD fetches nothing");
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}
