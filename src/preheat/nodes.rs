//! What the nodes of a preheating have got: a bar for each on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use oci::ImageName;
use serde_json::{Value, json};
use swarm::wire::PreheatProgress;

use crate::failure::Failure;
use crate::status::short_size;

/// A terminal shows no more bars at once; further nodes have none.
const BARS_MAX: usize = 20;
/// A failed node is named; of many, the first few.
const NAMED_MAX: usize = 5;
const BAR: &str =
    "{prefix:24} {bar:24} {bytes:>10} of {total_bytes:<10} {binary_bytes_per_sec:>12}  {msg}";

/// All nodes that were heard of.
pub(super) struct Nodes {
    /// How many were asked for; 0 is all.
    wanted: u32,
    began: Instant,
    bars: MultiProgress,
    nodes: BTreeMap<String, Node>,
}

struct Node {
    last: PreheatProgress,
    seconds: f64,
    bar: ProgressBar,
}

impl Nodes {
    /// None yet.
    pub(super) fn new(wanted: u32) -> Self {
        Self {
            wanted,
            began: Instant::now(),
            bars: MultiProgress::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// A node has got further.
    pub(super) fn learn(&mut self, said: PreheatProgress) {
        let shown = self.nodes.len() < BARS_MAX;
        let bars = &self.bars;
        let node = self.nodes.entry(said.node.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template(BAR)
                .expect("the template is a constant and parses")
                .progress_chars("=> ");
            let bar = if shown {
                bars.add(ProgressBar::no_length())
            } else {
                ProgressBar::hidden()
            };
            bar.set_style(style);
            bar.set_prefix(said.node.clone());
            Node {
                last: PreheatProgress::default(),
                seconds: 0.0,
                bar,
            }
        });
        node.bar.set_length(said.bytes_all);
        node.bar.set_position(said.bytes_done);
        let over = said.finished || !said.error.is_empty();
        node.bar.set_message(words(&said));
        if over && !node.over() {
            node.seconds = self.began.elapsed().as_secs_f64();
            node.bar.abandon();
            if self.bars.is_hidden() {
                let (name, words) = (&said.node, words(&said));
                eprintln!("{name}, after {:.1} s: {words}", node.seconds);
            }
        }
        node.last = said;
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        for node in self.nodes.values() {
            node.bar.abandon();
        }
    }

    /// For people.
    pub(super) fn line(&self, name: &ImageName) -> String {
        let bytes: u64 = self.nodes.values().map(|node| node.last.bytes_done).sum();
        format!(
            "preheated {name}: {} nodes have it, {} in {:.1} s",
            self.nodes.len(),
            short_size(bytes),
            self.began.elapsed().as_secs_f64()
        )
    }

    /// As JSON.
    pub(super) fn json(&self, name: &ImageName, at: &str) -> String {
        let rounded = |seconds: f64| (seconds * 1_000.0).round() / 1_000.0;
        let node = |(name, node): (&String, &Node)| {
            json!({
                "node": name,
                "finished": node.whole(),
                "blobs_done": node.last.blobs_done,
                "blobs_all": node.last.blobs_all,
                "bytes_done": node.last.bytes_done,
                "bytes_all": node.last.bytes_all,
                "seconds": rounded(node.seconds),
                "error": (!node.last.error.is_empty()).then_some(&node.last.error),
            })
        };
        let nodes: Vec<Value> = self.nodes.iter().map(node).collect();
        let all = json!({
            "image": name.to_string(),
            "supernode": at,
            "seconds": rounded(self.began.elapsed().as_secs_f64()),
            "nodes": nodes,
        });
        format!("{all:#}")
    }

    /// Whether all that was asked for was done.
    pub(super) fn outcome(&self, at: &str) -> Result<(), Failure> {
        let asked = usize::try_from(self.wanted).unwrap_or(usize::MAX);
        if self.nodes.is_empty() {
            return Err(
                Failure::new(format!("no node attends the supernode on {at}"))
                    .hint("run nodes with --supernode HOST; their log says whether they reach it"),
            );
        }
        let failed: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| !node.whole())
            .map(|(name, node)| match node.last.error.as_str() {
                "" => format!("{name}: not finished"),
                why => format!("{name}: {why}"),
            })
            .collect();
        if !failed.is_empty() {
            let shown = failed.len().min(NAMED_MAX);
            let more = match failed.len() - shown {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            return Err(Failure::new(format!(
                "{} of {} nodes failed: {}{more}",
                failed.len(),
                self.nodes.len(),
                failed[..shown].join("; ")
            ))
            .hint("their logs say why; run this again, what has arrived is kept"));
        }
        if self.nodes.len() < asked {
            return Err(Failure::new(format!(
                "{asked} nodes were asked for, and {} attend the supernode on {at}",
                self.nodes.len()
            ))
            .hint("--nodes all takes as many as there are"));
        }
        Ok(())
    }
}

impl Node {
    fn whole(&self) -> bool {
        self.last.finished && self.last.error.is_empty()
    }

    fn over(&self) -> bool {
        self.last.finished || !self.last.error.is_empty()
    }
}

fn words(said: &PreheatProgress) -> String {
    if !said.error.is_empty() {
        return format!("failed: {}", said.error);
    }
    let blobs = format!("{} of {} blobs", said.blobs_done, said.blobs_all);
    if said.finished {
        format!("{blobs}, {}", short_size(said.bytes_done))
    } else {
        blobs
    }
}
