//! A flight among other nodes, over in-memory leaders and peers: instructions, wrong pieces, leaders
//! that are silent, refuse or die, and mates that go on without one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

#[path = "../flight/origin.rs"]
mod origin;
mod pond;

use std::sync::Arc;

use origin::{Scripted, content};
use pond::{Lead, Pond, digest_of, soon, until};
use swarm::tracker::{PeerFault, Report, Word};
use swarm::{Fault, How, Layout};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn pieces_come_from_peers_as_told_and_never_from_upstream() {
    let blob = content(3 * MIB + 5);
    let mut pond = Pond::new(1, &blob);
    let upstream = Scripted::new(&blob);
    let reading = pond.read(0, &upstream, "library/app");
    let mut lead = pond.lead().await;
    assert_eq!(lead.wish.registry, "registry.example");
    assert_eq!(lead.wish.repository, "library/app");
    lead.accept().await;
    let holder = pond.holder("holder");
    // In an order of the leader's own, digests after the instructions.
    let count = lead.layout.count();
    lead.fetch((0..count).rev(), &holder).await;
    lead.digests(0..count).await;
    let (got, how) = soon(reading).await.unwrap();
    assert_eq!((got, how), (blob.to_vec(), How::Shared));
    assert_eq!(upstream.requests(), []);
    let reports = lead.reports_until(|r| *r == Report::Complete).await;
    let from_holder = |r: &&Report| matches!(r, Report::Got { from: Some(_), .. });
    assert_eq!(reports.iter().filter(from_holder).count(), count as usize);
    assert_eq!(holder.asked(), count as usize, "each piece once");
    assert!(pond.engines[0].offer(&digest_of(&blob)).is_some(), "shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_lies_is_reported_and_its_piece_comes_from_another() {
    let blob = content(2 * MIB);
    let mut pond = Pond::new(1, &blob);
    let upstream = Scripted::new(&blob);
    let reading = pond.read(0, &upstream, "library/app");
    let mut lead = pond.lead().await;
    lead.accept().await;
    let count = lead.layout.count();
    lead.digests(0..count).await;
    let (liar, honest) = (pond.liar("liar"), pond.holder("honest"));
    lead.fetch(0..1, &liar).await;
    lead.fetch(1..count, &honest).await;
    let wrong = |r: &Report| {
        matches!(
            r,
            Report::Failed {
                fault: PeerFault::Wrong,
                ..
            }
        )
    };
    let reports = lead.reports_until(wrong).await;
    let named = reports.iter().any(
        |r| matches!(r, Report::Failed { from, piece, .. } if *from == liar.id && piece.get() == 0),
    );
    assert!(named, "{reports:?}");
    lead.fetch(0..1, &honest).await;
    assert_eq!(soon(reading).await.unwrap().0, blob.to_vec());
    assert_eq!(upstream.requests(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_silent_refuses_or_is_not_there_costs_nothing_but_time() {
    let blob = content(MIB);
    for said in [
        None,
        Some(Word::Refused {
            why: "private".into(),
        }),
        Some(Word::Lost),
    ] {
        let mut pond = Pond::new(1, &blob);
        let upstream = Scripted::new(&blob);
        let reading = pond.read(0, &upstream, "library/app");
        let lead = pond.lead().await;
        pond.leaderless();
        if let Some(word) = &said {
            lead.say(word.clone()).await;
        }
        let (got, how) = soon(reading).await.unwrap();
        assert_eq!((got, how), (blob.to_vec(), How::Started), "{said:?}");
        assert_eq!(upstream.sent(), MIB as u64);
        let offer = pond.engines[0].offer(&digest_of(&blob));
        assert!(offer.is_none(), "nobody said that it is public");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_another_repository_is_not_told_that_it_may_read() {
    let blob = content(2 * MIB);
    let mut pond = Pond::new(1, &blob);
    let upstream = Scripted::new(&blob);
    let first = pond.read(0, &upstream, "library/app");
    let mut lead = pond.lead().await;
    lead.accept().await;
    let other = pond.read(0, &upstream, "secret/app");
    let holder = pond.holder("holder");
    let count = lead.layout.count();
    lead.digests(0..count).await;
    lead.fetch(0..count, &holder).await;
    assert_eq!(soon(first).await.unwrap().1, How::Shared);
    let how = soon(other).await.unwrap().1;
    assert!(matches!(how, How::Joined | How::Held), "{how:?}");
}

/// Three nodes, of which each has a third of the first half; the leader goes, upstream has the rest.
#[tokio::test(flavor = "multi_thread")]
async fn mates_without_a_leader_fetch_each_missing_piece_once() {
    let blob = content(12 * MIB);
    let mut pond = Pond::new(3, &blob);
    let upstreams: Vec<_> = (0..3).map(|_| Scripted::new(&blob)).collect();
    let readings: Vec<_> = (0..3)
        .map(|n| pond.read(n, &upstreams[n], "library/app"))
        .collect();
    let mut leads: Vec<Lead> = Vec::new();
    for _ in 0..3 {
        leads.push(pond.lead().await);
    }
    leads.sort_by_key(|lead| lead.node);
    let holder = pond.holder("seed");
    let count = leads[0].layout.count();
    for lead in &mut leads {
        lead.accept().await;
        lead.digests(0..count / 2).await;
        lead.mates(pond.mates(lead.node)).await;
        let node = u32::try_from(lead.node).unwrap();
        lead.fetch((0..count / 2).filter(|piece| piece % 3 == node), &holder)
            .await;
        let mut got = 0;
        while got < count / 6 {
            got += u32::from(matches!(lead.report().await, Report::Got { .. }));
        }
    }
    pond.leaderless();
    for lead in &leads {
        lead.say(Word::Lost).await;
    }
    for reading in readings {
        assert_eq!(soon(reading).await.unwrap().0, blob.to_vec());
    }
    let sent: u64 = upstreams.iter().map(|upstream| upstream.sent()).sum();
    let missing = (blob.len() / 2) as u64;
    // Views of the mates differ for a moment, and a slow machine makes some impatient; without the
    // division it would be three times the missing half.
    assert!(
        (missing..missing * 2).contains(&sent),
        "{sent} of {missing}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mates_that_have_the_bytes_are_enough_when_upstream_is_gone_too() {
    let blob = content(4 * MIB);
    let mut pond = Pond::new(1, &blob);
    let upstream = Scripted::new(&blob);
    upstream.refuse(Fault::Unavailable("down".into()));
    let reading = pond.read(0, &upstream, "library/app");
    let mut lead = pond.lead().await;
    lead.accept().await;
    lead.mates(vec![pond.holder("mate")]).await;
    pond.leaderless();
    lead.say(Word::Lost).await;
    assert_eq!(soon(reading).await.unwrap().0, blob.to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_mate_without_a_leader_are_never_given_whole() {
    let blob = content(4 * MIB);
    let mut pond = Pond::new(1, &blob);
    let upstream = Scripted::new(&blob);
    let reading = pond.read(0, &upstream, "library/app");
    let mut lead = pond.lead().await;
    lead.accept().await;
    lead.mates(vec![pond.liar("liar")]).await;
    pond.leaderless();
    lead.say(Word::Lost).await;
    let refused = soon(reading).await;
    assert!(refused.is_err(), "the digest cannot fit");
    until(|| pond.engines[0].stats().flights_in_progress == 0).await;
    assert!(pond.engines[0].held(&digest_of(&blob)).is_none());
    // The next pull has no mates and succeeds from upstream.
    let (got, _) = soon(pond.read(0, &upstream, "library/app")).await.unwrap();
    assert_eq!(got, blob.to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_gives_what_has_come_and_waits_for_what_is_coming() {
    let blob = content(2 * MIB);
    let mut pond = Pond::new(1, &blob);
    let upstream = Scripted::new(&blob);
    let reading = pond.read(0, &upstream, "library/app");
    let mut lead = pond.lead().await;
    lead.accept().await;
    let layout = Layout::of(blob.len() as u64);
    lead.digests(0..layout.count()).await;
    let holder = pond.holder("holder");
    lead.fetch(1..2, &holder).await;
    let digest = digest_of(&blob);
    until(|| pond.engines[0].offer(&digest).is_some()).await;
    let offer = pond.engines[0].offer(&digest).unwrap();
    let range = |n| layout.range(layout.piece(n).unwrap());
    assert!(offer.wait(range(1), pond::PATIENCE).await);
    assert!(!offer.present().contains(range(0)));
    let waiting = tokio::spawn({
        let (offer, first) = (offer.clone(), range(0));
        async move { offer.wait(first, pond::PATIENCE).await }
    });
    lead.fetch([0].into_iter().chain(2..layout.count()), &holder)
        .await;
    assert!(soon(waiting).await.unwrap());
    assert_eq!(upstream.requests(), [], "an offer fetches nothing");
    let _ = soon(reading).await.unwrap();
    let _: Arc<Scripted> = upstream;
}
