//! A node attends supernodes over real sockets: what it says, what it hears, and how it loses them.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "clippy knows only test functions as tests"
)]

mod rig;

use std::time::{Duration, Instant};

use oci::Digest;
use rig::{FakeSupernode, Node, next, soon, wish};
use swarm::tracker::{PeerFault, PeerId, Report, Word};
use swarm::wire::{self, node_says, supernode_says};
use swarm::{ByteSet, Layout, Origin, PieceDigest, Tracker as _};

#[tokio::test]
async fn a_flight_hears_how_its_blob_is_distributed() {
    let mut supernode = FakeSupernode::start();
    let node = Node::attending(&[supernode.address.to_string()]);
    let mut stream = supernode.attended("seed").await;
    let _alive = stream.keep_alive();
    node.until_live(1).await;

    let (digest, total) = (Digest::sha256(b"blob"), 1_000_000);
    let layout = Layout::of(total);
    let mut wish = wish(&digest);
    wish.present = Some((total, ByteSet::from_iter([0..10, 20..30])));
    wish.reading_at = 10;
    let mut membership = node.attendance.join(wish).unwrap();
    let want = stream.hears_want().await;
    assert_eq!(want.digest, digest.to_string());
    assert_eq!((want.present, want.total), (vec![0, 10, 20, 30], total));
    assert_eq!(want.repository, "library/thing");
    assert_eq!(want.reading_at, 10);

    let flight = want.flight;
    let piece = PieceDigest::of(b"piece");
    for word in [
        supernode_says::Word::Heard(wire::Heard { flight }),
        rig::accepted(flight, layout),
        supernode_says::Word::Pieces(wire::PieceDigests {
            flight,
            first: 1,
            digests: piece.as_bytes().to_vec(),
        }),
        supernode_says::Word::Peers(wire::Peers {
            peers: vec![wire::Peer {
                handle: 7,
                node: "mate".to_owned(),
                name: "mate.lan".to_owned(),
                address: "10.0.0.9:65003".to_owned(),
            }],
        }),
        supernode_says::Word::Mates(wire::Mates {
            flight,
            peers: vec![7, 0, 99],
        }),
        supernode_says::Word::Instructions(wire::Instructions {
            flight,
            list: [0, 7, 99]
                .map(|from| wire::Instruction {
                    piece: 1,
                    from,
                    order: 3,
                })
                .to_vec(),
        }),
    ] {
        stream.say(word).await;
    }
    assert!(matches!(next(&mut membership).await, Word::Heard));
    assert!(matches!(next(&mut membership).await, Word::Accepted(told) if told == layout));
    let told = next(&mut membership).await;
    assert!(matches!(&told, Word::Pieces(told) if *told == [(layout.piece(1).unwrap(), piece)]));
    let Word::Mates(mates) = next(&mut membership).await else {
        panic!("no mates");
    };
    assert_eq!(mates.len(), 1, "not the supernode, and nobody unknown");
    let Word::Fetch(list) = next(&mut membership).await else {
        panic!("no instructions");
    };
    assert_eq!(list.len(), 2, "not from somebody unknown");
    assert_eq!(list[0].from.origin(), Origin::Supernode);
    assert_eq!(list[0].from.name(), supernode.address.to_string());
    assert_eq!(list[1].from.name(), "10.0.0.9:65003");
    assert_eq!((list[1].piece.get(), list[1].order), (1, 3));
    let same = std::sync::Arc::ptr_eq(&list[1].from, &mates[0]);
    assert!(same, "one peer, whoever speaks of it");
}

#[tokio::test]
async fn what_a_flight_reports_reaches_the_supernode() {
    let mut supernode = FakeSupernode::start();
    let node = Node::attending(&[supernode.address.to_string()]);
    let mut stream = supernode.attended("seed").await;
    let _alive = stream.keep_alive();
    node.until_live(1).await;

    let digest = Digest::sha256(b"blob");
    let layout = Layout::of(1_000_000);
    let mut membership = node.join(&digest).unwrap();
    let flight = stream.hears_want().await.flight;
    stream.say(rig::accepted(flight, layout)).await;
    assert!(matches!(next(&mut membership).await, Word::Accepted(_)));
    let piece = layout.piece(2).unwrap();
    let seed = PeerId("seed".into());
    membership.reports.say(Report::Got {
        piece,
        from: Some(seed.clone()),
    });
    membership.reports.say(Report::Got { piece, from: None });
    membership.reports.say(Report::Failed {
        piece,
        from: seed,
        fault: PeerFault::Wrong,
    });
    membership.reports.say(Report::Failed {
        piece,
        from: PeerId("nobody".into()),
        fault: PeerFault::Wrong,
    });
    membership.reports.say(Report::Complete);

    let mut reports = Vec::new();
    let leave = loop {
        match stream.hears().await {
            node_says::Word::Reports(more) => reports.extend(more.list),
            node_says::Word::Leave(leave) => break leave,
            node_says::Word::Verdict(verdict) => assert!(verdict.reached, "{verdict:?}"),
            other => panic!("{other:?}"),
        }
    };
    let kinds: Vec<_> = reports
        .iter()
        .map(|one| (one.kind(), one.upstream))
        .collect();
    use wire::report::Kind;
    assert_eq!(
        kinds,
        [(Kind::Got, false), (Kind::Got, true), (Kind::Wrong, false)]
    );
    assert!(
        reports
            .iter()
            .all(|one| one.piece == 2 && one.from == 0 && one.flight == flight)
    );
    assert_eq!((leave.flight, leave.complete), (flight, true));

    // Another flight, which gives up.
    drop(membership);
    let membership = node.join(&digest).unwrap();
    let flight = stream.hears_want().await.flight;
    drop(membership);
    let leave = stream
        .hears_of(|word| match word {
            node_says::Word::Leave(leave) => Some(leave),
            _ => None,
        })
        .await;
    assert_eq!((leave.flight, leave.complete), (flight, false));
}

#[tokio::test]
async fn a_frozen_supernode_is_lost_and_comes_back_when_it_speaks() {
    let mut supernode = FakeSupernode::start();
    let node = Node::attending(&[supernode.address.to_string()]);
    let stream = supernode.attended("seed").await;
    let alive = stream.keep_alive();
    node.until_live(1).await;
    let digest = Digest::sha256(b"blob");
    let mut membership = node.join(&digest).unwrap();

    drop(alive);
    let frozen = Instant::now();
    assert!(matches!(next(&mut membership).await, Word::Lost));
    assert!(
        frozen.elapsed() < Duration::from_secs(5),
        "{:?}",
        frozen.elapsed()
    );
    assert!(soon(membership.words.recv()).await.is_none());
    node.until_live(0).await;
    assert!(node.join(&digest).is_none(), "nobody leads now");
    assert_eq!(node.attendance.status()[0].why, "it is silent");

    let mut stream = supernode.attended("seed").await;
    let _alive = stream.keep_alive();
    node.until_live(1).await;
    let _membership = node.join(&digest).unwrap();
    assert_eq!(stream.hears_want().await.digest, digest.to_string());
}

#[tokio::test]
async fn the_next_in_rank_leads_when_the_first_is_gone() {
    let mut supernodes = [FakeSupernode::start(), FakeSupernode::start()];
    let addresses = supernodes.each_ref().map(|one| one.address.to_string());
    let node = Node::attending(&addresses);
    let mut one = supernodes[0].attended("one").await;
    let mut two = supernodes[1].attended("two").await;
    let _alive = (one.keep_alive(), two.keep_alive());
    node.until_live(2).await;

    let first_leads = |number: &u32| {
        let digest = Digest::sha256(&number.to_be_bytes());
        swarm::attend::weight(&digest, "one") > swarm::attend::weight(&digest, "two")
    };
    let digest = |number: u32| Digest::sha256(&number.to_be_bytes());
    let ones = digest((0..).find(first_leads).unwrap());
    let twos = digest((0..).find(|number| !first_leads(number)).unwrap());

    let mut on_one = node.join(&ones).unwrap();
    let mut on_two = node.join(&twos).unwrap();
    assert_eq!(one.hears_want().await.digest, ones.to_string());
    assert_eq!(two.hears_want().await.digest, twos.to_string());

    drop(one);
    assert!(matches!(next(&mut on_one).await, Word::Lost));
    let _again = node.join(&ones).unwrap();
    let want = two.hears_want().await;
    assert_eq!(want.digest, ones.to_string());
    let flight = want.flight - 1;
    two.say(supernode_says::Word::Heard(wire::Heard { flight }))
        .await;
    assert!(
        matches!(next(&mut on_two).await, Word::Heard),
        "the other one is not touched"
    );
}

#[tokio::test]
async fn what_is_held_is_announced_and_announced_again() {
    let mut supernode = FakeSupernode::start();
    let node = Node::attending(&[supernode.address.to_string()]);
    let (kept, gone) = (Digest::sha256(b"kept"), Digest::sha256(b"gone"));
    node.attendance.held(&gone, 5);
    let mut stream = supernode.attended("seed").await;
    let _alive = stream.keep_alive();
    node.until_live(1).await;
    node.attendance.held(&kept, 7);
    node.attendance.gone(&gone);

    let mut heard = Vec::new();
    while heard.len() < 3 {
        match stream.hears().await {
            node_says::Word::Held(held) => {
                heard.extend(held.list.into_iter().map(|one| ("held", one)))
            }
            node_says::Word::Gone(gone) => {
                heard.extend(gone.list.into_iter().map(|one| ("gone", one)))
            }
            _ => {}
        }
    }
    let heard: Vec<_> = heard
        .iter()
        .map(|(what, one)| (*what, one.digest.clone()))
        .collect();
    let (kept, gone) = (kept.to_string(), gone.to_string());
    let order = [
        ("held", gone.clone()),
        ("held", kept.clone()),
        ("gone", gone),
    ];
    assert_eq!(heard, order);

    drop(stream);
    let mut stream = supernode.attended("seed").await;
    let held = stream
        .hears_of(|word| match word {
            node_says::Word::Held(held) => Some(held),
            _ => None,
        })
        .await;
    assert_eq!(held.list.len(), 1);
    assert_eq!(
        (held.list[0].digest.as_str(), held.list[0].total),
        (kept.as_str(), 7)
    );
}

#[tokio::test]
async fn a_flight_that_does_not_read_is_dropped_and_told() {
    let mut supernode = FakeSupernode::start();
    let node = Node::attending(&[supernode.address.to_string()]);
    let mut stream = supernode.attended("seed").await;
    let _alive = stream.keep_alive();
    node.until_live(1).await;
    let mut membership = node.join(&Digest::sha256(b"blob")).unwrap();
    let flight = stream.hears_want().await.flight;
    for _ in 0..2000 {
        stream
            .say(supernode_says::Word::Heard(wire::Heard { flight }))
            .await;
    }
    let leave = stream
        .hears_of(|word| match word {
            node_says::Word::Leave(leave) => Some(leave),
            _ => None,
        })
        .await;
    assert!(!leave.complete);
    let mut last = None;
    while let Some(word) = soon(membership.words.recv()).await {
        last = Some(word);
    }
    assert!(matches!(last, Some(Word::Lost)), "{last:?}");
}

#[tokio::test]
async fn a_supernode_at_a_wrong_address_is_named() {
    let mut supernode = FakeSupernode::start();
    let node = Node::attending(&[supernode.address.to_string()]);
    // The port is right and the host is not: on loopback another address of it is nobody's.
    let port = supernode.address.port();
    let mut stream = supernode
        .attended_at("seed", format!("127.0.0.2:{port}"))
        .await;
    let _alive = stream.keep_alive();
    let verdict = stream
        .hears_of(|word| match word {
            node_says::Word::Verdict(verdict) => Some(verdict),
            _ => None,
        })
        .await;
    assert!(!verdict.reached && !verdict.error.is_empty(), "{verdict:?}");
    assert_eq!(verdict.instead, supernode.address.to_string());
    let told = wire::AddressVerdict {
        address: "10.9.9.9:65003".to_owned(),
        reached: false,
        instead: "127.0.0.1:65003".to_owned(),
        error: "no route".to_owned(),
    };
    stream.say(supernode_says::Word::Verdict(told)).await;
    soon(
        node.attendance
            .until(|all| all[0].ours.is_some() && all[0].theirs.is_some()),
    )
    .await;
    let status = &node.attendance.status()[0];
    let ours = status.ours.as_ref().unwrap();
    assert_eq!(ours.usable(), "127.0.0.1:65003");
    assert_eq!(
        status.theirs.as_ref().unwrap().usable(),
        supernode.address.to_string()
    );

    // Pieces are fetched from the address that works.
    let mut membership = node.join(&Digest::sha256(b"blob")).unwrap();
    let flight = stream.hears_want().await.flight;
    let layout = Layout::of(10);
    stream.say(rig::accepted(flight, layout)).await;
    let list = vec![wire::Instruction::default()];
    stream
        .say(supernode_says::Word::Instructions(wire::Instructions {
            flight,
            list,
        }))
        .await;
    next(&mut membership).await;
    let Word::Fetch(list) = next(&mut membership).await else {
        panic!("no instructions");
    };
    assert_eq!(list[0].from.name(), supernode.address.to_string());
}

#[tokio::test]
async fn a_preheat_is_passed_on_and_answered() {
    let mut supernode = FakeSupernode::start();
    let mut node = Node::attending(&[supernode.address.to_string()]);
    let mut stream = supernode.attended("seed").await;
    let _alive = stream.keep_alive();
    for task in [1, 2] {
        let fetch = wire::Fetch {
            registry: "docker.io".to_owned(),
            repository: "library/thing".to_owned(),
            digest: "sha256:00".to_owned(),
            manifest: true,
            task,
        };
        stream.say(supernode_says::Word::Fetch(fetch)).await;
    }
    let preheat = soon(node.preheats.recv()).await.unwrap();
    assert!(preheat.is_manifest());
    assert_eq!(preheat.repository(), "library/thing");
    preheat.done(42);
    drop(soon(node.preheats.recv()).await.unwrap());
    let fetched = async |stream: &mut rig::FakeStream| {
        stream
            .hears_of(|word| match word {
                node_says::Word::Fetched(fetched) => Some(fetched),
                _ => None,
            })
            .await
    };
    let first = fetched(&mut stream).await;
    assert_eq!((first.task, first.bytes, first.error.as_str()), (1, 42, ""));
    let second = fetched(&mut stream).await;
    assert!(second.task == 2 && !second.error.is_empty(), "{second:?}");
}

#[tokio::test]
async fn its_tasks_end_with_the_token() {
    let mut supernode = FakeSupernode::start();
    let node = Node::attending(&[supernode.address.to_string(), "127.0.0.1:1".to_owned()]);
    let _stream = supernode.attended("seed").await;
    node.until_live(1).await;
    let mut membership = node.join(&Digest::sha256(b"blob")).unwrap();
    node.shutdown.cancel();
    soon(node.attendance.ended()).await;
    assert!(matches!(next(&mut membership).await, Word::Lost));
    assert!(node.join(&Digest::sha256(b"blob")).is_none());
}
