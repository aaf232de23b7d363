//! What takes too long: pieces are stolen from the slow, and in the end given up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem::size_of;

use super::faults::Complaint;
use super::{Action, NodeKey, Now, Scheduler};
use swarm::tracker::PeerFault;

/// A piece is late after so many times what it usually takes.
const LATE: f32 = 3.0;
/// The same for a node that lacks no more than [`TAIL`] pieces.
const LATE_IN_TAIL: f32 = 2.0;
/// So few missing pieces are a tail.
const TAIL: u32 = 4;

/// Times are rounded up to this, so that many instructions are looked at in one tick.
const GRAIN_MS: u128 = 50;

/// When to look at which instruction again.
#[derive(Debug, Default)]
pub(super) struct Due(BinaryHeap<Reverse<(Now, u32, u64)>>);

impl Due {
    pub(super) fn next(&self) -> Option<Now> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn add(&mut self, at: Now, instruction: u32, order: u64) {
        let grains = at.as_millis().div_ceil(GRAIN_MS) * GRAIN_MS;
        let at = Now::from_millis(u64::try_from(grains).unwrap_or(u64::MAX));
        self.0.push(Reverse((at, instruction, order)));
    }

    fn pop(&mut self, now: Now) -> Option<(u32, u64)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, at, order))| (at, order))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Reverse<(Now, u32, u64)>>()
    }
}

impl Scheduler {
    /// After how long an instruction that is given now counts as late.
    pub(super) fn patience(&self, receiver: NodeKey, mib: f32, left: u32) -> Now {
        let Some(usual) = self.typical.transfer() else {
            return self.options.late_min * 5;
        };
        let slots = f32::from(self.options.down_slots.max(1));
        let receiver = self.node(receiver);
        // With fewer slots, a slow receiver's transfers are as fast as others'.
        let share = f32::from(receiver.down.limit) / slots;
        let slow = self.typical.slowness(receiver.receives) * share;
        let usual = usual * slow.max(1.0);
        let times = if left <= TAIL { LATE_IN_TAIL } else { LATE };
        let late = Now::from_secs_f32((usual * mib * times).clamp(0.0, 3600.0));
        late.max(self.options.late_min)
    }

    /// Looks at all instructions whose time has come.
    pub(super) fn look_at_due(&mut self, actions: &mut Vec<Action>) {
        let mut touched = Vec::new();
        let mut late = Vec::new();
        while let Some((at, order)) = self.due.pop(self.now) {
            let Some(given) = self.outstanding.get(at).filter(|g| g.order == order) else {
                continue;
            };
            let given = *given;
            if !given.up {
                // The seed itself waits for this piece: nobody else can have it.
                self.due.add(self.now + self.options.late_min, at, order);
            } else if !given.late {
                self.make_late(at, order);
                self.is_overdue(&given);
                late.push(given);
                touched.push(given.node);
            } else {
                self.end(at);
                self.complain(
                    Complaint {
                        by: given.node,
                        of: given.from,
                        blob: given.blob,
                        piece: given.piece,
                        fault: PeerFault::Slow,
                    },
                    actions,
                );
                touched.extend([given.node, given.from]);
            }
        }
        self.settle(&touched, actions);
        for given in late {
            if let Some(given) = self.rescue(given.node, given.blob, given.piece) {
                self.give(given, true, actions);
            }
        }
    }

    /// All that a node is to send may come from elsewhere; the receivers.
    pub(super) fn make_all_late(&mut self, sender: NodeKey) -> Vec<NodeKey> {
        let mut receivers = Vec::new();
        for at in self.node(sender).sending.clone() {
            if let Some(given) = self.outstanding.get(at).filter(|given| !given.late) {
                receivers.push(given.node);
                let order = given.order;
                self.make_late(at, order);
            }
        }
        receivers
    }

    /// The piece may come from elsewhere now, and its slot at the receiver is free for that.
    fn make_late(&mut self, at: u32, order: u64) {
        let Some(given) = self.outstanding.get_mut(at) else {
            return;
        };
        given.late = true;
        let held_slot = std::mem::take(&mut given.down);
        let given = *given;
        if held_slot {
            self.node_mut(given.node).down.give_back();
        }
        self.due.add(given.since + self.options.give_up, at, order);
        if let Some(member) = self.node(given.node).member(given.blob)
            && let Some(blob) = self.blob_mut(given.blob)
        {
            blob.member_mut(member).late += 1;
            blob.untake(member, given.piece);
        }
    }
}
