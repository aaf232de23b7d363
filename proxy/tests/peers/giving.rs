//! What a node gives: only what is shared, only what is there, as soon as it is there.

use std::time::{Duration, Instant};

use oci::Digest;
use proxy::peers::GiveOptions;
use swarm::{Fault, FetchRange, Origin};

use crate::rig::{Gated, GivingNode, PIECE, body, content, get, peer_at, until, within};

#[tokio::test]
async fn pieces_of_a_shared_blob_are_given_by_sendfile_over_one_connection() {
    let node = GivingNode::start();
    let blob = content(3 * PIECE as usize + 77, 1);
    let digest = node.share(&blob);
    let peer = node.peer();
    for start in [0, PIECE, 2 * PIECE, 3 * PIECE] {
        let end = (start + PIECE).min(blob.len() as u64);
        let piece = get(&*peer, &digest, start..end).await.unwrap();
        assert!(piece == blob.slice(start as usize..end as usize), "{start}");
    }
    let whole = within(peer.fetch(&digest, FetchRange::All)).await.unwrap();
    assert_eq!((whole.total, whole.start), (blob.len() as u64, 0));
    assert!(body(whole).await.unwrap().0 == blob);
    assert_eq!(node.count(|it| &it.accepted), 1);
    let given = 2 * blob.len() as u64;
    assert_eq!(node.count(|it| &it.sendfile_bytes), given);
    assert_eq!(node.metrics.snapshot().given_bytes, given);
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_shared_never_leaves() {
    let node = GivingNode::start();
    let blob = content(PIECE as usize, 2);
    let digest = node.hold(&blob);
    let peer = node.peer();
    let whole = 0..blob.len() as u64;
    for awaited in [false, true] {
        let source = peer.piece_source(0);
        let source = if awaited { &*source } else { &*peer as _ };
        let refused = get(source, &digest, whole.clone()).await.unwrap_err();
        assert_eq!(refused.fault, Fault::NotFound);
    }
    let present = within(peer.present(&digest)).await.unwrap();
    assert!(present.is_empty());
    assert_eq!(node.metrics.snapshot().given_bytes, 0);
    // The same question is answered once it is shared, so the refusals were about that.
    node.engine.share(&digest);
    assert!(get(&*peer, &digest, whole).await.unwrap() == blob);
    node.stop().await;
}

#[tokio::test]
async fn half_a_blob_is_given_as_far_as_it_is_there() {
    let node = GivingNode::start();
    let blob = content(4 * PIECE as usize, 3);
    let source = Gated::new(&blob, 2 * PIECE);
    let (digest, _reader) = node.bring(&source).await;
    let offered = || node.engine.offer(&digest).unwrap().present();
    until("half of it is there", || offered().contains(0..2 * PIECE)).await;
    let peer = node.peer();
    let first = get(&*peer, &digest, PIECE..2 * PIECE).await.unwrap();
    assert!(first == blob.slice(PIECE as usize..2 * PIECE as usize));
    let refused = get(&*peer, &digest, 2 * PIECE..3 * PIECE).await;
    assert_eq!(refused.unwrap_err().fault, Fault::NotFound);
    let present = within(peer.present(&digest)).await.unwrap();
    assert_eq!(present, swarm::ByteSet::of(0..2 * PIECE));
    // To be asked is no reason to ask.
    assert_eq!(source.fetches(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_request_is_held_until_its_piece_comes() {
    let node = GivingNode::start();
    let blob = content(4 * PIECE as usize, 4);
    let source = Gated::new(&blob, PIECE);
    let (digest, _reader) = node.bring(&source).await;
    let seed = peer_at(node.address, Origin::Supernode);
    let piece = seed.piece_source(7);
    let asking = async { get(&*piece, &digest, 2 * PIECE..3 * PIECE).await };
    let opening = async {
        until("the request is there", || {
            node.count(|it| &it.in_flight) == 1
        })
        .await;
        source.open();
    };
    let (piece, ()) = tokio::join!(asking, opening);
    assert!(piece.unwrap() == blob.slice(2 * PIECE as usize..3 * PIECE as usize));
    node.stop().await;
}

#[tokio::test]
async fn a_request_for_a_piece_that_does_not_come_is_let_go() {
    let node = GivingNode::start();
    let blob = content(4 * PIECE as usize, 5);
    let source = Gated::new(&blob, PIECE);
    let (digest, _reader) = node.bring(&source).await;
    let started = Instant::now();
    let piece = node.peer().piece_source(0);
    let refused = get(&*piece, &digest, 2 * PIECE..3 * PIECE).await;
    assert_eq!(refused.unwrap_err().fault, Fault::NotFound);
    assert!(started.elapsed() >= Duration::from_millis(900), "not held");
    node.stop().await;
}

#[tokio::test]
async fn a_blob_that_becomes_known_while_it_is_asked_for_is_given() {
    let node = GivingNode::start();
    // On a busy machine it may become known too late; then the next one shows it.
    for seed in 100..120 {
        let blob = content(PIECE as usize, seed);
        let digest = Digest::sha256(&blob);
        let piece = node.peer().piece_source(0);
        let asking = async { get(&*piece, &digest, 0..PIECE).await };
        let sharing = async {
            until("the request is there", || {
                node.count(|it| &it.in_flight) == 1
            })
            .await;
            node.share(&blob);
        };
        let (piece, ()) = tokio::join!(asking, sharing);
        match piece {
            Ok(piece) => {
                assert!(piece == blob);
                return node.stop().await;
            }
            Err(error) => assert_eq!(error.fault, Fault::NotFound),
        }
        until("the request is over", || {
            node.count(|it| &it.in_flight) == 0
        })
        .await;
    }
    panic!("never given");
}

#[tokio::test]
async fn what_is_given_is_bounded_in_rate() {
    const RATE: u64 = 8 << 20;
    let node = GivingNode::giving(GiveOptions {
        upload_limit: Some(RATE),
        ..GiveOptions::default()
    });
    let blob = content(4 << 20, 6);
    let digest = node.share(&blob);
    let started = Instant::now();
    let half = blob.len() as u64 / 2;
    let (one, two) = (node.peer(), node.peer());
    // Two at a time share the rate.
    let both = tokio::join!(
        get(&*one, &digest, 0..half),
        get(&*two, &digest, half..2 * half)
    );
    assert!(both.0.unwrap() == blob.slice(..half as usize));
    assert!(both.1.unwrap() == blob.slice(half as usize..));
    // 4 MiB at 8 MiB/s, less the burst of 100 ms.
    assert!(
        started.elapsed() >= Duration::from_millis(390),
        "{:?}",
        started.elapsed()
    );
    node.stop().await;
}

#[tokio::test]
async fn of_those_who_wait_the_smaller_order_goes_first() {
    let node = GivingNode::giving(GiveOptions {
        // The first one takes a while.
        upload_limit: Some(512 << 10),
        responses_max: 1,
        turn_wait: Duration::from_secs(60),
    });
    let blob = content(4 * PIECE as usize, 8);
    let digest = node.share(&blob);
    let asked = |count: u64| node.count(|it| &it.in_flight) == count;
    let done = std::sync::Mutex::new(Vec::new());
    let ask = async |order: u64, before: u64, bytes: u64| {
        until("those before have asked", || asked(before)).await;
        let piece = node.peer().piece_source(order);
        get(&*piece, &digest, 0..bytes).await.unwrap();
        done.lock().unwrap().push(order);
    };
    tokio::join!(ask(5, 0, 2 * PIECE), ask(9, 1, PIECE), ask(1, 2, PIECE));
    assert_eq!(*done.lock().unwrap(), [5, 1, 9]);
    node.stop().await;
}

#[tokio::test]
async fn wrong_requests_are_named_and_nothing_else_is_there() {
    let node = GivingNode::start();
    let digest = node.share(&content(1000, 7));
    let blob = format!("/v2/swarm/blobs/{digest}");
    for (method, path, range, status) in [
        ("GET", blob.as_str(), "bytes=0-9", 206),
        ("GET", &blob, "bytes=990-2000", 206),
        ("GET", &blob, "bytes=1000-", 416),
        ("GET", &blob, "bytes=0-1,5-6", 400),
        ("HEAD", &blob, "bytes=0-9", 200),
        ("DELETE", &blob, "bytes=0-9", 405),
        ("GET", "/v2/swarm/blobs/sha256:12", "bytes=0-9", 400),
        ("GET", "/v2/", "bytes=0-9", 404),
        ("GET", "/v2/library/alpine/manifests/3", "bytes=0-9", 404),
    ] {
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let name = format!("{method} {path} {range}");
        let lines = [("range", range)];
        let answer = within(crate::node::ask(node.address, method, path, &lines)).await;
        assert_eq!(answer.status.as_u16(), status, "{name}");
        if status == 206 {
            assert!(answer.header("content-range").ends_with("/1000"), "{name}");
        }
    }
    node.stop().await;
}
