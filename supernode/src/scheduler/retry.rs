//! Those who were passed over: a sample may miss the one sender that would do, and a rule that is
//! good for all may leave one with nothing.
//!
//! At every tick some members with a free slot are tried again. One that was told nothing for long may
//! take from another zone what its own has, or from the seed what others have.

use super::matching::{Given, Reach};
use super::{Action, BlobKey, NodeKey, Now, Scheduler};

/// How many hungry members of a blob are tried again at a tick.
const RETRIED: usize = 32;
/// How often hungry members are tried again.
pub(super) const RETRY: Now = Now::from_millis(100);
/// Told nothing for so long, a member starves.
const STARVING: Now = Now::from_secs(2);

impl Scheduler {
    pub(super) fn tick(&mut self, actions: &mut Vec<Action>) {
        self.look_at_due(actions);
        let mut tried = self.end_suspicions();
        let mut hungry = Vec::new();
        if self.retry_at.is_some_and(|at| at <= self.now) {
            self.retry_at = None;
            for key in Vec::from_iter(self.seed_turn.iter().copied()) {
                self.draw_hungry(key, &mut hungry);
            }
            tried.extend(hungry.iter().map(|(node, _)| *node));
        }
        self.settle(&tried, actions);
        for (node, blob) in hungry {
            if let Some(given) = self.relief(node, blob) {
                self.give(given, true, actions);
            }
        }
    }

    fn draw_hungry(&mut self, key: BlobKey, drawn: &mut Vec<(NodeKey, BlobKey)>) {
        let count = self.blob(key).map_or(0, |blob| blob.hungry.len());
        let start = self.rng.below(count);
        let Some(blob) = self.blob(key) else { return };
        let places = (0..count.min(RETRIED)).map(|i| (start + i) % count);
        let members = places.filter_map(|place| blob.hungry.at(place));
        drawn.extend(members.map(|member| (blob.member(member).node, key)));
    }

    /// What a starving member may have against the rules.
    fn relief(&mut self, node: NodeKey, key: BlobKey) -> Option<Given> {
        let receiver = self.node(node).member(key)?;
        let blob = self.blob(key)?;
        let member = blob.member(receiver);
        let starves = member.told_at + STARVING <= self.now && member.coming.is_empty();
        if !starves || !blob.hungry.has(receiver) {
            return None;
        }
        let missing = member.taken.first_zero(0);
        if let Some((from, piece)) = self.best_sender(receiver, key, Reach::Far) {
            return Some(Given {
                blob: key,
                receiver,
                piece,
                from,
            });
        }
        self.rescue(node, key, missing)
    }
}
