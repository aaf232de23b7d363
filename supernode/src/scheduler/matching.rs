//! Who gets what from whom: whenever a slot frees, the best of a bounded sample.
//!
//! Rarest first; a zone that has no copy of a piece may take one from another zone, otherwise
//! pieces stay within a zone; then the nearest, and the emptiest receiver for its pace. Cost is bounded
//! by the sample and the blob's count of pieces, not by the nodes.

use super::blob::{Blob, Member};
use super::outstanding::Instruction;
use super::pool::Pool;
use super::retry::RETRY;
use super::{Action, BlobKey, NodeKey, Now, Scheduler};

/// A reader waits for a piece when so many beyond it have been given out.
const LAG: u32 = 24;

/// Whether a zone may take from another one what it has itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Near,
    Far,
}

/// A transfer that could be.
#[derive(Clone, Copy, Debug)]
struct Choice {
    /// Smaller is better: urgency and rarity, distance, how much the receiver has.
    value: (u8, u8, u32),
    piece: u32,
    /// The other end's place among the members.
    other: u32,
}

/// A transfer that shall be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) blob: BlobKey,
    pub(super) receiver: u32,
    pub(super) piece: u32,
    pub(super) from: NodeKey,
}

impl Scheduler {
    /// Decides all that these nodes' change makes possible.
    pub(super) fn settle(&mut self, touched: &[NodeKey], actions: &mut Vec<Action>) {
        for &node in touched {
            self.refresh(node);
        }
        self.serve_from_seed(actions);
        for &node in touched {
            // Who wants several blobs chooses which comes next; the sender would give what it has.
            if self.node(node).live.len() > 1 {
                self.serve_to(node, actions);
            }
        }
        for &node in touched {
            if node != NodeKey::SEED {
                self.serve_from(node, actions);
            }
        }
        for &node in touched {
            self.serve_to(node, actions);
        }
    }

    /// Brings the pools up to date with a node's slots and pieces.
    pub(super) fn refresh(&mut self, key: NodeKey) {
        let Some(node) = self.nodes.get(key.0 as usize) else {
            return;
        };
        let (hears, gives) = (node.hears(), node.gives(self.now));
        let (up, down) = (node.sends_more(), node.down.free());
        let slowness = self.typical.slowness(node.receives);
        for blob in &node.live {
            let Some(member) = node.member(*blob) else {
                continue;
            };
            let slot = self.blobs.get_mut(blob.0 as usize);
            let Some(blob) = slot.and_then(Option::as_deref_mut) else {
                continue;
            };
            let pieces = blob.pieces;
            let state = blob.member_mut(member);
            state.slowness = slowness;
            state.wary = node.avoids_any();
            let lacks = hears && state.wants && state.taken_count < pieces;
            let has = state.held > 0;
            blob.lacking.set(member, lacks);
            blob.hungry.set(member, lacks && down);
            blob.giving.set(member, has && gives && up);
            if lacks && down && self.retry_at.is_none() {
                self.retry_at = Some(self.now + RETRY);
            }
        }
    }

    /// Fills a sender's free slots.
    fn serve_from(&mut self, key: NodeKey, actions: &mut Vec<Action>) {
        while self.node(key).sends_more() && self.node(key).gives(self.now) {
            let live = &self.node(key).live;
            let start = self.order as usize;
            let blobs = (0..live.len()).map(|i| live[(start + i) % live.len()]);
            let found = blobs.collect::<Vec<_>>().into_iter().find_map(|blob| {
                let choice = self.best_receiver(key, blob)?;
                Some((blob, choice))
            });
            let Some((blob, choice)) = found else { return };
            let given = Given {
                blob,
                receiver: choice.other,
                piece: choice.piece,
                from: key,
            };
            self.give(given, true, actions);
        }
    }

    /// Fills a receiver's free slots, the blob with the fewest pieces on their way first, and of
    /// those the one that waits longest.
    fn serve_to(&mut self, key: NodeKey, actions: &mut Vec<Action>) {
        while self.node(key).down.free() && self.node(key).hears() {
            let mut blobs: Vec<(usize, Now, BlobKey)> = Vec::new();
            for &blob in &self.node(key).live {
                if let Some(member) = self.node(key).member(blob)
                    && let Some(wanted) = self.blob(blob)
                    && wanted.hungry.has(member)
                {
                    let member = wanted.member(member);
                    blobs.push((member.coming.len(), member.told_at, blob));
                }
            }
            blobs.sort_unstable();
            let found = blobs.into_iter().find_map(|(.., blob)| {
                let receiver = self.node(key).member(blob)?;
                let (from, piece) = self.best_sender(receiver, blob, Reach::Near)?;
                Some(Given {
                    blob,
                    receiver,
                    piece,
                    from,
                })
            });
            let Some(given) = found else { return };
            self.give(given, true, actions);
        }
    }

    fn best_receiver(&mut self, sender: NodeKey, blob: BlobKey) -> Option<Choice> {
        let member = self.node(sender).member(blob)?;
        let start = self.rng.below(self.blob(blob)?.hungry.len());
        let blob = self.blob(blob)?;
        let mut best: Option<Choice> = None;
        for receiver in sample(&blob.hungry, start, self.options.sample) {
            let end = best.map_or(u8::MAX, |best| best.value.0 + 1);
            let ends = (member, receiver);
            let Some((class, piece)) = self.offer(blob, ends, end, Reach::Near) else {
                continue;
            };
            let to = blob.member(receiver);
            let full = to.taken_count as f32 * to.slowness;
            let value = (class, distance(blob.member(member), to), full as u32);
            if best.is_none_or(|best| value < best.value) {
                best = Some(Choice {
                    value,
                    piece,
                    other: receiver,
                });
            }
        }
        best
    }

    pub(super) fn best_sender(
        &mut self,
        receiver: u32,
        blob: BlobKey,
        reach: Reach,
    ) -> Option<(NodeKey, u32)> {
        let giving = self.rng.below(self.blob(blob)?.giving.len());
        let resting = self.rng.below(self.blob(blob)?.resting.len());
        let blob = self.blob(blob)?;
        let to = blob.member(receiver);
        let size = self.options.sample;
        // Those at rest are looked at only here, so it shows only here whether they can give.
        let rested = sample(&blob.resting, resting, size).filter(|&sender| {
            let node = self.node(blob.member(sender).node);
            node.sends_more() && node.gives(self.now)
        });
        let senders = sample(&blob.giving, giving, size).chain(rested);
        let mut best: Option<Choice> = None;
        for sender in senders {
            let end = best.map_or(u8::MAX, |best| best.value.0 + 1);
            let Some((class, piece)) = self.offer(blob, (sender, receiver), end, reach) else {
                continue;
            };
            let value = (class, distance(blob.member(sender), to), to.taken_count);
            if best.is_none_or(|best| value < best.value) {
                best = Some(Choice {
                    value,
                    piece,
                    other: sender,
                });
            }
        }
        let best = best?;
        Some((blob.member(best.other).node, best.piece))
    }

    /// What one member would best send to another, and how much that matters.
    /// Nothing that matters less than what was found before, which is below `end`.
    fn offer(&self, blob: &Blob, ends: (u32, u32), end: u8, reach: Reach) -> Option<(u8, u32)> {
        let (sender, receiver) = ends;
        let (from, to) = (blob.member(sender), blob.member(receiver));
        if sender == receiver || to.wary && self.node(to.node).avoids(from.node, self.now) {
            return None;
        }
        let zone = blob.zone(to.zone)?;
        let gap = to.first_gap;
        let (class, piece) = if from.zone != to.zone && reach == Reach::Near {
            (0, zone.absent(&from.have, &to.taken)?)
        } else if blob.fresh_from > gap + LAG && from.have.has(gap) && !to.taken.has(gap) {
            (0, gap)
        } else {
            zone.rarest(&from.have, &to.taken, end)?
        };
        let asked = |&given: &u32| {
            let given = self.outstanding.get(given);
            given.is_some_and(|given| given.piece == piece && given.from == from.node)
        };
        let again = to.late > 0 && to.coming.iter().any(asked);
        (!again).then_some((class, piece))
    }

    /// Gives an instruction; `arrived`: the sender has the piece.
    pub(super) fn give(&mut self, given: Given, arrived: bool, actions: &mut Vec<Action>) {
        let Given {
            blob: key,
            receiver,
            piece,
            from,
        } = given;
        let now = self.now;
        let Some(blob) = self.blob(key) else { return };
        let to = blob.member(receiver).node;
        let Some(index) = blob.layout.piece(piece) else {
            return;
        };
        let left = blob.pieces - blob.member(receiver).held;
        let mib = blob.layout.piece_size() as f32 / (1 << 20) as f32;
        let order = self.order;
        self.order += 1;
        let late_at = now + self.patience(to, mib, left);
        let instruction = Instruction {
            node: to,
            blob: key,
            piece,
            from,
            since: now,
            up: arrived,
            down: arrived,
            late: false,
            order,
        };
        let at = self.outstanding.insert(instruction);
        self.due.add(late_at, at, order);
        if arrived {
            self.node_mut(to).down.take();
        }
        let sender = self.node_mut(from);
        sender.sending.push(at);
        if arrived {
            sender.up.take();
        }
        let crosses = from != NodeKey::SEED && self.node(from).zone != self.node(to).zone;
        if let Some(blob) = self.blob_mut(key) {
            blob.take(receiver, piece);
            let member = blob.member_mut(receiver);
            member.coming.push(at);
            member.told_at = now;
            blob.outstanding += 1;
            blob.seed_sends += u64::from(from == NodeKey::SEED);
            blob.crossings += u64::from(crosses);
            if !arrived {
                blob.promised.push((piece, at));
            }
        }
        self.wake(from, key);
        self.refresh(to);
        self.refresh(from);
        actions.push(Action::Fetch {
            node: to,
            blob: key,
            piece: index,
            from,
            order,
        });
    }
}

/// 0 within a rack, 1 within a zone, 2 beyond.
fn distance(one: &Member, other: &Member) -> u8 {
    if one.zone != other.zone {
        2
    } else {
        u8::from(one.rack != other.rack)
    }
}

/// Up to `size` items of a pool from a place on.
fn sample(pool: &Pool, start: usize, size: usize) -> impl Iterator<Item = u32> + '_ {
    let count = pool.len();
    (0..count.min(size)).filter_map(move |i| pool.at((start + i) % count))
}
