//! Requests that make no sense: the protocol's status and code, and nothing is dialled for them.

use oci_conformance::origin::nobody;
use oci_conformance::raw::{self, Ending, Exchange};
use oci_conformance::{Ask, Origin};

use crate::rig::{Blob, Node, REPOSITORY, is_error, registry};

fn read_only(origin: &Origin) -> Node {
    Node::with(vec![registry("docker.io", &[origin])], |config| {
        config.read_only = true;
    })
}

#[tokio::test]
async fn what_names_nothing_is_refused_and_never_dialled() {
    let (origin, stranger) = (Origin::start().await, Origin::start().await);
    let node = Node::of(&origin);
    let digest = format!("sha256:{}", "a".repeat(64));
    let upper = format!("/v2/a/blobs/sha256:{}", "A".repeat(64));
    let long_name = format!("/v2/{}/manifests/1", "a".repeat(256));
    let long_tag = format!("/v2/a/manifests/{}", "t".repeat(129));
    let foreign = format!("/v2/a/referrers/blake3:{}", "a".repeat(64));
    let encoded = format!("/v2/a%2Fb/blobs/{digest}");
    let dots = format!("/v2/a/%2e%2e/b/blobs/{digest}");
    let address = format!("/v2/a/manifests/1?ns={}", stranger.addr());
    for (target, status, code) in [
        ("/v2/a/manifests/1?ns=unknown.example", 404, "NAME_UNKNOWN"),
        ("/v2/a/manifests/1?ns=localhost", 404, "NAME_UNKNOWN"),
        (&*address, 400, "NAME_INVALID"),
        ("/v2/a/manifests/1?ns=169.254.169.254", 400, "NAME_INVALID"),
        ("/v2/a/manifests/1?ns=", 400, "NAME_INVALID"),
        ("/v2/a/manifests/1?ns=http://docker.io", 400, "NAME_INVALID"),
        ("/v2/a/manifests/1?ns=u:p@docker.io", 400, "NAME_INVALID"),
        ("/v2/a/manifests/1?ns=docker.io/x", 400, "NAME_INVALID"),
        (
            "/v2/a/manifests/1?ns=docker.io%0d%0aX:y",
            400,
            "NAME_INVALID",
        ),
        (
            "/v2/a/manifests/1?ns=docker.io&ns=docker.io",
            400,
            "NAME_INVALID",
        ),
        ("/v2/A/manifests/1", 400, "NAME_INVALID"),
        (&long_name, 400, "NAME_INVALID"),
        (&long_tag, 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/-x", 404, "MANIFEST_UNKNOWN"),
        ("/v2/a/blobs/sha256:x", 400, "DIGEST_INVALID"),
        ("/v2/a/blobs/latest", 400, "DIGEST_INVALID"),
        ("/v2/a/referrers/latest", 400, "DIGEST_INVALID"),
        (&upper, 400, "DIGEST_INVALID"),
        (&foreign, 404, "MANIFEST_UNKNOWN"),
        (&encoded, 400, "NAME_INVALID"),
        (&dots, 400, "NAME_INVALID"),
        ("/v2//a/manifests/1", 400, "NAME_INVALID"),
        ("/v2/a/../b/manifests/1", 400, "NAME_INVALID"),
        ("/v2/a%00/manifests/1", 400, "NAME_INVALID"),
        ("/unknown.example/v2/a/manifests/1", 404, "NAME_UNKNOWN"),
        ("/v1/_ping", 404, "NAME_UNKNOWN"),
        ("/", 404, "NAME_UNKNOWN"),
    ] {
        println!("{target}");
        is_error(&node.get(target).await, status, code);
        let head = node.head(target).await;
        assert_eq!((head.status, head.body.len()), (status, 0), "HEAD {target}");
    }
    assert_eq!(origin.count(Ask::any()), 0);
    assert_eq!(stranger.count(Ask::any()), 0);
    node.stop().await;
}

#[tokio::test]
async fn methods_that_write_or_do_not_exist() {
    let origin = Origin::start().await;
    let node = read_only(&origin);
    let digest = format!("sha256:{}", "a".repeat(64));
    let blob = format!("/v2/a/blobs/{digest}");
    for (method, target) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("POST", "/v2/a/blobs/uploads/?mount=x&from=y"),
        ("PATCH", "/v2/a/blobs/uploads/1"),
        ("PUT", "/v2/a/manifests/1"),
        ("DELETE", &blob),
        ("GET", "/v2/a/blobs/uploads/1"),
        ("OPTIONS", "/v2/"),
        ("TRACE", "/v2/"),
        ("BREW", "/v2/a/manifests/1"),
    ] {
        println!("{method} {target}");
        let answer = raw::request(node.addr, method, target).send().await;
        is_error(&answer, 405, "UNSUPPORTED");
        assert!(answer.header("allow").is_some());
    }
    assert_eq!(origin.count(Ask::any()), 0);
    node.stop().await;
}

#[tokio::test]
async fn an_upload_is_refused_without_reading_it_and_without_reset() {
    let origin = Origin::start().await;
    let node = read_only(&origin);
    let mut request =
        b"PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n".to_vec();
    request.resize(request.len() + 200_000, b'x');
    let answer = Exchange::begin(node.addr, &request, false)
        .await
        .rest()
        .await;
    is_error(&answer, 405, "UNSUPPORTED");
    node.stop().await;
}

#[tokio::test]
async fn request_heads_that_make_no_sense() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let wide = format!(
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    let long = format!(
        "GET /v2/{} HTTP/1.1\r\nHost: x\r\n\r\n",
        "y".repeat(1 << 17)
    );
    for (request, statuses) in [
        ("GARBAGE\r\n\r\n", &[400][..]),
        ("GET /v2/ HTTP/1.1\r\nno colon\r\n\r\n", &[400]),
        ("GET /v2/ HTTP/9.9\r\n\r\n", &[400, 505]),
        (
            "GET /v2/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            &[400],
        ),
        (&wide, &[431]),
        (&long, &[414, 431]),
    ] {
        let shown: String = request.chars().take(60).collect();
        let sent = Exchange::begin(node.addr, request.as_bytes(), false).await;
        let answer = sent.rest().await;
        assert!(
            statuses.contains(&answer.status),
            "{shown:?}: {}",
            answer.status
        );
        assert_eq!(answer.ending, Ending::Complete, "{shown:?}");
    }
    // The node has not suffered.
    assert_eq!(node.get("/v2/").await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn ranges_of_every_kind_cold_and_warm() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 300_000);
    let node = Node::of(&origin);
    for round in ["cold", "warm"] {
        for (range, status, part) in [
            ("bytes=0-0", 206, Some(0..1)),
            ("bytes=299999-", 206, Some(299_999..300_000)),
            ("bytes=-5", 206, Some(299_995..300_000)),
            ("bytes=100-999999", 206, Some(100..300_000)),
            ("bytes=500-0", 416, None),
            ("bytes=300000-", 416, None),
            ("bytes=-0", 416, None),
            ("bytes=x-y", 200, Some(0..300_000)),
            ("items=0-1", 200, Some(0..300_000)),
            ("bytes 0-1", 200, Some(0..300_000)),
        ] {
            println!("{round} {range}");
            let answer = node.range(&blob.path, range).await;
            assert_eq!(answer.status, status, "{round} {range}");
            assert_eq!(answer.ending, Ending::Complete, "{round} {range}");
            match part {
                Some(part) => assert!(answer.body == blob.bytes[part], "{round} {range}"),
                None => assert_eq!(answer.header("content-range"), Some("bytes */300000")),
            }
        }
        blob.is_whole(&node.get(&blob.path).await);
    }
    node.stop().await;
}

#[tokio::test]
async fn forged_hosts_change_nothing_and_ns_stays_here() {
    let (origin, stranger) = (Origin::start().await, Origin::start().await);
    origin.push_image(REPOSITORY, "1", &[b"layer"]);
    let node = Node::with(vec![registry("quay.io", &[&origin])], |_| {});
    let target = format!("/v2/{REPOSITORY}/manifests/1?ns=quay.io");
    let answer = raw::get(node.addr, &target)
        .header("X-Forwarded-Host", &stranger.addr().to_string())
        .header("Forwarded", &format!("host={}", stranger.addr()))
        .send()
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("oci-namespace"), Some("quay.io"));
    for seen in origin.seen(Ask::any()) {
        assert_eq!(seen.parameter("ns"), None, "{seen}");
        assert_eq!(seen.header("x-forwarded-host"), None, "{seen}");
        assert_eq!(seen.header("host"), Some(&*origin.addr().to_string()));
    }
    let absolute = format!(
        "http://{}/v2/{REPOSITORY}/manifests/1?ns=quay.io",
        nobody().await
    );
    assert_eq!(node.get(&absolute).await.status, 200);
    assert_eq!(stranger.count(Ask::any()), 0);
    node.stop().await;
}
