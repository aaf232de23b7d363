//! Ranges: the same answer for a blob that is cold, arriving and held.

use http::{Method, StatusCode};
use oci::Digest;

use crate::image::{Image, noise};
use crate::node::{Node, Reply, config};
use crate::origin::Origin;

const TOTAL: usize = 1_000_000;

/// The `Range`, the status, the `Content-Range`, the bytes.
type Case = (&'static str, u16, &'static str, std::ops::Range<usize>);

const CASES: [Case; 10] = [
    ("bytes=0-0", 206, "bytes 0-0/1000000", 0..1),
    ("bytes=0-", 206, "bytes 0-999999/1000000", 0..TOTAL),
    (
        "bytes=1000-1999",
        206,
        "bytes 1000-1999/1000000",
        1000..2000,
    ),
    (
        "bytes=700000-700099",
        206,
        "bytes 700000-700099/1000000",
        700_000..700_100,
    ),
    (
        "bytes=900000-",
        206,
        "bytes 900000-999999/1000000",
        900_000..TOTAL,
    ),
    (
        "bytes=-5",
        206,
        "bytes 999995-999999/1000000",
        999_995..TOTAL,
    ),
    (
        "bytes=999000-5000000",
        206,
        "bytes 999000-999999/1000000",
        999_000..TOTAL,
    ),
    ("bytes=1000000-", 416, "bytes */1000000", 0..0),
    ("bytes=500-0", 416, "bytes */1000000", 0..0),
    ("lines=1-2", 200, "", 0..TOTAL),
];

fn check(case: &Case, reply: &Reply, blob: &[u8], when: &str) {
    let (range, status, content_range, bytes) = case;
    assert_eq!(reply.status.as_u16(), *status, "{range} {when}");
    assert_eq!(
        reply.header("content-range"),
        *content_range,
        "{range} {when}"
    );
    assert!(!reply.cut, "{range} {when}");
    if reply.status == StatusCode::RANGE_NOT_SATISFIABLE {
        return;
    }
    assert!(reply.body == blob[bytes.clone()], "{range} {when}");
    let length = bytes.len().to_string();
    assert_eq!(reply.header("content-length"), length, "{range} {when}");
    assert_eq!(reply.header("accept-ranges"), "bytes", "{range} {when}");
}

async fn ask(node: &Node, path: &str, range: &str) -> Reply {
    node.ask(Method::GET, path, &[("range", range)]).await
}

#[tokio::test]
async fn cold_and_warm() {
    let blob = noise(9, TOTAL);
    let origin = Origin::start().await;
    origin.content().blob("library/app", &blob);
    let path = format!("/v2/library/app/blobs/{}", Digest::sha256(&blob));
    for case in &CASES {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
        check(case, &ask(&node, &path, case.0).await, &blob, "cold");
        assert!(node.get(&path).await.body == blob);
        check(case, &ask(&node, &path, case.0).await, &blob, "warm");
        node.stop().await;
    }
}

#[tokio::test]
async fn half_way() {
    let blob = noise(9, TOTAL);
    let digest = Digest::sha256(&blob);
    let origin = Origin::start().await;
    origin.content().blob("library/app", &blob);
    origin.content().held_at.insert(digest, 400_000);
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let path = format!("/v2/library/app/blobs/{digest}");
    let whole = node.get(&path);
    let ranges = async {
        // The first byte says that the flight is on its way.
        check(
            &CASES[0],
            &ask(&node, &path, CASES[0].0).await,
            &blob,
            "half way",
        );
        check(
            &CASES[2],
            &ask(&node, &path, CASES[2].0).await,
            &blob,
            "half way",
        );
        let rest = CASES.iter().map(|case| async {
            check(case, &ask(&node, &path, case.0).await, &blob, "half way");
        });
        let opened = async { origin.open_gate() };
        futures_util::future::join(futures_util::future::join_all(rest), opened).await;
    };
    let (whole, ()) = futures_util::future::join(whole, ranges).await;
    assert!(whole.body == blob);
    node.stop().await;
}

#[tokio::test]
async fn a_range_deep_in_a_cold_blob_does_not_wait_for_its_beginning() {
    let blob = noise(4, 8_000_000);
    let digest = Digest::sha256(&blob);
    let origin = Origin::start().await;
    origin.content().blob("library/app", &blob);
    // The whole blob would stop here; the range has fewer bytes.
    origin.content().held_at.insert(digest, 100_000);
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let path = format!("/v2/library/app/blobs/{digest}");
    let reply = ask(&node, &path, "bytes=4000000-4000999").await;
    assert_eq!(reply.status, StatusCode::PARTIAL_CONTENT);
    assert!(reply.body == blob[4_000_000..4_001_000]);
    origin.open_gate();
    node.stop().await;
}

#[tokio::test]
async fn several_ranges_are_parts() {
    let image = Image::new("library/app", 3, 50_000);
    let origin = Origin::start().await;
    image.push(&origin, "v1");
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let (blob, path) = (&image.layers[0], image.blob_path(&image.layers[0]));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let reply = ask(&node, &path, "bytes=10-19,-3").await;
        assert_eq!(reply.status, StatusCode::PARTIAL_CONTENT);
        let kind = reply.header("content-type");
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap();
        let mut wanted = Vec::new();
        for (lead, range, part) in [
            ("", "10-19", &blob[10..20]),
            ("\r\n", "49997-49999", &blob[49_997..]),
        ] {
            wanted.extend_from_slice(
                format!("{lead}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/50000\r\n\r\n").as_bytes(),
            );
            wanted.extend_from_slice(part);
        }
        wanted.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(reply.body == wanted);
        answers.push(reply);
    }
    node.stop().await;
}

#[tokio::test]
async fn if_range_names_the_content_or_voids_the_range() {
    let image = Image::new("library/app", 3, 50_000);
    let origin = Origin::start().await;
    image.push(&origin, "v1");
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config(folder.path(), &[("docker.io", &origin)]));
    let path = image.blob_path(&image.layers[0]);
    let etag = node.head(&path).await.header("etag").to_owned();
    for (condition, status) in [(etag.as_str(), 206), ("\"other\"", 200)] {
        let headers = [("range", "bytes=1-2"), ("if-range", condition)];
        let reply = node.ask(Method::GET, &path, &headers).await;
        assert_eq!(reply.status.as_u16(), status);
    }
    let head = node
        .ask(Method::HEAD, &path, &[("range", "bytes=1-2")])
        .await;
    assert_eq!(head.status, StatusCode::OK);
    node.stop().await;
}
