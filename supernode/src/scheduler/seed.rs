//! The seed's uplink is the clock: it is kept full, and sends each piece about once.
//!
//! Pieces of which nobody has or gets a copy go out in order, a few of them before they have
//! arrived from upstream. Their receiver may have one piece more on its way than its slots.

use swarm::PieceIndex;

use super::matching::Given;
use super::{Action, BlobKey, NodeKey, Scheduler};

/// So many blobs are looked at for one free slot of the seed.
const BLOBS_TRIED: usize = 8;

impl Scheduler {
    pub(super) fn seed_has(&mut self, key: BlobKey, piece: PieceIndex, actions: &mut Vec<Action>) {
        let Some(blob) = self.blob_mut(key) else {
            return;
        };
        blob.seed_gone = false;
        blob.seed_has = blob.seed_has.max(piece.get() + 1);
        self.keep_promises(key);
        self.settle(&[], actions);
    }

    /// Promised pieces that have arrived are on their way from now on.
    pub(super) fn keep_promises(&mut self, key: BlobKey) {
        let Some(blob) = self.blob_mut(key) else {
            return;
        };
        let has = blob.seed_has;
        let mib = blob.layout.piece_size() as f32 / (1 << 20) as f32;
        let (kept, open) = std::mem::take(&mut blob.promised)
            .into_iter()
            .partition(|(piece, _)| *piece < has);
        blob.promised = open;
        let kept: Vec<(u32, u32)> = kept;
        for (_, at) in kept {
            let now = self.now;
            let Some(given) = self.outstanding.get_mut(at) else {
                continue;
            };
            given.up = true;
            given.down = true;
            given.since = now;
            let given = *given;
            self.nodes[0].up.take();
            self.node_mut(given.node).down.take();
            self.refresh(given.node);
            let patience = self.patience(given.node, mib, u32::MAX);
            self.due.add(now + patience, at, given.order);
        }
    }

    pub(super) fn seed_gone(&mut self, key: BlobKey, actions: &mut Vec<Action>) {
        let Some(blob) = self.blob_mut(key) else {
            return;
        };
        blob.seed_gone = true;
        let touched = self.end_all_from(NodeKey::SEED, key);
        self.settle(&touched, actions);
    }

    /// Gives out what only the seed has, blob by blob in turn.
    pub(super) fn serve_from_seed(&mut self, actions: &mut Vec<Action>) {
        let mut tried = 0;
        while tried < self.seed_turn.len().min(BLOBS_TRIED) {
            let Some(key) = self.seed_turn.front().copied() else {
                return;
            };
            self.seed_turn.rotate_left(1);
            match self.fresh_piece(key) {
                Some((given, arrived)) => {
                    self.give(given, arrived, actions);
                    tried = 0;
                }
                None => tried += 1,
            }
        }
    }

    /// The next first copy of a blob, and whether the seed has that piece already.
    fn fresh_piece(&mut self, key: BlobKey) -> Option<(Given, bool)> {
        let free = self.nodes[0].up.free();
        let ahead = self.options.seed_ahead;
        let busy = self.nodes[0].sending.len();
        if busy >= usize::from(self.options.seed_slots + ahead) {
            return None;
        }
        let ahead = u32::from(ahead);
        let blob = self.blob_mut(key)?;
        if blob.seed_gone {
            return None;
        }
        let has = blob.seed_has;
        let piece = blob.fresh(has + ahead)?;
        let arrived = piece < has;
        if arrived && !free {
            return None;
        }
        let start = self.rng.below(self.blob(key)?.lacking.len());
        let receiver = self.first_receiver(key, piece, start)?;
        let given = Given {
            blob: key,
            receiver,
            piece,
            from: NodeKey::SEED,
        };
        Some((given, arrived))
    }

    /// A late piece that no other node can give now comes from the seed, if it has a slot.
    pub(super) fn rescue(&mut self, node: NodeKey, key: BlobKey, piece: u32) -> Option<Given> {
        let receiver = self.node(node).member(key)?;
        let blob = self.blob(key)?;
        let can = !blob.seed_gone && piece < blob.seed_has && self.nodes[0].up.free();
        let wanted = blob.lacking.has(receiver) && !blob.member(receiver).taken.has(piece);
        let told = blob.member(receiver).coming.iter().any(|&at| {
            let given = self.outstanding.get(at);
            given.is_some_and(|g| g.piece == piece && g.from == NodeKey::SEED)
        });
        (can && wanted && !told).then_some(Given {
            blob: key,
            receiver,
            piece,
            from: NodeKey::SEED,
        })
    }

    /// Who should have a first copy: not a slow one, the emptiest, and one that can pass it on.
    fn first_receiver(&self, key: BlobKey, piece: u32, start: usize) -> Option<u32> {
        let blob = self.blob(key)?;
        let count = blob.lacking.len();
        let places = (0..count.min(self.options.sample)).map(|i| (start + i) % count);
        let members = places.filter_map(|place| blob.lacking.at(place));
        let fit = members.filter(|&at| {
            let member = blob.member(at);
            let node = self.node(member.node);
            let asked = member.coming.iter().any(|&given| {
                let given = self.outstanding.get(given);
                given.is_some_and(|g| g.piece == piece && g.from == NodeKey::SEED)
            });
            node.down.used <= node.down.limit
                && !member.taken.has(piece)
                && !asked
                && !node.avoids(NodeKey::SEED, self.now)
        });
        fit.min_by_key(|&at| {
            let member = blob.member(at);
            let node = self.node(member.node);
            let typical = self.typical;
            let slow = typical.is_slow(node.receives) || typical.is_slow(node.sends);
            (
                slow || !node.gives(self.now),
                !node.down.free(),
                node.up.used,
                member.taken_count,
            )
        })
    }
}
