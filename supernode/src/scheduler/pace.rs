//! How fast nodes are, and how many slots that is worth.
//!
//! A transfer is bounded by both ends, so it shows at least how fast each end is; that one of them is
//! slow is shown only by a transfer that is slower than usual. Slots are cut to a node's pace, so that
//! every transfer goes at about the same rate and a slow node takes no more of a fast one's link than
//! it can use.

use super::outstanding::Instruction;
use super::{NodeKey, Scheduler};

/// How much a sample weighs that shows a node faster, or slower, than it was believed.
const FASTER_WEIGHS: f32 = 0.4;
const SLOWER_WEIGHS: f32 = 0.15;
/// With every transfer at the usual rate, a slow node is believed to be faster by this part.
const HOPE: f32 = 0.06;
/// How much the last transfer weighs in the part that was late.
const LATE_WEIGHS: f32 = 0.25;
/// Nobody is slow before so many samples.
const SAMPLES: u8 = 4;
/// The usual pace moves by this part with each sample: a median, so that a few slow ones do not count.
const STEP: f32 = 0.02;
/// So many times slower than usual, a node is slow: it has fewer slots, and gets no first copies. A
/// transfer that takes so many times longer than usual is late.
const SLOW: f32 = 1.6;

/// How fast a node's link is in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Seconds for each MiB, if a transfer had the link to itself.
    link: f32,
    /// The part of its last transfers that were late.
    late: f32,
    samples: u8,
    /// The other end of the last transfer: another late one with it shows nothing new.
    partner: NodeKey,
}

/// What a transfer shows of one of its ends.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Seconds for each MiB, if it had had the link to itself.
    link: f32,
    late: bool,
    partner: NodeKey,
}

impl Pace {
    fn sample(&mut self, sample: Sample, usual: f32) {
        let Sample { link, partner, .. } = sample;
        let late = sample.late && partner != self.partner;
        if self.samples == 0 {
            self.link = link;
        }
        self.samples = self.samples.saturating_add(1);
        self.partner = partner;
        if late || !sample.late {
            self.late += LATE_WEIGHS * (f32::from(u8::from(late)) - self.late);
        }
        if link < self.link {
            self.link += FASTER_WEIGHS * (link - self.link);
        } else if late && self.is_often_late() {
            self.link += SLOWER_WEIGHS * (link - self.link);
        } else if !late && self.link > usual {
            self.link *= 1.0 - HOPE;
        }
    }

    /// A transfer is overdue.
    pub(super) fn overdue(&mut self) {
        self.late += LATE_WEIGHS * (1.0 - self.late);
    }

    /// Most of its transfers were late: it is this end, and not the other ones.
    pub(super) fn is_often_late(self) -> bool {
        self.late > 0.5
    }

    fn known(self) -> Option<f32> {
        (self.samples >= SAMPLES).then_some(self.link)
    }
}

/// What is usual over all nodes, in seconds for each MiB; 0 before the first sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Typical {
    /// A link's pace.
    link: f32,
    /// One transfer, beside the others on its links.
    transfer: f32,
}

fn step(median: &mut f32, sample: f32) {
    if *median == 0.0 {
        *median = sample;
    }
    *median *= if sample < *median {
        1.0 - STEP
    } else {
        1.0 + STEP
    };
}

impl Typical {
    /// How many times slower than usual; 1 for one that is not slower, or not known.
    pub(super) fn slowness(self, pace: Pace) -> f32 {
        match pace.known() {
            Some(pace) if self.link > 0.0 => (pace / self.link).max(1.0),
            _ => 1.0,
        }
    }

    pub(super) fn is_slow(self, pace: Pace) -> bool {
        self.slowness(pace) > SLOW
    }

    /// How long a transfer of a MiB takes, if that is known.
    pub(super) fn transfer(self) -> Option<f32> {
        (self.transfer > 0.0).then_some(self.transfer)
    }

    fn slots(self, usual: u16, pace: Pace) -> u16 {
        if !self.is_slow(pace) {
            return usual;
        }
        ((f32::from(usual) / self.slowness(pace)).round() as u16).max(1)
    }
}

impl Scheduler {
    /// A transfer is overdue: the sender is under suspicion, if it is not the receiver that is slow.
    pub(super) fn is_overdue(&mut self, given: &Instruction) {
        self.avoid(given.node, given.from);
        let (from_slow, to_slow) = self.slow_ends(given);
        if !from_slow {
            self.node_mut(given.node).receives.overdue();
        }
        if !to_slow {
            self.node_mut(given.from).sends.overdue();
        }
        let sender_is_it = self.node(given.from).sends.is_often_late();
        if sender_is_it && !self.node(given.node).receives.is_often_late() {
            self.suspect(given.node, given.from);
        }
    }

    /// Whether the sender and the receiver are known to be slow; the other end is not to blame then.
    fn slow_ends(&self, given: &Instruction) -> (bool, bool) {
        let sends = self.node(given.from).sends;
        let receives = self.node(given.node).receives;
        (self.typical.is_slow(sends), self.typical.is_slow(receives))
    }

    /// A piece arrived as it was told: both ends were at least so fast. `used`: the slots in use at
    /// the sender and at the receiver, this one included.
    pub(super) fn learn(&mut self, given: &Instruction, used: (u16, u16)) {
        let Some(blob) = self.blob(given.blob) else {
            return;
        };
        let mib = blob.layout.piece_size() as f32 / (1 << 20) as f32;
        let took = self.now.saturating_sub(given.since).as_secs_f32() / mib;
        let shared = |used: u16| took / f32::from(used.max(1));
        // The fuller end's share of its link, which should be what the transfer got.
        let link = shared(used.0.max(used.1));
        step(&mut self.typical.transfer, took);
        step(&mut self.typical.link, link);
        let is_late = link > self.typical.link * SLOW;
        let (up, down) = (self.options.up_slots, self.options.down_slots);
        let typical = self.typical;
        let (from_slow, to_slow) = self.slow_ends(given);
        let receiver = self.node_mut(given.node);
        let sample = Sample {
            link: shared(used.1),
            late: is_late && !from_slow,
            partner: given.from,
        };
        receiver.receives.sample(sample, typical.link);
        receiver.down.limit = typical.slots(down, receiver.receives);
        if given.from != NodeKey::SEED {
            let sender = self.node_mut(given.from);
            let sample = Sample {
                link: shared(used.0),
                late: is_late && !to_slow,
                partner: given.node,
            };
            sender.sends.sample(sample, typical.link);
            sender.up.limit = typical.slots(up, sender.sends);
        }
    }
}
