//! What a run came to.

use std::time::Duration;

use supernode::scheduler::Event;
use swarm::Layout;

use super::{RATE, World};

/// Times and sums of a run; two runs of one world are equal.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// For each node: when it had everything it wanted, counted from its asking.
    pub done: Vec<Option<Duration>>,
    /// For each node: when it had the first piece of its first blob.
    pub first_byte: Vec<Option<Duration>>,
    pub seed_sends: u64,
    /// When the seed's last piece so far had arrived.
    pub seed_done: Duration,
    pub crossings: u64,
    /// Instructions.
    pub decisions: u64,
    /// Pieces that arrived where they were already.
    pub wasted: u64,
    /// Wrong pieces that were sent.
    pub wrong: u64,
    pub banned: Vec<usize>,
    /// All that the scheduler was told, if the world records it.
    pub events: Vec<(Duration, Event)>,
    pub memory_bytes: usize,
    /// Every instruction, mixed into one number.
    pub trace: u64,
}

impl Outcome {
    /// The last of those nodes, in seconds; infinite if one did not finish.
    pub fn last(&self, nodes: impl IntoIterator<Item = usize>) -> f64 {
        let times = nodes.into_iter().map(|node| self.done[node]);
        times.map(seconds).fold(0.0, f64::max)
    }

    pub fn last_of_all(&self) -> f64 {
        self.last(0..self.done.len())
    }

    pub fn mean(&self) -> f64 {
        self.done.iter().copied().map(seconds).sum::<f64>() / self.done.len() as f64
    }

    pub fn median(&self) -> f64 {
        median(&self.done)
    }

    pub fn median_first_byte(&self) -> f64 {
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

/// `T*` in seconds for links of [`RATE`]: `S/B (1 + floor(log2 N)/k)`, and one piece time in which the
/// first piece reaches the seed.
pub fn bound(nodes: usize, layout: Layout) -> f64 {
    let pieces = f64::from(layout.count());
    let piece_time = layout.total() as f64 / RATE / pieces;
    (pieces + f64::from(nodes.ilog2()) + 1.0) * piece_time
}

impl World {
    /// [`bound`] for its first blob.
    pub fn bound(&self) -> f64 {
        bound(self.hosts.len(), self.blobs[0])
    }
}
