//! Manifests: byte for byte, by Accept, with the truth about errors.

use bytes::Bytes;
use http::{Method, StatusCode};
use oci::Digest;

use crate::image::{INDEX, Image, MANIFEST};
use crate::node::{Node, config};
use crate::origin::Origin;

#[tokio::test]
async fn bytes_and_type_are_upstreams() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let odd = Bytes::from_static(
        b"{ \"schemaVersion\":2 , \"layers\":[],\"x\":\"\\u00e9\",\"data\":\"\" }\n\n",
    );
    let filler = "y".repeat(3_900_000);
    let large = Bytes::from(format!("{{\"schemaVersion\":2,\"filler\":\"{filler}\"}}"));
    let typed = "application/vnd.oci.image.manifest.v1+json; charset=utf-8";
    {
        let mut content = origin.content();
        content.manifest("library/app", "odd", typed, &odd);
        content.manifest(
            "library/app",
            &Digest::sha256(&odd).to_string(),
            typed,
            &odd,
        );
        content.manifest("library/app", "large", MANIFEST, &large);
    }
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    for _ in 0..2 {
        for (tag, kind, bytes) in [("odd", typed, &odd), ("large", MANIFEST, &large)] {
            let path = format!("/v2/library/app/manifests/{tag}");
            let got = node
                .ask(Method::GET, &path, &[("range", "bytes=0-3")])
                .await;
            assert_eq!(got.status, StatusCode::OK);
            assert!(got.body == bytes);
            let tag = got.header("etag").to_owned();
            for (held, status) in [(&*tag, 304), ("*", 304), ("\"another\"", 200)] {
                let headers = [("if-none-match", held)];
                let again = node.ask(Method::GET, &path, &headers).await;
                assert_eq!(again.status, status, "{held}");
                assert_eq!(again.body.is_empty(), status == 304, "{held}");
                assert_eq!(again.header("etag"), tag);
            }
            let head = node.head(&path).await;
            for reply in [&got, &head] {
                assert_eq!(reply.header("content-type"), kind);
                assert_eq!(reply.header("content-length"), bytes.len().to_string());
                let digest = Digest::sha256(bytes).to_string();
                assert_eq!(reply.header("docker-content-digest"), digest);
            }
            assert!(head.body.is_empty());
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn what_one_class_of_clients_gets_another_does_not() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let image = Image::new("library/app", 1, 10);
    image.push(&origin, "v1");
    // This registry gives the index to those who name it and the manifest to all others.
    origin.content().by_accept = Some((INDEX.to_owned(), image.manifest.clone()));
    let mut config = config(folder.path(), &[("docker.io", &origin)]);
    config.trust.tag = std::time::Duration::ZERO;
    let node = Node::start(config);
    let path = image.manifest_path("v1");
    let (new, old) = ([("accept", INDEX)], [("accept", MANIFEST)]);
    for _ in 0..2 {
        let reply = node.ask(Method::GET, &path, &new).await;
        assert_eq!(reply.header("content-type"), INDEX);
        let reply = node.ask(Method::GET, &path, &old).await;
        assert_eq!(reply.header("content-type"), MANIFEST);
        assert_eq!(reply.body, image.manifest);
    }
    origin.stop().await;
    assert_eq!(node.ask(Method::GET, &path, &new).await.body, image.index);
    assert_eq!(
        node.ask(Method::GET, &path, &old).await.body,
        image.manifest
    );
    // Nobody has asked for this class; it is given what it takes, and nothing else.
    let both = [("accept", "application/vnd.x+json, */*")];
    assert_eq!(
        node.ask(Method::GET, &path, &both).await.status,
        StatusCode::OK
    );
    let neither = [("accept", "application/vnd.x+json")];
    let reply = node.ask(Method::GET, &path, &neither).await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    node.stop().await;
}

#[tokio::test]
async fn errors_are_told_as_clients_act_on_them() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let blob = Digest::sha256(b"x");
    for (seed, (failure, manifest, blob_status, code)) in [
        (StatusCode::NOT_FOUND, 404, 404, "MANIFEST_UNKNOWN"),
        (StatusCode::UNAUTHORIZED, 401, 401, "UNAUTHORIZED"),
        (StatusCode::FORBIDDEN, 403, 403, "DENIED"),
        (StatusCode::INTERNAL_SERVER_ERROR, 502, 404, "UNAVAILABLE"),
        (StatusCode::SERVICE_UNAVAILABLE, 502, 404, "UNAVAILABLE"),
        (StatusCode::TOO_MANY_REQUESTS, 429, 429, "TOOMANYREQUESTS"),
    ]
    .into_iter()
    .enumerate()
    {
        {
            let mut content = origin.content();
            content.fail = Some(failure);
            content.headers.insert("retry-after", "7".parse().unwrap());
        }
        let repository = format!("library/app{seed}");
        let path = format!("/v2/{repository}/manifests/v1");
        let reply = node.get(&path).await;
        assert_eq!(reply.status.as_u16(), manifest, "{failure}");
        assert_eq!(reply.code(), code);
        assert_eq!(reply.header("content-type"), "application/json");
        if failure == StatusCode::TOO_MANY_REQUESTS {
            let seconds: u64 = reply.header("retry-after").parse().unwrap();
            assert!((1..=7).contains(&seconds));
        }
        let head = node.head(&path).await;
        assert_eq!(head.status.as_u16(), manifest, "{failure}");
        assert!(head.body.is_empty());
        let reply = node.get(&format!("/v2/{repository}/blobs/{blob}")).await;
        assert_eq!(reply.status.as_u16(), blob_status, "{failure}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_is_believed_briefly_and_by_credential() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let path = "/v2/library/app/manifests/none";
    for _ in 0..5 {
        assert_eq!(node.get(path).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(origin.asked().len(), 1);
    let headers = [("authorization", "Basic eDp5")];
    let other = node.ask(Method::GET, path, &headers).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    assert!(
        origin.asked().len() > 1,
        "another credential asks for itself"
    );
    node.stop().await;
}
