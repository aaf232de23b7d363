//! Pushing with plain requests.

use std::net::SocketAddr;

use oci_conformance::origin::sha256;
use oci_conformance::raw::{self, Answer, Request};
use serde_json::json;

use crate::rig::Node;

pub(crate) const UPLOADS: &str = "/v2/team/app/blobs/uploads/";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn ask(addr: SocketAddr, method: &str, target: &str) -> Request {
    raw::request(addr, method, target)
}

pub(crate) async fn post(node: &Node, target: &str) -> Answer {
    ask(node.addr, "POST", target).body("").send().await
}

pub(crate) async fn delete(node: &Node, target: &str) -> Answer {
    ask(node.addr, "DELETE", target).send().await
}

/// Where an answer leads: always a path of the node's own.
#[track_caller]
pub(crate) fn location(answer: &Answer) -> String {
    let location = answer.header("location").expect("a Location");
    assert!(
        location.starts_with('/') && !location.starts_with("//"),
        "{location}"
    );
    location.to_owned()
}

/// A target with one more pair in its query.
pub(crate) fn and(target: &str, pair: &str) -> String {
    let mark = if target.contains('?') { '&' } else { '?' };
    format!("{target}{mark}{pair}")
}

/// Uploads a blob by POST and PUT.
pub(crate) async fn push_blob(node: &Node, uploads: &str, bytes: &[u8]) -> Answer {
    let begun = post(node, uploads).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let digest = sha256(bytes);
    let to = and(&location(&begun), &format!("digest={digest}"));
    ask(node.addr, "PUT", &to).body(bytes).send().await
}

pub(crate) async fn put_manifest(node: &Node, target: &str, bytes: &str) -> Answer {
    let request = ask(node.addr, "PUT", target).header("Content-Type", MANIFEST);
    request.body(bytes).send().await
}

/// A manifest of one config; `word` makes it differ from others.
pub(crate) fn manifest(config: &str, size: usize, word: &str) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
        "layers": [],
        "annotations": {"word": word},
    })
    .to_string()
}
