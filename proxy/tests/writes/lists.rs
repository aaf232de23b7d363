//! Tags and referrers by page, and what registries warn of.

use oci_conformance::origin::{Reply, sha256};
use oci_conformance::raw::Answer;
use oci_conformance::{Ask, Fault, Origin};
use serde_json::{Value, json};

use crate::client::{manifest, post, put_manifest};
use crate::rig::{Node, REPOSITORY, is_error, manifest_path, registry};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn page(answer: &Answer, list: &str) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page: Value = serde_json::from_slice(&answer.body).unwrap();
    page[list].as_array().unwrap().clone()
}

/// All entries, by following links, each of which must lead back to where the list began.
async fn follow(node: &Node, first: &str, list: &str) -> Vec<Value> {
    let start = first.split('?').next().unwrap();
    let (mut next, mut all) = (Some(first.to_owned()), Vec::new());
    while let Some(target) = next {
        let answer = node.get(&target).await;
        all.extend(page(&answer, list));
        next = answer.header("link").map(|line| {
            let (target, rest) = line.strip_prefix('<').unwrap().split_once('>').unwrap();
            assert_eq!(rest, "; rel=\"next\"");
            assert!(target.starts_with(&format!("{start}?")), "{target}");
            assert_eq!(target.contains("ns="), first.contains("ns="), "{target}");
            target.to_owned()
        });
        assert!(all.len() < 100, "links in a circle");
    }
    all
}

#[tokio::test]
async fn every_tag_once_whether_upstream_makes_pages_or_not() {
    let origin = Origin::start().await;
    let tags: Vec<String> = (0..7).map(|n| format!("t{n}")).collect();
    for tag in &tags {
        origin.push_manifest("org/app", Some(tag), INDEX, "{}");
    }
    let node = Node::with(vec![registry("quay.io", &[&origin])], |_| {});
    for (pages, size) in [(true, None), (true, Some(2)), (false, None)] {
        origin.habits(|habits| (habits.pages, habits.page) = (pages, size));
        for (list, name) in [
            ("/v2/org/app/tags/list?ns=quay.io", "org/app"),
            ("/v2/quay.io/org/app/tags/list", "quay.io/org/app"),
            ("/quay.io/v2/org/app/tags/list", "org/app"),
        ] {
            let with = |query: &str| crate::client::and(list, query);
            assert_eq!(follow(&node, list, "tags").await, tags, "{list}");
            assert_eq!(follow(&node, &with("n=3"), "tags").await, tags, "{list}");
            let answer = node.get(&with("n=3&last=t1")).await;
            let document: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(document["name"], name);
            let got = page(&answer, "tags");
            assert_eq!(got, tags[2..2 + size.unwrap_or(3)], "{list}");
            assert_eq!(follow(&node, &with("last=t4x"), "tags").await, tags[5..]);
            let none = node.get(&with("n=0")).await;
            assert_eq!((page(&none, "tags").len(), none.header("link")), (0, None));
            let all = follow(&node, &with("n=99999999999999999999"), "tags").await;
            assert_eq!(all, tags);
            for wrong in ["n=-1", "n=x", "n="] {
                is_error(&node.get(&with(wrong)).await, 400, "UNSUPPORTED");
            }
        }
    }
    let absent = node.get("/v2/quay.io/no/where/tags/list?n=0").await;
    is_error(&absent, 404, "NAME_UNKNOWN");
    node.stop().await;
}

#[tokio::test]
async fn referrers_by_page_and_filtered() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let subject = sha256(b"subject");
    for number in 0..5 {
        let kind = if number == 0 { "z/z" } else { "x/y+json" };
        let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "number": number,
            "artifactType": kind, "subject": {"digest": subject}, "annotations": {"a": "b"}});
        origin.push_manifest(REPOSITORY, None, INDEX, document.to_string());
    }
    let list = format!("/v2/{REPOSITORY}/referrers/{subject}");
    let filtered = format!("{list}?artifactType=x%2Fy%2Bjson");
    for size in [None, Some(2)] {
        origin.habits(|habits| habits.page = size);
        assert_eq!(follow(&node, &list, "manifests").await.len(), 5);
        let answer = node.get(&filtered).await;
        assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
        assert_eq!(answer.header("content-type"), Some(INDEX));
        let found = follow(&node, &filtered, "manifests").await;
        assert_eq!(found.len(), 4);
        assert_eq!(found[0]["annotations"]["a"], "b");
    }
    let none = format!("/v2/{REPOSITORY}/referrers/{}", sha256(b"nobody's"));
    assert_eq!(follow(&node, &none, "manifests").await.len(), 0);
    let wrong = node
        .get(&format!("/v2/{REPOSITORY}/referrers/sha256:x"))
        .await;
    is_error(&wrong, 400, "DIGEST_INVALID");
    node.stop().await;
}

#[tokio::test]
async fn without_the_referrers_api_the_fallback_tag_is_pulled() {
    let origin = Origin::start().await;
    origin.habits(|habits| habits.referrers = false);
    let node = Node::of(&origin);
    let subject = sha256(b"subject");
    let list = format!("/v2/{REPOSITORY}/referrers/{subject}");
    is_error(&node.get(&list).await, 404, "MANIFEST_UNKNOWN");
    // A sha512 digest is cut to 64 characters in the tag.
    for tag in [
        subject.replace(':', "-"),
        format!("sha512-{}", "a".repeat(64)),
    ] {
        is_error(
            &node.get(&manifest_path(&tag)).await,
            404,
            "MANIFEST_UNKNOWN",
        );
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "tag": tag});
        let put = crate::client::ask(node.addr, "PUT", &manifest_path(&tag));
        let put = put.header("Content-Type", INDEX).body(index.to_string());
        assert_eq!(put.send().await.status, 201);
        let pulled = node.get(&manifest_path(&tag)).await;
        assert_eq!(pulled.text(), index.to_string());
    }
    node.stop().await;
}

#[tokio::test]
async fn warnings_are_passed_on() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let config = origin.push_blob(REPOSITORY, "{}");
    let line = "299 - \"this repository moves\"";
    origin.habits(|habits| habits.warning = Some(line.to_owned()));
    let tags = format!("/v2/{REPOSITORY}/tags/list");
    let uploads = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let put = put_manifest(&node, &manifest_path("v1"), &manifest(&config, 2, "")).await;
    for answer in [
        put,
        node.get(&manifest_path("v1")).await,
        node.head(&manifest_path("v1")).await,
        node.get(&tags).await,
        node.get(&format!("/v2/{REPOSITORY}/referrers/{config}"))
            .await,
        post(&node, &uploads).await,
    ] {
        assert!((200..300).contains(&answer.status));
        assert_eq!(answer.header("warning"), Some(line));
    }
    // All lines together have 4096 bytes at most.
    let long = format!("299 - \"{}\"", "x".repeat(3000));
    let reply = Reply::new(200).header("Content-Type", "application/json");
    let reply = reply.header("Warning", &long).header("Warning", &long);
    origin
        .when(Ask::kind(oci_conformance::origin::Kind::Tags))
        .answer(Fault::Reply(reply.body("{}")));
    let answer = node.get(&tags).await;
    let lines = answer.headers.iter().filter(|(name, _)| name == "warning");
    assert_eq!(lines.map(|(_, line)| line.len()).sum::<usize>(), long.len());
    node.stop().await;
}
