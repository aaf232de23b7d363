//! Redirects: followed without credentials, a bounded number of times, and never to places that
//! only this machine can reach.

use oci_conformance::origin::content;
use oci_conformance::{Ask, Fault, Origin};

use crate::rig::{Blob, Node, is_blob_unknown, registry};

const LENGTH: usize = 1 << 20;

#[tokio::test]
async fn a_loop_ends() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    origin
        .when(Ask::blobs())
        .answer(Fault::Redirect(blob.path.clone()));
    let node = Node::of(&origin);
    is_blob_unknown(&node.get(&blob.path).await);
    let asked = origin.count(Ask::any());
    assert!(asked <= 24, "{asked} requests for one blob");
    origin.behave();
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn places_that_are_not_the_registrys_to_name() {
    let (origin, inner) = (Origin::start().await, Origin::start().await);
    let blob = Blob::new(&origin, 1, LENGTH);
    inner.serve_at("/x", blob.bytes.clone());
    let port = inner.addr().port();
    let node = Node::of(&origin);
    for to in [
        format!("http://127.0.0.1:{port}/x"),
        format!("http://localhost:{port}/x"),
        format!("http://[::1]:{port}/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/x"),
        format!("http://0.0.0.0:{port}/x"),
        format!("http://2130706433:{port}/x"),
        format!("http://127.1:{port}/x"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/latest/".to_owned(),
        "http://10.1.2.3/x".to_owned(),
        "http://192.168.0.1/x".to_owned(),
        "http://100.64.0.1/x".to_owned(),
        "http://224.0.0.1/x".to_owned(),
        "file:///etc/passwd".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
        "gopher:x".to_owned(),
        "//".to_owned(),
        String::new(),
    ] {
        println!("{to}");
        origin.behave();
        origin.when(Ask::blobs()).answer(Fault::Redirect(to));
        is_blob_unknown(&node.get(&blob.path).await);
    }
    assert_eq!(inner.count(Ask::any()), 0);
    node.stop().await;
}

#[tokio::test]
async fn credentials_stay_with_the_registry() {
    let (origin, store) = (Origin::start().await, Origin::start().await);
    let blob = Blob::new(&origin, 1, LENGTH);
    origin.require_basic();
    origin.private(crate::rig::REPOSITORY, "ann", "pw");
    store.serve_at("/layer", blob.bytes.clone());
    let to = format!("{}/layer?signature=s%2Bx", store.url());
    origin.when(Ask::blobs()).answer(Fault::Redirect(to));
    let mut at = registry("docker.io", &[&origin]);
    at.allowed_hosts = vec![store.addr().to_string()];
    let node = Node::with(vec![at], |_| {});
    blob.is_whole(&node.get_as(&blob.path, "Basic YW5uOnB3").await);
    let seen = store.seen(Ask::any());
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].authorization(), None);
    assert_eq!(seen[0].header("cookie"), None);
    assert_eq!(seen[0].query, "signature=s%2Bx");
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    node.stop().await;
}

#[tokio::test]
async fn a_store_that_breaks_off_is_asked_for_anew_by_the_registry() {
    let (origin, store) = (Origin::start().await, Origin::start().await);
    let blob = Blob::new(&origin, 1, LENGTH);
    for signature in 1..4 {
        let to = format!("{}/layer?signature={signature}", store.url());
        origin
            .when(Ask::blobs().get())
            .once()
            .answer(Fault::Redirect(to));
    }
    store.serve_at("/layer", blob.bytes.clone());
    store.when(Ask::any()).once().answer(Fault::CutFin(400_000));
    store
        .when(Ask::of(|seen| seen.query == "signature=1"))
        .answer(Fault::Status(403));
    let mut at = registry("docker.io", &[&origin]);
    at.allowed_hosts = vec![store.addr().to_string()];
    let node = Node::with(vec![at], |_| {});
    blob.is_whole(&node.get(&blob.path).await);
    let seen = store.seen(Ask::any());
    assert_eq!(seen.last().unwrap().query, "signature=2");
    assert_eq!(seen.last().unwrap().range(), Some("bytes=400000-"));
    node.stop().await;
}

#[tokio::test]
async fn another_blob_at_the_end_of_a_redirect() {
    let (origin, store) = (Origin::start().await, Origin::start().await);
    let blob = Blob::new(&origin, 1, LENGTH);
    store.serve_at("/layer", content(2, LENGTH));
    origin
        .when(Ask::blobs())
        .answer(Fault::Redirect(format!("{}/layer", store.url())));
    let mut at = registry("docker.io", &[&origin]);
    at.allowed_hosts = vec![store.addr().to_string()];
    let node = Node::with(vec![at], |_| {});
    blob.is_not_whole(&node.get(&blob.path).await);
    node.stop().await;
}
