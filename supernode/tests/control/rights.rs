//! Only what upstream gives to anybody is shared, place by place.

use oci_conformance::{Ask, Origin};
use proxy::upstream::AccountConfig;

use super::rig::{self, Node, Supernode};
use super::{REPOSITORY, pushed};

#[tokio::test]
async fn a_private_blob_is_not_shared() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 11);
    origin.require_tokens();
    origin.private(REPOSITORY, "user", "password");
    let supernode = Supernode::start(&origin);
    let node = Node::attending(&supernode, None).await;
    let why = node.join(&digest, REPOSITORY).refusal().await;
    assert!(why.contains("does not give it to anybody"), "{why}");
    assert!(!supernode.status().blobs.iter().any(|blob| blob.total > 0));
    supernode.stop().await;
}

#[tokio::test]
async fn an_account_of_the_operator_makes_nothing_public() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 12);
    origin.require_tokens();
    origin.private(REPOSITORY, "user", "password");
    let mut registry = rig::registry(&origin);
    registry.accounts.push(AccountConfig {
        repositories: vec!["**".to_owned()],
        username: Some("user".to_owned()),
        password: Some(proxy::upstream::Secret::new("password")),
        ..AccountConfig::default()
    });
    let supernode = Supernode::with(registry, |_| ());
    // The account is good: a client of the supernode's own front door reads with it.
    let path = format!("/v2/{}/{REPOSITORY}/blobs/{digest}", rig::REGISTRY);
    let head = rig::head(supernode.listen, &path).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");

    let node = Node::attending(&supernode, None).await;
    let why = node.join(&digest, REPOSITORY).refusal().await;
    assert!(why.contains("does not give it to anybody"), "{why}");
    supernode.stop().await;
}

#[tokio::test]
async fn each_place_is_confirmed_for_itself() {
    let origin = Origin::start().await;
    let (bytes, digest) = pushed(&origin, 13);
    origin.push_blob("other/thing", bytes);
    let supernode = Supernode::start(&origin);
    let one = Node::attending(&supernode, None).await;
    let mut flight = one.join(&digest, REPOSITORY);
    flight.fly_home().await;

    // Held by now, and not to be had in a repository that does not have it.
    let two = Node::attending(&supernode, None).await;
    let why = two.join(&digest, "no/such").refusal().await;
    assert!(why.contains("does not give it to anybody"), "{why}");
    two.join(&digest, "other/thing").fly_home().await;
    let text = digest.to_string();
    let others = origin.seen(Ask::blob(&text));
    let others: Vec<_> = others
        .iter()
        .filter(|seen| seen.repository == "other/thing")
        .collect();
    assert_eq!(others.len(), 1, "confirmed once");
    assert_eq!(others[0].body_bytes(), 0, "and not read again");
    supernode.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let origin = Origin::start().await;
    let (_, digest) = pushed(&origin, 14);
    let supernode = Supernode::start(&origin);
    let node = Node::attending(&supernode, None).await;
    let unknown = node.join_at("nowhere.test", &digest, REPOSITORY);
    let why = { unknown }.refusal().await;
    assert!(why.contains("does not know the registry"), "{why}");
    let why = node.join(&digest, "../../etc").refusal().await;
    assert!(why.contains("not a repository's name"), "{why}");
    let mut first = node.join(&digest, REPOSITORY);
    let why = node.join(&digest, REPOSITORY).refusal().await;
    assert!(why.contains("takes part already"), "{why}");
    first.fly_home().await;
    supernode.stop().await;
}
