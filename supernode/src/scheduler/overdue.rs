//! What takes too long: pieces are stolen from the slow, and in the end given up.

use std::collections::BTreeMap;
use std::mem::size_of;

use super::faults::Complaint;
use super::outstanding::Instruction;
use super::{Action, NodeKey, Now, Scheduler};
use swarm::tracker::PeerFault;

/// A piece is late after so many times what it usually takes.
const LATE: f32 = 3.0;
/// The same for a node that lacks no more than [`TAIL`] pieces.
const LATE_IN_TAIL: f32 = 2.0;
/// So few missing pieces are a tail.
const TAIL: u32 = 4;

/// Times are rounded up to this, so that many instructions are looked at in one tick.
const GRAIN_MS: u64 = 50;

/// When to look at which instruction again: by time in grains, with each instruction's order.
///
/// Nearly all have ended by then; so they are only put down and picked up, never sorted.
#[derive(Debug, Default)]
pub(super) struct Due(BTreeMap<u64, Vec<(u32, u64)>>);

impl Due {
    pub(super) fn next(&self) -> Option<Now> {
        let (grain, _) = self.0.first_key_value()?;
        Some(Now::from_millis(grain * GRAIN_MS))
    }

    pub(super) fn add(&mut self, at: Now, instruction: u32, order: u64) {
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let grain = at.div_ceil(GRAIN_MS);
        self.0.entry(grain).or_default().push((instruction, order));
    }

    /// All whose time has come, of the earliest such time.
    fn take(&mut self, now: Now) -> Option<Vec<(u32, u64)>> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, due)| due)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let capacity: usize = self.0.values().map(Vec::capacity).sum();
        capacity * size_of::<(u32, u64)>()
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
        while let Some(due) = self.due.take(self.now) {
            for (at, order) in due {
                let given = self.outstanding.get(at).copied();
                let Some(given) = given.filter(|given| given.order == order) else {
                    continue;
                };
                touched.push(given.node);
                if !given.up {
                    // The seed itself waits for this piece: nobody else can have it.
                    self.due.add(self.now + self.options.late_min, at, order);
                } else if !given.late {
                    self.make_late(at, order);
                    self.is_overdue(&given);
                    late.push(given);
                } else {
                    touched.push(given.from);
                    self.give_up(at, &given, actions);
                }
            }
        }
        self.settle(&touched, actions);
        for given in late {
            if let Some(given) = self.rescue(given.node, given.blob, given.piece) {
                self.give(given, true, actions);
            }
        }
    }

    fn give_up(&mut self, at: u32, given: &Instruction, actions: &mut Vec<Action>) {
        self.end(at);
        let complaint = Complaint {
            by: given.node,
            of: given.from,
            blob: given.blob,
            piece: given.piece,
            fault: PeerFault::Slow,
        };
        self.complain(complaint, actions);
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
