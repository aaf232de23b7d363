//! Links: at which rate each transfer goes.
//!
//! `Shared`: a transfer's rate is the smaller of a fair share of its sender's uplink and of its
//! receiver's downlink, at every moment (a little pessimistic: what one end cannot use is lost).
//! `MaxMin`: other transfers take that, as with TCP; dear, for small worlds.
//! `Coarse`: as `Shared`, but a transfer keeps the share that it began with; for worlds of tens of
//! thousands of nodes (too good at the start and the end, when shares change most).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How rates are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    Shared,
    MaxMin,
    Coarse,
}

/// A transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) sender: usize,
    pub(crate) receiver: usize,
    pub(crate) blob: u32,
    pub(crate) piece: u32,
    left: f64,
    rate: f64,
    since: u64,
    version: u32,
}

#[derive(Clone, Debug, Default)]
struct End {
    up: f64,
    down: f64,
    sending: Vec<u32>,
    receiving: Vec<u32>,
    frozen: bool,
}

/// All links and transfers; times in nanoseconds.
#[derive(Debug)]
pub(crate) struct Network {
    links: Links,
    ends: Vec<End>,
    flows: Vec<Option<Flow>>,
    versions: Vec<u32>,
    vacant: Vec<u32>,
    done: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

impl Network {
    pub(crate) fn new(links: Links, rates: impl Iterator<Item = (f64, f64)>) -> Self {
        let ends = rates.map(|(up, down)| End {
            up,
            down,
            ..End::default()
        });
        Self {
            links,
            ends: ends.collect(),
            flows: Vec::new(),
            versions: Vec::new(),
            vacant: Vec::new(),
            done: BinaryHeap::new(),
        }
    }

    /// Starts a transfer.
    pub(crate) fn start(&mut self, now: u64, ends: (usize, usize), what: (u32, u32), bytes: f64) {
        let flow = Flow {
            sender: ends.0,
            receiver: ends.1,
            blob: what.0,
            piece: what.1,
            left: bytes,
            rate: 0.0,
            since: now,
            version: 0,
        };
        let at = self.vacant.pop().unwrap_or_else(|| {
            self.flows.push(None);
            self.versions.push(0);
            self.flows.len() as u32 - 1
        });
        self.flows[at as usize] = Some(flow);
        self.ends[ends.0].sending.push(at);
        self.ends[ends.1].receiving.push(at);
        self.changed(now, ends, at);
    }

    fn changed(&mut self, now: u64, ends: (usize, usize), at: u32) {
        if self.links == Links::Shared {
            self.share(now, ends.0, ends.1);
        } else if self.links == Links::MaxMin {
            self.fill(now);
        } else if self.flows[at as usize].is_some() {
            self.set_rate(now, at);
        }
    }

    /// When the next transfer ends.
    pub(crate) fn next(&mut self) -> Option<u64> {
        while let Some(Reverse((when, at, version))) = self.done.peek().copied() {
            if self.flows[at as usize].is_some() && self.versions[at as usize] == version {
                return Some(when);
            }
            self.done.pop();
        }
        None
    }

    /// Ends the next transfer.
    pub(crate) fn end_next(&mut self) -> Option<Flow> {
        let when = self.next()?;
        let Reverse((_, at, _)) = self.done.pop()?;
        self.remove(when, at)
    }

    /// Breaks all transfers that fit.
    pub(crate) fn cancel(
        &mut self,
        now: u64,
        host: usize,
        fits: impl Fn(&Flow) -> bool,
    ) -> Vec<Flow> {
        let end = &self.ends[host];
        let all = end.sending.iter().chain(&end.receiving).copied();
        let fitting: Vec<u32> = all
            .filter(|at| self.flows[*at as usize].as_ref().is_some_and(&fits))
            .collect();
        let broken = fitting.into_iter().filter_map(|at| self.remove(now, at));
        broken.collect()
    }

    /// Nothing goes in or out of this one any more.
    pub(crate) fn freeze(&mut self, now: u64, host: usize) {
        self.ends[host].frozen = true;
        let end = &self.ends[host];
        let all: Vec<u32> = end.sending.iter().chain(&end.receiving).copied().collect();
        for at in all {
            self.set_rate(now, at);
        }
    }

    fn remove(&mut self, now: u64, at: u32) -> Option<Flow> {
        let flow = self.flows[at as usize].take()?;
        self.versions[at as usize] += 1;
        self.vacant.push(at);
        self.ends[flow.sender].sending.retain(|other| *other != at);
        let receiving = &mut self.ends[flow.receiver].receiving;
        receiving.retain(|other| *other != at);
        self.changed(now, (flow.sender, flow.receiver), at);
        Some(flow)
    }

    fn share(&mut self, now: u64, sender: usize, receiver: usize) {
        let sending = self.ends[sender].sending.len();
        for i in 0..sending {
            self.set_rate(now, self.ends[sender].sending[i]);
        }
        for i in 0..self.ends[receiver].receiving.len() {
            self.set_rate(now, self.ends[receiver].receiving[i]);
        }
    }

    fn rate_of(&self, flow: &Flow) -> f64 {
        let (from, to) = (&self.ends[flow.sender], &self.ends[flow.receiver]);
        if from.frozen || to.frozen {
            return 0.0;
        }
        match self.links {
            Links::Shared | Links::Coarse => {
                // A frozen partner's transfers take nothing.
                let moving = |flows: &[u32], other: fn(&Flow) -> usize| {
                    let flows = flows.iter().filter_map(|at| self.flows[*at as usize]);
                    flows.filter(|f| !self.ends[other(f)].frozen).count() as f64
                };
                let up = from.up / moving(&from.sending, |f| f.receiver);
                let down = to.down / moving(&to.receiving, |f| f.sender);
                up.min(down)
            }
            Links::MaxMin => flow.rate,
        }
    }

    fn set_rate(&mut self, now: u64, at: u32) {
        let Some(flow) = self.flows[at as usize] else {
            return;
        };
        let rate = self.rate_of(&flow);
        self.put_rate(now, at, rate);
    }

    /// Max-min fair: again and again the tightest end shares what is left of it.
    fn fill(&mut self, now: u64) {
        let mut ends: Vec<[(f64, usize); 2]> = self
            .ends
            .iter()
            .map(|end| {
                let (up, down) = if end.frozen {
                    (0.0, 0.0)
                } else {
                    (end.up, end.down)
                };
                [(up, end.sending.len()), (down, end.receiving.len())]
            })
            .collect();
        let mut open: Vec<u32> = (0..self.flows.len() as u32)
            .filter(|at| self.flows[*at as usize].is_some())
            .collect();
        while !open.is_empty() {
            let tight = ends
                .iter()
                .enumerate()
                .flat_map(|(at, sides)| {
                    sides
                        .iter()
                        .enumerate()
                        .filter(|(_, s)| s.1 > 0)
                        .map(move |(side, s)| (s.0 / s.1 as f64, at, side))
                })
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((share, at, side)) = tight else {
                return;
            };
            let share = share.max(0.0);
            open.retain(|&flow_at| {
                let Some(flow) = self.flows[flow_at as usize] else {
                    return false;
                };
                let mine = if side == 0 {
                    flow.sender == at
                } else {
                    flow.receiver == at
                };
                if mine {
                    for (end, side) in [(flow.sender, 0), (flow.receiver, 1)] {
                        ends[end][side].0 -= share;
                        ends[end][side].1 -= 1;
                    }
                    self.put_rate(now, flow_at, share);
                }
                !mine
            });
        }
    }

    fn put_rate(&mut self, now: u64, at: u32, rate: f64) {
        let Some(mut flow) = self.flows[at as usize] else {
            return;
        };
        if (rate - flow.rate).abs() <= 1e-9 * rate {
            return;
        }
        flow.left -= (now - flow.since) as f64 * 1e-9 * flow.rate;
        flow.since = now;
        flow.rate = rate;
        self.flows[at as usize] = Some(flow);
        self.versions[at as usize] += 1;
        if rate > 0.0 {
            let takes = (flow.left.max(0.0) / rate * 1e9).ceil() as u64;
            let entry = (now + takes, at, self.versions[at as usize]);
            self.done.push(Reverse(entry));
        }
    }
}
