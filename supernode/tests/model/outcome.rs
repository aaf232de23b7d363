//! What a run came to.

use std::time::Duration;

use super::{RATE, World};
use supernode::scheduler::Event;

/// Times and sums of a run; two runs of one world are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// For each node: when it had everything it wanted, counted from its asking.
    pub(crate) done: Vec<Option<Duration>>,
    /// For each node: when it had the first piece of its first blob.
    pub(crate) first_byte: Vec<Option<Duration>>,
    pub(crate) seed_sends: u64,
    /// When the seed's last piece so far had arrived.
    pub(crate) seed_done: Duration,
    pub(crate) crossings: u64,
    /// Instructions.
    pub(crate) decisions: u64,
    /// Pieces that arrived where they were already.
    pub(crate) wasted: u64,
    /// Wrong pieces that were sent.
    pub(crate) wrong: u64,
    pub(crate) banned: Vec<usize>,
    /// All that the scheduler was told, if the world records it.
    pub(crate) events: Vec<(Duration, Event)>,
    pub(crate) memory_bytes: usize,
    /// Every instruction, mixed into one number.
    pub(crate) trace: u64,
}

impl Outcome {
    /// The last of those nodes, in seconds; infinite if one did not finish.
    pub(crate) fn last(&self, nodes: impl IntoIterator<Item = usize>) -> f64 {
        let times = nodes.into_iter().map(|node| self.done[node]);
        times.map(seconds).fold(0.0, f64::max)
    }

    pub(crate) fn last_of_all(&self) -> f64 {
        self.last(0..self.done.len())
    }

    pub(crate) fn mean(&self) -> f64 {
        self.done.iter().copied().map(seconds).sum::<f64>() / self.done.len() as f64
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.done)
    }

    pub(crate) fn median_first_byte(&self) -> f64 {
        median(&self.first_byte)
    }
}

fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(f64::INFINITY, |time| time.as_secs_f64())
}

fn median(times: &[Option<Duration>]) -> f64 {
    let mut times: Vec<f64> = times.iter().copied().map(seconds).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

impl World {
    /// `T*` in seconds for its first blob and links of [`RATE`]: `S/B (1 + floor(log2 N)/k)`, and one
    /// piece time in which the first piece reaches the seed.
    pub(crate) fn bound(&self) -> f64 {
        let layout = self.blobs[0];
        let pieces = f64::from(layout.count());
        let piece_time = layout.total() as f64 / RATE / pieces;
        (pieces + f64::from(self.hosts.len().ilog2()) + 1.0) * piece_time
    }
}
