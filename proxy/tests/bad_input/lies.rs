//! Registries that send something else: no client gets it whole, and nothing of it is kept.

use oci_conformance::origin::{Reply, content, sha512};
use oci_conformance::raw::Ending;
use oci_conformance::{Ask, Fault, Origin};

use crate::rig::{Blob, Node, REPOSITORY, WITHHELD, is_blob_unknown, manifest_path, registry};

const LENGTH: usize = 1 << 20;

#[tokio::test]
async fn wrong_bytes_of_every_kind_are_never_whole_and_never_kept() {
    let length = LENGTH as u64;
    for fault in [
        Fault::WrongByteAt(0),
        Fault::WrongByteAt(length / 2),
        Fault::WrongByteAt(length - 1),
        Fault::ShortBody(1),
        Fault::ShortBody(length / 2),
        Fault::LongBody(1),
        Fault::LongBody(length),
    ] {
        println!("{fault:?}");
        let origin = Origin::start().await;
        let blob = Blob::new(&origin, 1, LENGTH);
        origin.when(Ask::blobs()).answer(fault);
        let node = Node::of(&origin);
        for _ in 0..2 {
            blob.is_not_whole(&node.get(&blob.path).await);
        }
        let node = node.restart().await;
        blob.is_not_whole(&node.get(&blob.path).await);
        origin.behave();
        blob.is_whole(&node.get(&blob.path).await);
        origin.stop().await;
        blob.is_whole(&node.get(&blob.path).await);
        node.stop().await;
    }
}

#[tokio::test]
async fn no_bytes_are_never_a_blob_of_some() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    origin
        .when(Ask::blobs())
        .answer(Fault::Reply(Reply::new(200)));
    let node = Node::of(&origin);
    is_blob_unknown(&node.get(&blob.path).await);
    is_blob_unknown(&node.range(&blob.path, "bytes=1000-").await);
    assert_eq!(node.head(&blob.path).await.status, 404);
    origin.behave();
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn one_bad_moment_of_the_only_registry_is_not_seen() {
    for fault in [Fault::Status(500), Fault::Status(502), Fault::Reset] {
        let origin = Origin::start().await;
        let blob = Blob::new(&origin, 1, LENGTH);
        origin.when(Ask::blobs()).once().answer(fault);
        let node = Node::of(&origin);
        blob.is_whole(&node.get(&blob.path).await);
        node.stop().await;
    }
}

#[tokio::test]
async fn the_end_is_withheld_from_every_reader() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    origin
        .when(Ask::blobs())
        .answer(Fault::WrongByteAt(LENGTH as u64 - 1));
    let node = Node::of(&origin);
    let whole = node.get(&blob.path).await;
    assert!(
        whole.body.len() <= LENGTH - WITHHELD,
        "{}",
        whole.body.len()
    );
    for range in ["bytes=1000-", "bytes=-70000", "bytes=0-1048575"] {
        let answer = node.range(&blob.path, range).await;
        assert!(
            answer.ending == Ending::Short || answer.status == 404,
            "{range}"
        );
        assert_ne!(answer.ending, Ending::Reset, "{range}");
    }
    node.stop().await;
}

#[tokio::test]
async fn small_wrong_blobs_are_refused_before_the_first_byte() {
    for length in [0, 1, 1000, WITHHELD] {
        let origin = Origin::start().await;
        let blob = Blob::new(&origin, 1, length);
        origin.when(Ask::blobs()).answer(match length {
            0 => Fault::LongBody(1),
            _ => Fault::WrongByteAt(0),
        });
        let node = Node::of(&origin);
        is_blob_unknown(&node.get(&blob.path).await);
        origin.behave();
        blob.is_whole(&node.get(&blob.path).await);
        node.stop().await;
    }
}

#[tokio::test]
async fn a_wrong_sha512_blob() {
    let origin = Origin::start().await;
    let bytes = content(1, LENGTH);
    let digest = sha512(&bytes);
    origin.push_blob_as(REPOSITORY, &digest, bytes.clone());
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let blob = Blob {
        bytes,
        digest,
        path,
    };
    origin
        .when(Ask::blobs())
        .once()
        .answer(Fault::WrongByteAt(9));
    let node = Node::of(&origin);
    blob.is_not_whole(&node.get(&blob.path).await);
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn the_other_endpoint_is_asked_after_a_lie() {
    let (liar, honest) = (Origin::start().await, Origin::start().await);
    let blob = Blob::new(&liar, 1, LENGTH);
    Blob::new(&honest, 1, LENGTH);
    liar.when(Ask::blobs()).answer(Fault::WrongByteAt(1));
    let node = Node::with(vec![registry("docker.io", &[&liar, &honest])], |_| {});
    let mut answer = node.get(&blob.path).await;
    for _ in 0..3 {
        if answer.ending == Ending::Complete && answer.status == 200 {
            break;
        }
        blob.is_not_whole(&answer);
        answer = node.get(&blob.path).await;
    }
    blob.is_whole(&answer);
    node.stop().await;
}

#[tokio::test]
async fn another_size_than_the_manifest_names() {
    let origin = Origin::start().await;
    let layer = content(3, LENGTH);
    let image = origin.push_image(REPOSITORY, "1", &[&layer]);
    let path = format!("/v2/{REPOSITORY}/blobs/{}", image.layers[0]);
    let node = Node::of(&origin);
    assert_eq!(node.get(&manifest_path("1")).await.status, 200);
    for fault in [Fault::ShortBody(5), Fault::LongBody(5)] {
        origin.behave();
        origin.when(Ask::blobs()).answer(fault);
        is_blob_unknown(&node.get(&path).await);
    }
    origin.behave();
    // The transfer of the longer blob may still be on its way to finding its digest wrong.
    let whole = async {
        while node.get(&path).await.body != layer {
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, whole).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn ranges_of_a_cold_blob_from_a_registry_without_ranges() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 4 << 20);
    origin.when(Ask::blobs()).answer(Fault::WholeForRange);
    for range in ["bytes=3000000-3000009", "bytes=-10", "bytes=2000000-"] {
        let node = Node::of(&origin);
        let answer = node.range(&blob.path, range).await;
        println!("{range}: {} {:?}", answer.status, answer.ending);
        let part = match range {
            "bytes=3000000-3000009" => 3_000_000..3_000_010,
            "bytes=-10" => (4 << 20) - 10..4 << 20,
            _ => 2_000_000..4 << 20,
        };
        assert_eq!((answer.status, answer.ending), (206, Ending::Complete));
        assert!(answer.body == blob.bytes[part], "{range}");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_false_content_range_never_gives_wrong_bytes() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, 4 << 20);
    origin.when(Ask::blobs()).answer(Fault::WrongContentRange);
    let node = Node::of(&origin);
    let answer = node.range(&blob.path, "bytes=3000000-3000009").await;
    match answer.status {
        206 => assert!(answer.body == blob.bytes[3_000_000..3_000_010]),
        _ => is_blob_unknown(&answer),
    }
    node.stop().await;
}
