//! What upstream and the seed say of a blob.

use oci::Digest;
use proxy::SeedRefusal;
use proxy::place::Place;
use swarm::wire::{self, refused::Reason, supernode_says::Word};
use swarm::{Layout, PieceDigest};

use super::blob::{Feed, Rights, Stage};
use super::{Book, Task, Turn};
use crate::scheduler::{BlobKey, Event, NodeKey};

/// Upstream's answer to a [`Task`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opened {
    /// Anybody may read it; nothing was read.
    Confirmed,
    /// Anybody may read it, and here it is.
    Read {
        /// Length of the blob in bytes.
        total: u64,
        /// Whether the seed has all of it.
        held: bool,
    },
}

impl Book {
    /// Upstream has answered. True: the blob is to be read to its end, and its pieces to be told by
    /// [`Book::pieces`] and [`Book::fed`].
    pub(crate) fn opened(
        &mut self,
        digest: &Digest,
        place: &Place,
        answer: Result<Opened, SeedRefusal>,
        turn: &mut Turn,
    ) -> bool {
        let Some(key) = self.by_digest.get(digest).copied() else {
            return false;
        };
        let until = self.now + self.grant;
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return false;
        };
        let opened = match answer {
            Ok(opened) => opened,
            Err(refusal) => {
                blob.places.remove(place);
                self.refused(key, place, refusal, turn);
                return false;
            }
        };
        blob.places.insert(place.clone(), Rights::Public(until));
        let feeds = match opened {
            Opened::Confirmed => false,
            Opened::Read { total, held } => self.begin(key, total, held, turn),
        };
        self.admit_waiting(key, place, turn);
        self.settle(turn);
        feeds
    }

    fn refused(&mut self, key: BlobKey, place: &Place, refusal: SeedRefusal, turn: &mut Turn) {
        let (reason, why) = match refusal {
            SeedRefusal::NotShared(why) => (Reason::NotShared, why),
            SeedRefusal::Unavailable(why) => (Reason::Unavailable, why),
        };
        self.refuse_waiting(key, Some(place), (reason, why), turn);
        self.forget_if_unknown(key);
    }

    /// A blob of which nothing is known, and that nobody waits for, takes no room.
    fn forget_if_unknown(&mut self, key: BlobKey) {
        let blob = self.blobs.get(key.0);
        if blob.is_some_and(|blob| blob.layout.is_none() && blob.is_idle()) {
            self.forget(key);
        }
    }

    /// The blob's size is known; whether it is to be read to its end.
    fn begin(&mut self, key: BlobKey, total: u64, held: bool, turn: &mut Turn) -> bool {
        let layout = Layout::of(total);
        let now = self.now;
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return false;
        };
        if blob.layout.is_some_and(|known| known != layout) {
            // Upstream has told two sizes for one digest: what came of the first is worth nothing.
            tracing::warn!(
                digest = blob.digest.short(),
                total,
                "another size when asked again"
            );
            blob.digests.clear();
            self.end_members(key, "the registry tells another size than before", turn);
            self.decide(Event::BlobDone { blob: key });
        }
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return false;
        };
        if blob.feed == Feed::Running && blob.layout == Some(layout) {
            return false;
        }
        let known = blob.layout.replace(layout).is_some();
        let whole = held && blob.is_complete();
        if known && !whole && blob.taking_part().next().is_none() {
            // The seed had it once and begins again from the first piece.
            self.decide(Event::BlobDone { blob: key });
        }
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return false;
        };
        blob.feed = if whole {
            Feed::Held(now)
        } else {
            Feed::Running
        };
        let digest = blob.digest;
        self.decide(Event::Blob {
            blob: key,
            layout,
            held_by_seed: whole,
        });
        for node in self
            .holders
            .get(&digest)
            .into_iter()
            .flatten()
            .copied()
            .collect::<Vec<_>>()
        {
            self.decide(Event::Holds { node, blob: key });
        }
        !whole
    }

    fn admit_waiting(&mut self, key: BlobKey, place: &Place, turn: &mut Turn) {
        let Some(blob) = self.blobs.get(key.0) else {
            return;
        };
        let waiting: Vec<NodeKey> = blob
            .members
            .iter()
            .filter(|(_, member)| {
                matches!(member.stage, Stage::Waiting(_)) && member.place == *place
            })
            .map(|(node, _)| *node)
            .collect();
        for node in waiting {
            self.accept(node, key, turn);
        }
    }

    /// The next pieces have reached the seed, in order, and these are their digests.
    pub(crate) fn pieces(
        &mut self,
        digest: &Digest,
        first: usize,
        digests: &[PieceDigest],
        turn: &mut Turn,
    ) {
        let Some(key) = self.by_digest.get(digest).copied() else {
            return;
        };
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return;
        };
        let Some(layout) = blob.layout.filter(|_| first <= blob.digests.len()) else {
            return;
        };
        // Read again, the first ones are known already.
        let news = digests.iter().skip(blob.digests.len() - first);
        blob.digests
            .extend(news.copied().take(layout.count() as usize));
        let numbers = (first..first + digests.len()).filter_map(|at| u32::try_from(at).ok());
        let pieces: Vec<_> = numbers.filter_map(|number| layout.piece(number)).collect();
        for piece in pieces {
            self.keep_promise(key, piece.get(), turn);
            self.decide(Event::SeedHas { blob: key, piece });
        }
        self.settle(turn);
    }

    /// Whoever was sent for a piece before its digest was known hears it now.
    fn keep_promise(&mut self, key: BlobKey, piece: u32, turn: &mut Turn) {
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return;
        };
        for node in blob.promised.remove(&piece).unwrap_or_default() {
            let words = blob.catch_up(node);
            turn.words
                .extend(words.into_iter().map(|word| (node, word)));
        }
    }

    /// The reading is over; an error ends the distribution from here.
    pub(crate) fn fed(&mut self, digest: &Digest, outcome: Result<(), String>, turn: &mut Turn) {
        let Some(key) = self.by_digest.get(digest).copied() else {
            return;
        };
        let now = self.now;
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return;
        };
        match outcome {
            Ok(()) => blob.feed = Feed::Held(now),
            Err(why) => {
                tracing::warn!(
                    digest = digest.short(),
                    why,
                    "a blob cannot be read to its end"
                );
                blob.feed = Feed::None;
                self.decide(Event::SeedGone { blob: key });
                // They go on among themselves, with the digests they have been told.
                self.end_members(key, &why, turn);
                self.forget(key);
            }
        }
        self.settle(turn);
    }

    /// The seed was asked for a piece and does not have it: its store has dropped the blob.
    pub(super) fn seed_lacks(&mut self, key: BlobKey, turn: &mut Turn) {
        if let Some(blob) = self.blob_mut(key)
            && matches!(blob.feed, Feed::Held(_))
        {
            blob.feed = Feed::None;
            self.decide(Event::SeedGone { blob: key });
            self.revive(key, turn);
        }
    }

    /// Reads a blob anew that members want and nobody has any more.
    pub(super) fn revive(&mut self, key: BlobKey, turn: &mut Turn) {
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return;
        };
        let held = self.holders.contains_key(&blob.digest);
        if blob.feed != Feed::None || held || blob.layout.is_none() {
            return;
        }
        let wanting = blob
            .members
            .values()
            .next()
            .map(|member| member.place.clone());
        if let Some(place) = wanting
            && blob.places.get(&place) != Some(&Rights::Asking)
        {
            blob.places.insert(place.clone(), Rights::Asking);
            turn.tasks.push(Task::Read(blob.digest, place));
        }
    }

    /// Ends all flights of a blob.
    fn end_members(&mut self, key: BlobKey, why: &str, turn: &mut Turn) {
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return;
        };
        for (node, member) in std::mem::take(&mut blob.members) {
            if let Some(node) = self.nodes.get_mut(node.0) {
                node.flights.remove(&member.flight);
            }
            let refused = wire::Refused {
                flight: member.flight,
                reason: Reason::Unavailable.into(),
                why: why.to_owned(),
            };
            turn.words.push((node, Word::Refused(refused)));
        }
    }
}
