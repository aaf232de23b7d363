//! Transfers that break off: taken up again at the offset, or ended with FIN; never with RST.

use oci_conformance::origin::Outcome;
use oci_conformance::raw::{self, Ending};
use oci_conformance::{Ask, Fault, Gate, Origin};

use crate::rig::{Blob, Node, WITHHELD, registry};

const LENGTH: usize = 3 << 20;
const CUT: u64 = 1 << 20;

#[tokio::test]
async fn a_cut_is_resumed_by_range_and_nobody_sees_it() {
    for fault in [Fault::CutFin(CUT), Fault::CutRst(CUT)] {
        println!("{fault:?}");
        let origin = Origin::start().await;
        let blob = Blob::new(&origin, 1, LENGTH);
        origin.when(Ask::blobs().get()).once().answer(fault);
        let node = Node::of(&origin);
        blob.is_whole(&node.get(&blob.path).await);
        let seen = origin.seen(Ask::blob(&blob.digest).get());
        assert_eq!(seen.len(), 2);
        let resumed = seen[1].range().unwrap();
        let from: u64 = resumed
            .strip_prefix("bytes=")
            .unwrap()
            .trim_end_matches('-')
            .parse()
            .unwrap();
        assert!(from <= CUT && from > 0, "{resumed}");
        // What is held now is right.
        blob.is_whole(&node.get(&blob.path).await);
        assert_eq!(origin.count(Ask::blobs().get()), 2);
        node.stop().await;
    }
}

#[tokio::test]
async fn many_cuts_with_progress_are_survived() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    origin
        .when(Ask::blobs().get())
        .times(5)
        .answer(Fault::CutFin(400_000));
    let node = Node::of(&origin);
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn a_resume_that_is_answered_whole_gives_the_right_bytes() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    origin
        .when(Ask::blobs().get())
        .once()
        .answer(Fault::CutFin(CUT));
    origin.when(Ask::blobs().get()).answer(Fault::WholeForRange);
    let node = Node::of(&origin);
    blob.is_whole(&node.get(&blob.path).await);
    node.stop().await;
}

#[tokio::test]
async fn a_resume_with_a_false_content_range_gives_no_wrong_byte() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    origin
        .when(Ask::blobs().get())
        .once()
        .answer(Fault::CutFin(CUT));
    origin
        .when(Ask::blobs().get())
        .answer(Fault::WrongContentRange);
    let node = Node::of(&origin);
    let answer = node.get(&blob.path).await;
    assert!(answer.body == blob.bytes[..answer.body.len()]);
    if answer.body.len() < LENGTH {
        blob.is_not_whole(&answer);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_cut_without_a_way_on_ends_with_fin() {
    for then in [
        Fault::Status(404),
        Fault::Status(500),
        Fault::HangUp,
        Fault::Reset,
    ] {
        println!("{then:?}");
        let origin = Origin::start().await;
        let blob = Blob::new(&origin, 1, LENGTH);
        origin
            .when(Ask::blobs().get())
            .once()
            .answer(Fault::CutFin(CUT));
        origin.when(Ask::blobs()).answer(then);
        let node = Node::of(&origin);
        let answer = node.get(&blob.path).await;
        assert_eq!((answer.status, answer.ending), (200, Ending::Short));
        assert!(answer.body == blob.bytes[..answer.body.len()]);
        assert!(answer.body.len() <= LENGTH - WITHHELD);
        // The client comes back with a Range, as containerd and dockerd do.
        origin.behave();
        let rest = node
            .range(&blob.path, &format!("bytes={}-", answer.body.len()))
            .await;
        assert_eq!((rest.status, rest.ending), (206, Ending::Complete));
        assert!(rest.body == blob.bytes[answer.body.len()..]);
        node.stop().await;
    }
}

#[tokio::test]
async fn the_next_endpoint_goes_on_at_the_offset() {
    for fault in [Fault::CutFin(CUT), Fault::CutRst(CUT)] {
        let (first, second) = (Origin::start().await, Origin::start().await);
        let blob = Blob::new(&first, 1, LENGTH);
        Blob::new(&second, 1, LENGTH);
        first.when(Ask::blobs()).answer(fault.clone());
        let node = Node::with(vec![registry("docker.io", &[&first, &second])], |_| {});
        blob.is_whole(&node.get(&blob.path).await);
        let sent = first.body_bytes(Ask::blobs()) + second.body_bytes(Ask::blobs());
        // At an RST the registry's own kernel throws away what it had taken to send.
        let lost = if matches!(fault, Fault::CutRst(_)) {
            CUT
        } else {
            0
        };
        assert!(
            sent - lost < LENGTH as u64 * 12 / 10,
            "{sent} bytes from both"
        );
        node.stop().await;
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_taken_up_again() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    origin
        .when(Ask::blobs().get())
        .once()
        .answer(Fault::StallAt(CUT));
    let node = Node::of(&origin);
    blob.is_whole(&node.get(&blob.path).await);
    assert_eq!(
        origin.seen(Ask::blobs().get())[0].ended().await,
        Outcome::ClientLeft
    );
    node.stop().await;
}

#[tokio::test]
async fn a_short_stall_costs_nothing() {
    let origin = Origin::start().await;
    let blob = Blob::new(&origin, 1, LENGTH);
    let gate = Gate::closed();
    origin.when(Ask::blobs()).answer(Fault::Pace(gate.clone()));
    gate.allow(CUT);
    let node = Node::of(&origin);
    let mut exchange = raw::get(node.addr, &blob.path).open().await;
    assert!(exchange.at_least(500_000).await.len() >= 500_000);
    gate.open();
    blob.is_whole(&exchange.rest().await);
    assert_eq!(origin.count(Ask::blobs()), 1);
    node.stop().await;
}
