//! What nodes say of their flights and of what they hold.

use std::collections::BTreeSet;

use oci::Digest;
use proxy::place::Place;
use swarm::tracker::PeerFault;
use swarm::wire::{self, Report, Want, refused::Reason, report::Kind, supernode_says::Word};

use super::blob::{Blob, Feed, Had, Member, Rights, Stage};
use super::{Book, Task, Turn};
use crate::scheduler::{BlobKey, Event, NodeKey, Now};

/// How long it is believed that the seed still holds a blob that it held.
const HELD_BELIEVED: Now = Now::from_secs(30);
/// Flights of one node at a time; a container runtime pulls a few layers of a few images.
const FLIGHTS_MAX: usize = 1024;

impl Book {
    pub(super) fn wants(&mut self, key: NodeKey, want: &Want, turn: &mut Turn) {
        let flight = want.flight;
        turn.words.push((key, Word::Heard(wire::Heard { flight })));
        let (digest, place) = match parse(want) {
            Ok(parsed) => parsed,
            Err(why) => return turn.refuse(key, flight, Reason::NotShared, why),
        };
        let blob = self.enter_blob(digest);
        let Some(node) = self.nodes.get_mut(key.0) else {
            return;
        };
        let Some(known) = self.blobs.get_mut(blob.0) else {
            return;
        };
        if known.members.contains_key(&key) || node.flights.contains_key(&flight) {
            let why = "this node takes part already";
            return turn.refuse(key, flight, Reason::Unavailable, why);
        }
        if node.flights.len() >= FLIGHTS_MAX {
            let why = "this node takes part in too much";
            return turn.refuse(key, flight, Reason::Unavailable, why);
        }
        node.flights.insert(flight, blob);
        let stage = Stage::Waiting(Had::of(want));
        let member = Member {
            flight,
            place: place.clone(),
            stage,
        };
        known.members.insert(key, member);
        self.admit(key, blob, &place, turn);
    }

    /// Lets a waiting member in, or asks upstream first.
    fn admit(&mut self, key: NodeKey, blob: BlobKey, place: &Place, turn: &mut Turn) {
        let now = self.now;
        let Some(known) = self.blobs.get_mut(blob.0) else {
            return;
        };
        let others = self
            .holders
            .get(&known.digest)
            .is_some_and(|all| !all.is_empty());
        let fed = match known.feed {
            Feed::Running => true,
            Feed::Held(seen) => now < seen + HELD_BELIEVED,
            Feed::None => false,
        };
        let served = known.layout.is_some() && (fed || others && known.is_complete());
        if served && known.is_public(place, now) {
            self.accept(key, blob, turn);
            return;
        }
        if known.places.get(place) == Some(&Rights::Asking) {
            return;
        }
        known.places.insert(place.clone(), Rights::Asking);
        let confirm = known.feed == Feed::Running || others && known.is_complete();
        turn.tasks.push(match confirm {
            true => Task::Confirm(known.digest, place.clone()),
            false => Task::Read(known.digest, place.clone()),
        });
    }

    /// Everything that a member needs to take part.
    pub(super) fn accept(&mut self, key: NodeKey, blob: BlobKey, turn: &mut Turn) {
        let Some(known) = self.blobs.get_mut(blob.0) else {
            return;
        };
        let (Some(layout), Some(member)) = (known.layout, known.members.get_mut(&key)) else {
            return;
        };
        let taking_part = Stage::In {
            digests: 0,
            mates: BTreeSet::new(),
        };
        let Stage::Waiting(had) = std::mem::replace(&mut member.stage, taking_part) else {
            return;
        };
        let accepted = wire::Accepted {
            flight: member.flight,
            total: layout.total(),
            piece_size: u32::try_from(layout.piece_size()).unwrap_or(u32::MAX),
        };
        turn.words.push((key, Word::Accepted(accepted)));
        let digests = known.catch_up(key);
        turn.words
            .extend(digests.into_iter().map(|word| (key, word)));
        known.crowd_grew = true;
        let (present, reading_at) = had.pieces(layout);
        // An empty blob has no pieces, and nothing to be scheduled.
        if let Some(reading_at) = reading_at {
            self.decide(Event::Joined {
                node: key,
                blob,
                present,
                reading_at,
            });
        }
    }

    /// Refuses the members that wait; of one place, or all of them.
    pub(super) fn refuse_waiting(
        &mut self,
        blob: BlobKey,
        place: Option<&Place>,
        (reason, why): (Reason, &str),
        turn: &mut Turn,
    ) {
        let Some(known) = self.blobs.get_mut(blob.0) else {
            return;
        };
        let refused = |member: &Member| {
            matches!(member.stage, Stage::Waiting(_)) && place.is_none_or(|it| *it == member.place)
        };
        let keys: Vec<_> = known
            .members
            .iter()
            .filter(|(_, member)| refused(member))
            .map(|(key, member)| (*key, member.flight))
            .collect();
        for (key, flight) in keys {
            known.members.remove(&key);
            if let Some(node) = self.nodes.get_mut(key.0) {
                node.flights.remove(&flight);
            }
            turn.refuse(key, flight, reason, why);
        }
    }

    pub(super) fn reports(&mut self, key: NodeKey, report: &Report, turn: &mut Turn) {
        let Some(node) = self.node(key) else { return };
        let Some(blob) = node.flights.get(&report.flight).copied() else {
            return;
        };
        let from = NodeKey(report.from);
        // A number that means somebody else by now is nobody's.
        let told = node.told.get(&from).copied();
        let named = told.is_some() && told == self.node(from).map(|peer| peer.edition);
        let known = from == NodeKey::SEED || named;
        let layout = self.blobs.get(blob.0).and_then(|blob| blob.layout);
        let Some(piece) = layout.and_then(|layout| layout.piece(report.piece)) else {
            return;
        };
        let from = (known && !report.upstream).then_some(from);
        let (fault, from) = match (report.kind(), from) {
            (Kind::Unknown, _) => return,
            (Kind::Got, from) => {
                return self.decide(Event::Got {
                    node: key,
                    blob,
                    piece,
                    from,
                });
            }
            (_, None) => return,
            (Kind::Unreachable, Some(from)) => (PeerFault::Unreachable, from),
            (Kind::Missing, Some(from)) => (PeerFault::Missing, from),
            (Kind::Wrong, Some(from)) => (PeerFault::Wrong, from),
            (Kind::Slow, Some(from)) => (PeerFault::Slow, from),
        };
        self.decide(Event::Failed {
            node: key,
            blob,
            piece,
            from,
            fault,
        });
        if from == NodeKey::SEED && fault == PeerFault::Missing {
            self.seed_lacks(blob, turn);
        }
    }

    pub(super) fn leaves(&mut self, key: NodeKey, leave: wire::Leave, turn: &mut Turn) {
        let Some(node) = self.nodes.get_mut(key.0) else {
            return;
        };
        let Some(blob) = node.flights.remove(&leave.flight) else {
            return;
        };
        let Some(known) = self.blobs.get_mut(blob.0) else {
            return;
        };
        let member = known.members.remove(&key);
        let took_part = member.is_some_and(|member| matches!(member.stage, Stage::In { .. }));
        if !took_part {
            return;
        }
        if leave.complete {
            node.holds.insert(known.digest);
            self.holders.entry(known.digest).or_default().insert(key);
        }
        self.decide(Event::Left {
            node: key,
            blob,
            keeps: leave.complete,
        });
        self.revive(blob, turn);
    }

    pub(super) fn holds(&mut self, key: NodeKey, held: wire::Holdings) {
        for holding in held.list {
            let Ok(digest) = holding.digest.parse::<Digest>() else {
                continue;
            };
            let Some(node) = self.nodes.get_mut(key.0) else {
                return;
            };
            node.holds.insert(digest);
            self.holders.entry(digest).or_default().insert(key);
            let blob = self.by_digest.get(&digest).copied();
            let known = blob.and_then(|blob| self.blobs.get_mut(blob.0));
            // A node that takes part tells what it has piece by piece.
            if let (Some(blob), Some(known)) = (blob, known)
                && known.layout.is_some_and(|cut| cut.total() == holding.total)
                && !known.members.contains_key(&key)
            {
                known.crowd_grew = true;
                self.decide(Event::Holds { node: key, blob });
            }
        }
    }

    pub(super) fn lacks(&mut self, key: NodeKey, gone: &wire::Holdings, turn: &mut Turn) {
        for digest in gone.list.iter().filter_map(|one| one.digest.parse().ok()) {
            if let Some(node) = self.nodes.get_mut(key.0) {
                node.holds.remove(&digest);
            }
            self.drop_holder(&digest, key);
            let Some(blob) = self.by_digest.get(&digest).copied() else {
                continue;
            };
            let takes_part = |known: &Blob| known.members.contains_key(&key);
            if self
                .blobs
                .get(blob.0)
                .is_some_and(|known| !takes_part(known))
            {
                self.decide(Event::Gone { node: key, blob });
                self.revive(blob, turn);
            }
        }
    }
}

impl Turn {
    fn refuse(&mut self, key: NodeKey, flight: u32, reason: Reason, why: &str) {
        let word = Word::Refused(wire::Refused {
            flight,
            reason: reason.into(),
            why: why.to_owned(),
        });
        self.words.push((key, word));
    }
}

fn parse(want: &Want) -> Result<(Digest, Place), &'static str> {
    let digest = want.digest.parse().map_err(|_| "not a digest")?;
    let registry = want.registry.parse().map_err(|_| "not a registry's name")?;
    let repository = want
        .repository
        .parse()
        .map_err(|_| "not a repository's name")?;
    let place = Place {
        registry,
        repository,
    };
    Ok((digest, place))
}
