//! Runs a world: hands events to the scheduler, and what it says to the links.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use supernode::scheduler::{Action, BlobKey, Event, NodeKey, Scheduler};
use swarm::PieceIndex;
use swarm::tracker::PeerFault;

use super::links::{Flow, Network};
use super::{Manner, Outcome, World};

/// Blobs that a node wants at once.
const AT_ONCE: usize = 3;
/// A run that takes longer than this has failed.
const END: u64 = 100_000_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Asks(usize),
    Freezes(usize),
    Silent(usize),
    Dies(usize),
    Begins {
        receiver: usize,
        sender: usize,
        blob: u32,
        piece: u32,
    },
}

struct Node {
    /// For each blob, the pieces it has.
    has: Vec<Vec<u64>>,
    held: Vec<u32>,
    next_blob: usize,
    unfinished: usize,
    gone: bool,
    frozen: bool,
}

struct Run<'a> {
    world: &'a World,
    scheduler: Scheduler,
    network: Network,
    now: u64,
    happenings: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    count: u64,
    nodes: Vec<Node>,
    /// Requests that wait for a piece: by sender, blob, piece.
    held_requests: BTreeMap<(usize, u32, u32), Vec<usize>>,
    actions: Vec<Action>,
    outcome: Outcome,
    /// Honest nodes that have not finished.
    unfinished: usize,
}

/// Runs a world to its end.
pub(crate) fn run(world: &World) -> Outcome {
    let mut run = Run::new(world);
    run.begin();
    while run.unfinished > 0 && run.step() {}
    run.finish()
}

fn bit(pieces: &[u64], piece: u32) -> bool {
    pieces[(piece / 64) as usize] & (1 << (piece % 64)) != 0
}

impl<'a> Run<'a> {
    fn new(world: &'a World) -> Self {
        let seed = (world.seed_rate, world.seed_rate);
        let hosts = world.hosts.iter().map(|host| (host.up, host.down));
        let upstream = (world.upstream_rate, world.upstream_rate);
        let rates = [seed].into_iter().chain(hosts).chain([upstream]);
        let blank = world.blobs.iter();
        let has: Vec<Vec<u64>> = blank
            .map(|layout| vec![0; layout.count().div_ceil(64) as usize])
            .collect();
        let nodes = (0..=world.hosts.len()).map(|_| Node {
            has: has.clone(),
            held: vec![0; world.blobs.len()],
            next_blob: 0,
            unfinished: world.blobs.len(),
            gone: false,
            frozen: false,
        });
        let healthy = |host: &&super::Host| matches!(host.manner, Manner::Honest | Manner::Liar);
        Self {
            scheduler: Scheduler::new(world.options.clone(), world.seed),
            network: Network::new(world.links, rates),
            now: 0,
            happenings: BinaryHeap::new(),
            count: 0,
            nodes: nodes.collect(),
            held_requests: BTreeMap::new(),
            actions: Vec::new(),
            outcome: Outcome {
                done: vec![None; world.hosts.len()],
                first_byte: vec![None; world.hosts.len()],
                ..Outcome::default()
            },
            unfinished: world.hosts.iter().filter(healthy).count(),
            world,
        }
    }

    fn begin(&mut self) {
        for (node, host) in (1..).zip(&self.world.hosts) {
            self.at(host.asks_at, Happening::Asks(node));
            match host.manner {
                Manner::FreezesAt(when) => {
                    self.at(when, Happening::Freezes(node));
                    self.at(when + self.world.silence, Happening::Silent(node));
                }
                Manner::DiesAt(when) => self.at(when, Happening::Dies(node)),
                Manner::Honest | Manner::Liar => {}
            }
        }
        for (blob, layout) in (0..).zip(&self.world.blobs) {
            self.tell(Event::Blob {
                blob: BlobKey(blob),
                layout: *layout,
                held_by_seed: false,
            });
        }
        for blob in 0..self.world.blobs.len().min(AT_ONCE) {
            self.fetch_from_upstream(blob as u32, 0);
        }
    }

    fn at(&mut self, when: Duration, what: Happening) {
        self.count += 1;
        let entry = (when.as_nanos() as u64, self.count, what);
        self.happenings.push(Reverse(entry));
    }

    /// False when nothing will ever happen again.
    fn step(&mut self) -> bool {
        let flow = self.network.next();
        let happening = self.happenings.peek().map(|Reverse((at, ..))| *at);
        let tick = self.scheduler.deadline().map(|at| at.as_nanos() as u64);
        let Some(next) = [flow, happening, tick].into_iter().flatten().min() else {
            return false;
        };
        self.now = self.now.max(next);
        if self.now > END {
            return false;
        }
        if flow == Some(next) {
            if let Some(flow) = self.network.end_next() {
                self.arrived(flow);
            }
        } else if happening == Some(next) {
            if let Some(Reverse((_, _, what))) = self.happenings.pop() {
                self.happens(what);
            }
        } else {
            self.tell(Event::Tick);
        }
        true
    }

    fn tell(&mut self, event: Event) {
        let now = Duration::from_nanos(self.now);
        let mut actions = std::mem::take(&mut self.actions);
        if self.world.records {
            self.outcome.events.push((now, event.clone()));
        }
        self.scheduler.on(event, now, &mut actions);
        for action in actions.drain(..) {
            self.act(action, now);
        }
        self.actions = actions;
    }

    fn act(&mut self, action: Action, now: Duration) {
        match action {
            Action::Fetch {
                node,
                blob,
                piece,
                from,
                ..
            } => {
                let has = &self.nodes[node.0 as usize].has[blob.0 as usize];
                assert!(!bit(has, piece.get()), "{node:?} has {piece} of {blob:?}");
                assert_ne!(node, from);
                let outcome = &mut self.outcome;
                outcome.decisions += 1;
                for part in [node.0, blob.0, piece.get(), from.0] {
                    let mixed = outcome.trace.rotate_left(5) ^ u64::from(part);
                    outcome.trace = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                }
                let begins = Happening::Begins {
                    receiver: node.0 as usize,
                    sender: from.0 as usize,
                    blob: blob.0,
                    piece: piece.get(),
                };
                self.at(now + self.world.latency, begins);
            }
            Action::Banned { node, .. } => self.outcome.banned.push(node.0 as usize - 1),
        }
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::Asks(node) => {
                if self.nodes[node].gone {
                    return;
                }
                let site = self.world.hosts[node - 1].site.clone();
                let key = NodeKey(node as u32);
                self.tell(Event::NodeCame { node: key, site });
                for _ in 0..AT_ONCE {
                    self.ask_next(node);
                }
            }
            Happening::Freezes(node) => {
                self.nodes[node].frozen = true;
                self.network.freeze(self.now, node);
            }
            Happening::Silent(node) => self.tell(Event::Silent {
                node: NodeKey(node as u32),
            }),
            Happening::Dies(node) => self.dies(node),
            Happening::Begins {
                receiver,
                sender,
                blob,
                piece,
            } => self.begins(receiver, sender, blob, piece),
        }
    }

    fn ask_next(&mut self, node: usize) {
        let blob = self.nodes[node].next_blob;
        let Some(layout) = self.world.blobs.get(blob) else {
            return;
        };
        self.nodes[node].next_blob += 1;
        let reading_at = layout.piece(0).expect("a blob has pieces");
        self.tell(Event::Joined {
            node: NodeKey(node as u32),
            blob: BlobKey(blob as u32),
            present: Vec::new(),
            reading_at,
        });
    }

    fn dies(&mut self, node: usize) {
        self.nodes[node].gone = true;
        let broken = self.network.cancel(self.now, node, |_| true);
        for flow in broken.into_iter().filter(|flow| flow.sender == node) {
            self.failed(flow, PeerFault::Unreachable);
        }
        self.tell(Event::NodeWent {
            node: NodeKey(node as u32),
        });
    }

    fn failed(&mut self, flow: Flow, fault: PeerFault) {
        let Some(piece) = self.piece(flow.blob, flow.piece) else {
            return;
        };
        self.tell(Event::Failed {
            node: NodeKey(flow.receiver as u32),
            blob: BlobKey(flow.blob),
            piece,
            from: NodeKey(flow.sender as u32),
            fault,
        });
    }

    fn piece(&self, blob: u32, piece: u32) -> Option<PieceIndex> {
        self.world.blobs[blob as usize].piece(piece)
    }

    fn bytes(&self, blob: u32, piece: u32) -> f64 {
        let layout = self.world.blobs[blob as usize];
        let range = layout.piece(piece).map(|piece| layout.range(piece));
        range.map_or(0.0, |range| (range.end - range.start) as f64)
    }

    fn begins(&mut self, receiver: usize, sender: usize, blob: u32, piece: u32) {
        let to = &self.nodes[receiver];
        if to.gone || bit(&to.has[blob as usize], piece) {
            return;
        }
        let from = &self.nodes[sender];
        if from.gone {
            let bytes = self.bytes(blob, piece);
            let ends = (sender, receiver);
            self.network.start(self.now, ends, (blob, piece), bytes);
            let broken = self.network.cancel(self.now, receiver, |flow| {
                flow.sender == sender && flow.blob == blob && flow.piece == piece
            });
            for flow in broken {
                self.failed(flow, PeerFault::Unreachable);
            }
        } else if bit(&from.has[blob as usize], piece) {
            let bytes = self.bytes(blob, piece);
            let ends = (sender, receiver);
            self.network.start(self.now, ends, (blob, piece), bytes);
        } else {
            let waiting = self.held_requests.entry((sender, blob, piece));
            waiting.or_default().push(receiver);
        }
    }

    fn fetch_from_upstream(&mut self, blob: u32, piece: u32) {
        let bytes = self.bytes(blob, piece);
        let upstream = self.world.hosts.len() + 1;
        let ends = (upstream, 0);
        self.network.start(self.now, ends, (blob, piece), bytes);
    }

    fn arrived(&mut self, flow: Flow) {
        let to = flow.receiver;
        if self.nodes[to].gone || self.nodes[to].frozen {
            return;
        }
        let Some(piece) = self.piece(flow.blob, flow.piece) else {
            return;
        };
        let lies = |node: usize| node >= 1 && self.world.hosts[node - 1].manner == Manner::Liar;
        if flow.sender <= self.world.hosts.len() && lies(flow.sender) {
            self.outcome.wrong += 1;
            return self.failed(flow, PeerFault::Wrong);
        }
        let blob = flow.blob as usize;
        if bit(&self.nodes[to].has[blob], flow.piece) {
            self.outcome.wasted += 1;
            return;
        }
        self.nodes[to].has[blob][(flow.piece / 64) as usize] |= 1 << (flow.piece % 64);
        self.nodes[to].held[blob] += 1;
        self.network.cancel(self.now, to, |other| {
            other.receiver == to && other.blob == flow.blob && other.piece == flow.piece
        });
        if to == 0 {
            self.at_seed(flow, piece);
        } else {
            self.at_node(flow, piece);
        }
        let waiting = self.held_requests.remove(&(to, flow.blob, flow.piece));
        for receiver in waiting.into_iter().flatten() {
            self.begins(receiver, to, flow.blob, flow.piece);
        }
    }

    fn at_seed(&mut self, flow: Flow, piece: PieceIndex) {
        self.tell(Event::SeedHas {
            blob: BlobKey(flow.blob),
            piece,
        });
        if flow.piece + 1 < self.world.blobs[flow.blob as usize].count() {
            self.fetch_from_upstream(flow.blob, flow.piece + 1);
        } else if (flow.blob as usize + AT_ONCE) < self.world.blobs.len() {
            self.fetch_from_upstream(flow.blob + AT_ONCE as u32, 0);
        }
    }

    fn at_node(&mut self, flow: Flow, piece: PieceIndex) {
        let node = flow.receiver;
        let since =
            Duration::from_nanos(self.now).saturating_sub(self.world.hosts[node - 1].asks_at);
        if flow.piece == 0 && flow.blob == 0 {
            self.outcome.first_byte[node - 1] = Some(since);
        }
        if flow.sender == 0 {
            self.outcome.seed_done = Duration::from_nanos(self.now);
        }
        self.tell(Event::Got {
            node: NodeKey(node as u32),
            blob: BlobKey(flow.blob),
            piece,
            from: Some(NodeKey(flow.sender as u32)),
        });
        let blob = flow.blob as usize;
        if self.nodes[node].held[blob] < self.world.blobs[blob].count() {
            return;
        }
        self.tell(Event::Left {
            node: NodeKey(node as u32),
            blob: BlobKey(flow.blob),
            keeps: true,
        });
        self.nodes[node].unfinished -= 1;
        if self.nodes[node].unfinished > 0 {
            return self.ask_next(node);
        }
        self.outcome.done[node - 1] = Some(since);
        let manner = self.world.hosts[node - 1].manner;
        if matches!(manner, Manner::Honest | Manner::Liar) {
            self.unfinished -= 1;
        }
    }

    fn finish(mut self) -> Outcome {
        self.outcome.memory_bytes = self.scheduler.memory_bytes();
        for blob in 0..self.world.blobs.len() {
            if let Some(progress) = self.scheduler.progress(BlobKey(blob as u32)) {
                self.outcome.seed_sends += progress.seed_sends;
                self.outcome.crossings += progress.crossings;
            }
        }
        self.outcome
    }
}
