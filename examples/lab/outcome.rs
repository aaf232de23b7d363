//! What one run gave, as data: printed as a table, written as JSON, drawn as a picture.

use serde::Serialize;

use crate::options::{Mode, Scenario};
use crate::origin::Served;

/// One run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) mode: Mode,
    pub(crate) nodes: usize,
    pub(crate) rate_bits: u64,
    /// Bytes of all layers: S.
    pub(crate) bytes: u64,
    pub(crate) seed: u64,
    /// S/B.
    pub(crate) line_seconds: f64,
    /// T*.
    pub(crate) ideal_seconds: f64,
    pub(crate) clients: Vec<Client>,
    pub(crate) traffic: Traffic,
    pub(crate) effort: Effort,
    pub(crate) fault: Option<Fault>,
    pub(crate) second: Option<Second>,
    /// Darners that ended without being told to.
    pub(crate) ended: Vec<String>,
    /// How much each client had when.
    pub(crate) samples: Vec<Sample>,
}

/// What one client, and the node it asked, saw.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Client {
    pub(crate) node: String,
    /// Not where the fault was made.
    pub(crate) healthy: bool,
    /// When it began, after the others.
    pub(crate) began_seconds: f64,
    /// From its own beginning.
    pub(crate) first_byte_seconds: Option<f64>,
    /// From its own beginning; `None` if it did not get everything.
    pub(crate) end_seconds: Option<f64>,
    pub(crate) longest_gap_seconds: f64,
    pub(crate) errors: Vec<String>,
    pub(crate) wrong_bytes: bool,
    /// What its link sent: what it gave to others.
    pub(crate) sent_bytes: u64,
    /// Where its node had the bytes from; `None` without a node, or if it does not answer.
    pub(crate) from: Option<From>,
}

/// Bytes by source.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct From {
    pub(crate) upstream: u64,
    pub(crate) supernode: u64,
    pub(crate) peer: u64,
}

/// Bytes of links.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Traffic {
    pub(crate) origin_sent: u64,
    /// By its access log.
    pub(crate) origin_served: Served,
    pub(crate) supernode_sent: u64,
}

/// What it cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Effort {
    /// CPU of all nodes.
    pub(crate) nodes_cpu_seconds: f64,
    pub(crate) supernode_cpu_seconds: f64,
    /// CPU of all darners for each GiB that clients got.
    pub(crate) cpu_seconds_per_gib: f64,
    pub(crate) registry_cpu_seconds: f64,
    /// CPU of the clients and of what watches them.
    pub(crate) lab_cpu_seconds: f64,
    /// The rest: what the kernel does on nobody's behalf, and others on this machine.
    pub(crate) other_cpu_seconds: f64,
    /// Share of all cores' time.
    pub(crate) machine_busy: f64,
    /// The largest of the nodes.
    pub(crate) node_peak_bytes: u64,
    pub(crate) supernode_peak_bytes: u64,
}

/// What was done to the swarm.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    pub(crate) at_seconds: f64,
    pub(crate) victim: String,
    pub(crate) lies: Option<Lies>,
}

/// What became of a liar.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Lies {
    pub(crate) count: usize,
    /// From the first to the last.
    pub(crate) span_seconds: f64,
    /// Warnings that name it.
    pub(crate) log_lines: Vec<String>,
}

/// The pull of another image after the first.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Second {
    pub(crate) bytes: u64,
    pub(crate) last_seconds: Option<f64>,
    pub(crate) errors: Vec<String>,
}

/// How much each client had at a moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) received: Vec<u64>,
}

impl Outcome {
    /// The clients where nothing was broken on purpose.
    pub(crate) fn healthy(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(|client| client.healthy)
    }

    /// The last of the healthy clients; `None` if one did not get everything.
    pub(crate) fn last_seconds(&self) -> Option<f64> {
        let ends = self.healthy().map(|client| client.end_seconds);
        ends.collect::<Option<Vec<f64>>>()?
            .into_iter()
            .max_by(f64::total_cmp)
    }

    /// The median of the healthy clients' times.
    pub(crate) fn median_seconds(&self) -> Option<f64> {
        median(self.healthy().filter_map(|client| client.end_seconds))
    }

    /// Their average.
    pub(crate) fn average_seconds(&self) -> Option<f64> {
        let ends: Vec<f64> = self.healthy().filter_map(|it| it.end_seconds).collect();
        (!ends.is_empty()).then(|| ends.iter().sum::<f64>() / ends.len() as f64)
    }

    /// The median of the times to the first byte.
    pub(crate) fn first_byte_seconds(&self) -> Option<f64> {
        median(self.healthy().filter_map(|it| it.first_byte_seconds))
    }

    /// The longest time in which a healthy client's GET got nothing.
    pub(crate) fn longest_gap_seconds(&self) -> f64 {
        let gaps = self.healthy().map(|client| client.longest_gap_seconds);
        gaps.fold(0.0, f64::max)
    }

    /// How many errors the healthy clients saw.
    pub(crate) fn errors(&self) -> usize {
        let second = self.second.as_ref().map_or(0, |second| second.errors.len());
        second + self.healthy().map(|it| it.errors.len()).sum::<usize>()
    }

    /// Whether anybody, healthy or not, got a wrong byte.
    pub(crate) fn wrong_bytes(&self) -> bool {
        self.clients.iter().any(|client| client.wrong_bytes)
    }

    /// `sent` in units of S.
    pub(crate) fn share(&self, sent: u64) -> f64 {
        sent as f64 / self.bytes as f64
    }
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
