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
/// With every transfer at the usual rate, a node is believed to be faster by this part.
const HOPE: f32 = 0.03;
/// Nobody is slow before so many samples.
const SAMPLES: u8 = 6;
/// The usual pace moves by this part with each sample: a median, so that a few slow ones do not count.
const STEP: f32 = 0.02;
/// So many times slower than usual, a node is slow: it has fewer slots, and gets no first copies. A
/// transfer that takes so many times longer than usual shows it.
const SLOW: f32 = 1.6;

/// Seconds that a MiB takes on a node's link in one direction, if it had the link to itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    link: f32,
    samples: u8,
}

impl Pace {
    fn sample(&mut self, link: f32, is_late: bool) {
        if self.samples == 0 {
            self.link = link;
        }
        self.samples = self.samples.saturating_add(1);
        if link < self.link {
            self.link += FASTER_WEIGHS * (link - self.link);
        } else if is_late {
            self.link += SLOWER_WEIGHS * (link - self.link);
        } else {
            self.link *= 1.0 - HOPE;
        }
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
    /// A piece arrived as it was told: both ends were at least so fast. `used`: the slots in use at
    /// the sender and at the receiver, this one included.
    pub(super) fn learn(&mut self, given: &Instruction, used: (u16, u16)) {
        let Some(blob) = self.blob(given.blob) else {
            return;
        };
        let mib = blob.layout.piece_size() as f32 / (1 << 20) as f32;
        let took = self.now.saturating_sub(given.since).as_secs_f32() / mib;
        let shared = |used: u16| took / f32::from(used.max(1));
        let usual = self.typical.transfer().unwrap_or(took);
        let is_late = took > usual * SLOW;
        step(&mut self.typical.transfer, took);
        step(&mut self.typical.link, shared(used.1));
        let (up, down) = (self.options.up_slots, self.options.down_slots);
        let typical = self.typical;
        let receiver = self.node_mut(given.node);
        receiver.receives.sample(shared(used.1), is_late);
        receiver.down.limit = typical.slots(down, receiver.receives);
        if given.from != NodeKey::SEED {
            let sender = self.node_mut(given.from);
            sender.sends.sample(shared(used.0), is_late);
            sender.up.limit = typical.slots(up, sender.sends);
        }
    }
}
