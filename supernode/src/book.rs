//! The book of a supernode: which nodes there are, who takes part in which blob, and the scheduler
//! that decides from it.
//!
//! A state machine without I/O: it is told what nodes say and what upstream gives, and answers with
//! a [`Turn`] of words and tasks. Invariants: nobody hears of a blob's pieces but for a place that
//! upstream serves to anybody; a node is told who a peer is before it is sent there, and a piece's
//! digest, if that is known, before the piece. Deliberately not here: streams, clocks, upstream.

mod blob;
mod crowd;
mod node;
mod preheat;
mod seeding;
mod slots;
mod status;
mod wants;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use oci::Digest;
use proxy::place::Place;
use swarm::Verdict;
use swarm::wire::{self, Hello, PreheatProgress, node_says, supernode_says::Word};

pub(crate) use node::candidates;
pub(crate) use seeding::Opened;
pub use status::{BlobStatus, NodeStatus, SwarmStatus};

use crate::scheduler::{Action, BlobKey, Event, NodeKey, Now, Options, Scheduler};
use blob::Blob;
use node::Node;
use preheat::Preheating;
use slots::Slots;

/// Ticks without a word after which a node is not asked for pieces: a good second.
const SILENT_TICKS: u32 = 5;
/// Ticks without a word after which its stream is given up: 10 s.
const LOST_TICKS: u32 = 40;
/// Blobs that nobody wants, of which cut and digests are kept for whoever comes late.
const IDLE_BLOBS_MAX: usize = 4096;

/// What comes of what the book was told.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Words for nodes, in order.
    pub(crate) words: Vec<(NodeKey, Word)>,
    /// What to ask of upstream.
    pub(crate) tasks: Vec<Task>,
    /// How far preheats are, by number.
    pub(crate) progress: Vec<(u64, PreheatProgress)>,
    /// Preheats that are over, after that.
    pub(crate) finished: Vec<u64>,
    /// Nodes whose streams are to end.
    pub(crate) drops: Vec<NodeKey>,
}

/// Something to ask of upstream; answered by [`Book::opened`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Whether the blob is public there; read it if it is.
    Read(Digest, Place),
    /// Whether it is public there; others have it already.
    Confirm(Digest, Place),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Book {
    scheduler: Scheduler,
    now: Now,
    /// How long upstream's yes is believed.
    grant: Now,
    nodes: Slots<Node>,
    blobs: Slots<Blob>,
    by_digest: HashMap<Digest, BlobKey>,
    /// Who holds which blob complete, whether the book has the blob or not.
    holders: HashMap<Digest, BTreeSet<NodeKey>>,
    /// Counts wants, for what was used last.
    uses: u64,
    /// Counts names and addresses given to nodes.
    editions: u64,
    actions: Vec<Action>,
    preheats: BTreeMap<u64, Preheating>,
    /// Counts preheats.
    tasks: u64,
}

impl Book {
    pub(crate) fn new(options: Options, seed: u64, grant: Now) -> Self {
        Self {
            scheduler: Scheduler::new(options, seed),
            now: Now::ZERO,
            grant,
            nodes: Slots::from(NodeKey::SEED.0 + 1),
            blobs: Slots::from(0),
            by_digest: HashMap::new(),
            holders: HashMap::new(),
            uses: 0,
            editions: 0,
            actions: Vec::new(),
            preheats: BTreeMap::new(),
            tasks: 0,
        }
    }

    /// Tells the time, which never goes back.
    pub(crate) fn at(&mut self, now: Now) {
        self.now = self.now.max(now);
    }

    /// When [`Book::due`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.scheduler.deadline()
    }

    /// The scheduler's deadline has come.
    pub(crate) fn due(&mut self, turn: &mut Turn) {
        self.decide(Event::Tick);
        self.settle(turn);
    }

    /// A node's stream has opened.
    pub(crate) fn came(&mut self, hello: Hello, seen: IpAddr) -> NodeKey {
        self.editions += 1;
        let node = Node::new(hello, seen, self.editions);
        let site = node.site.clone();
        tracing::info!(
            node = node.name,
            id = node.id,
            address = node.address,
            "a node attends"
        );
        let node = NodeKey(self.nodes.put(node));
        self.decide(Event::NodeCame { node, site });
        node
    }

    /// A node's stream is over; its number may be used again.
    pub(crate) fn went(&mut self, key: NodeKey, turn: &mut Turn) {
        let Some(node) = self.nodes.take(key.0) else {
            return;
        };
        tracing::info!(node = node.name, id = node.id, "a node is gone");
        self.leaves_preheats(key, turn);
        for digest in &node.holds {
            self.drop_holder(digest, key);
        }
        for blob in node.flights.values() {
            if let Some(blob) = self.blobs.get_mut(blob.0) {
                blob.members.remove(&key);
            }
        }
        self.decide(Event::NodeWent { node: key });
        for blob in node.flights.into_values() {
            self.revive(blob, turn);
        }
        self.settle(turn);
    }

    /// A node has said something.
    pub(crate) fn said(&mut self, key: NodeKey, word: node_says::Word, turn: &mut Turn) {
        use node_says::Word;
        let Some(node) = self.nodes.get_mut(key.0) else {
            return;
        };
        node.quiet = 0;
        if std::mem::take(&mut node.silent) && !node.is_cut_off() {
            self.decide(Event::Spoke { node: key });
        }
        match word {
            Word::Alive(_) | Word::Hello(_) => {}
            Word::Fetched(fetched) => self.fetched(key, &fetched, turn),
            Word::Want(want) => self.wants(key, &want, turn),
            Word::Reports(reports) => {
                for report in reports.list {
                    self.reports(key, &report, turn);
                }
            }
            Word::Leave(leave) => self.leaves(key, leave, turn),
            Word::Held(held) => self.holds(key, held),
            Word::Gone(gone) => self.lacks(key, &gone, turn),
            Word::Verdict(verdict) => self.judges(key, verdict.into()),
        }
        self.settle(turn);
    }

    /// What was found out about the address that a node advertises.
    pub(crate) fn judged(&mut self, key: NodeKey, verdict: Verdict, turn: &mut Turn) {
        let Some(node) = self.nodes.get_mut(key.0) else {
            return;
        };
        if !verdict.reached {
            tracing::warn!(
                node = node.name,
                advertised = verdict.address,
                error = verdict.error,
                instead = verdict.instead.as_deref().unwrap_or("none"),
                "the peer port that a node advertises cannot be reached from here; \
                 hint: start it with --advertise and a name that other nodes reach"
            );
        }
        if node.address != verdict.usable() {
            verdict.usable().clone_into(&mut node.address);
            self.editions += 1;
            node.edition = self.editions;
        }
        turn.words
            .push((key, Word::Verdict(verdict.clone().into())));
        node.verdict = Some(verdict);
        if node.is_cut_off() {
            // Nobody is told to ask it; it may still fetch from others.
            self.decide(Event::Silent { node: key });
        }
    }

    /// A quarter of a second has passed: who is silent, and what was put off.
    pub(crate) fn tick(&mut self, turn: &mut Turn) {
        let mut silent = Vec::new();
        for (number, node) in self.nodes.iter_mut() {
            let key = NodeKey(number);
            turn.words.push((key, Word::Alive(wire::Alive {})));
            node.quiet += 1;
            if node.quiet >= LOST_TICKS {
                turn.drops.push(key);
            }
            if node.quiet >= SILENT_TICKS && !node.silent {
                node.silent = true;
                tracing::info!(node = node.name, id = node.id, "a node is silent");
                silent.push(key);
            }
        }
        for node in silent {
            self.decide(Event::Silent { node });
        }
        self.name_mates(turn);
        self.tell_all_digests(turn);
        self.settle(turn);
    }

    /// What a node found out about the address that we advertise.
    fn judges(&mut self, key: NodeKey, verdict: Verdict) {
        let Some(node) = self.nodes.get_mut(key.0) else {
            return;
        };
        if !verdict.reached {
            tracing::warn!(
                node = node.name,
                advertised = verdict.address,
                error = verdict.error,
                instead = verdict.instead.as_deref().unwrap_or("none"),
                "a node cannot reach the address at which this supernode advertises its bytes; \
                 hint: start it with --advertise and a name that nodes reach"
            );
        }
        node.ours = Some(verdict);
    }

    fn decide(&mut self, event: Event) {
        self.scheduler.on(event, self.now, &mut self.actions);
    }

    fn node(&self, key: NodeKey) -> Option<&Node> {
        self.nodes.get(key.0)
    }

    fn blob_mut(&mut self, key: BlobKey) -> Option<&mut Blob> {
        self.blobs.get_mut(key.0)
    }

    /// The blob of a digest, new if need be.
    fn enter_blob(&mut self, digest: Digest) -> BlobKey {
        self.uses += 1;
        let used = self.uses;
        if let Some(key) = self.by_digest.get(&digest).copied() {
            if let Some(blob) = self.blob_mut(key) {
                blob.used = used;
            }
            return key;
        }
        let blob = Blob {
            used,
            ..Blob::new(digest)
        };
        let key = BlobKey(self.blobs.put(blob));
        self.by_digest.insert(digest, key);
        self.make_room();
        key
    }

    /// Forgets the idle blobs that were not wanted for the longest time.
    fn make_room(&mut self) {
        if self.blobs.len() <= IDLE_BLOBS_MAX + IDLE_BLOBS_MAX / 8 {
            return;
        }
        let idle = self.blobs.iter().filter(|(_, blob)| blob.is_idle());
        let mut idle: Vec<(u64, u32)> = idle.map(|(number, blob)| (blob.used, number)).collect();
        idle.sort_unstable();
        let surplus = self.blobs.len() - IDLE_BLOBS_MAX;
        for (_, number) in idle.into_iter().take(surplus) {
            self.forget(BlobKey(number));
        }
    }

    fn forget(&mut self, key: BlobKey) {
        let Some(blob) = self.blobs.take(key.0) else {
            return;
        };
        self.by_digest.remove(&blob.digest);
        for (node, member) in &blob.members {
            if let Some(node) = self.nodes.get_mut(node.0) {
                node.flights.remove(&member.flight);
            }
        }
        if blob.layout.is_some() {
            self.decide(Event::BlobDone { blob: key });
        }
    }

    fn drop_holder(&mut self, digest: &Digest, node: NodeKey) {
        if let Some(holders) = self.holders.get_mut(digest) {
            holders.remove(&node);
            if holders.is_empty() {
                self.holders.remove(digest);
            }
        }
    }

    /// Turns the scheduler's actions into words.
    fn settle(&mut self, turn: &mut Turn) {
        let mut fetches = Vec::new();
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Fetch {
                    node,
                    blob,
                    piece,
                    from,
                    order,
                } => fetches.push((
                    node,
                    blob,
                    from,
                    wire::Instruction {
                        piece: piece.get(),
                        from: from.0,
                        order,
                    },
                )),
                Action::Banned { node, blob } => self.banned(node, blob),
            }
        }
        // Stable: what belongs to one flight comes together, in the scheduler's order.
        fetches.sort_by_key(|(node, blob, ..)| (*node, *blob));
        for flight in fetches.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            self.instruct(flight, turn);
        }
    }

    /// All instructions for one flight: names first, then digests, then the instructions.
    fn instruct(
        &mut self,
        fetches: &[(NodeKey, BlobKey, NodeKey, wire::Instruction)],
        turn: &mut Turn,
    ) {
        let Some((node, key, ..)) = fetches.first().copied() else {
            return;
        };
        let senders = fetches.iter().map(|(_, _, from, _)| *from);
        self.name_peers(node, senders, turn);
        let Some(blob) = self.blobs.get_mut(key.0) else {
            return;
        };
        let digests = blob.catch_up(node);
        turn.words
            .extend(digests.into_iter().map(|word| (node, word)));
        let Some(member) = blob.members.get(&node) else {
            return;
        };
        let known = blob.digests.len();
        let early = fetches
            .iter()
            .filter(|(.., one)| one.piece as usize >= known);
        for (.., instruction) in early {
            let promised = blob.promised.entry(instruction.piece).or_default();
            promised.push(node);
        }
        let list = fetches.iter().map(|(.., one)| *one).collect();
        let flight = member.flight;
        let word = Word::Instructions(wire::Instructions { flight, list });
        turn.words.push((node, word));
    }

    fn banned(&mut self, key: NodeKey, blob: BlobKey) {
        let digest = self.blobs.get(blob.0).map(|blob| blob.digest);
        let digest = digest.map_or_else(String::new, |digest| digest.short());
        if let Some(node) = self.nodes.get_mut(key.0) {
            node.banned = true;
            tracing::warn!(
                node = node.name,
                id = node.id,
                address = node.address,
                digest,
                "a node sends wrong bytes: it is not asked for pieces any more"
            );
        }
    }
}
