//! What each event does, in worlds of a few nodes; how it all plays together is the simulation's.

use std::collections::BTreeSet;

use swarm::tracker::PeerFault;
use swarm::{Layout, PieceIndex};

use super::{Action, BlobKey, Event, NodeKey, Now, Options, Scheduler, Site};

const SEED: NodeKey = NodeKey::SEED;
const A: NodeKey = NodeKey(1);
const B: NodeKey = NodeKey(2);
const C: NodeKey = NodeKey(3);
const D: NodeKey = NodeKey(4);
const E: NodeKey = NodeKey(5);
const BLOB: BlobKey = BlobKey(0);
/// Eight pieces.
const SMALL: u64 = 2 << 20;

/// An instruction: who, from whom, which piece of which blob.
type Told = (NodeKey, NodeKey, u32, BlobKey);

struct Rig {
    scheduler: Scheduler,
    now: Now,
    layout: Layout,
    banned: Vec<NodeKey>,
    /// Of the last event.
    told: Vec<Told>,
    /// All that has not been answered.
    open: Vec<Told>,
}

impl Rig {
    fn new(total: u64, held_by_seed: bool, nodes: &[NodeKey]) -> Self {
        let layout = Layout::of(total);
        let mut rig = Self {
            scheduler: Scheduler::new(Options::prompt(), 7),
            now: Now::from_secs(1),
            layout,
            banned: Vec::new(),
            told: Vec::new(),
            open: Vec::new(),
        };
        for &node in nodes {
            let site = Site::default();
            rig.on(Event::NodeCame { node, site });
        }
        rig.blob(BLOB, held_by_seed);
        rig
    }

    fn blob(&mut self, blob: BlobKey, held_by_seed: bool) {
        let layout = self.layout;
        self.on(Event::Blob {
            blob,
            layout,
            held_by_seed,
        });
    }

    fn on(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.on(event, self.now, &mut actions);
        self.told.clear();
        for action in actions {
            match action {
                Action::Fetch {
                    node,
                    blob,
                    piece,
                    from,
                    ..
                } => self.told.push((node, from, piece.get(), blob)),
                Action::Banned { node, .. } => self.banned.push(node),
            }
        }
        self.open.extend(&self.told);
    }

    fn piece(&self, number: u32) -> PieceIndex {
        self.layout.piece(number).unwrap()
    }

    fn join(&mut self, node: NodeKey, blob: BlobKey, present: &[u32]) {
        let present = present.iter().map(|&number| self.piece(number));
        let event = Event::Joined {
            node,
            blob,
            present: present.collect(),
            reading_at: self.piece(0),
        };
        self.on(event);
    }

    fn holds(&mut self, node: NodeKey) {
        self.on(Event::Holds { node, blob: BLOB });
    }

    /// It went as it was told.
    fn got(&mut self, (node, from, piece, blob): Told) {
        self.open
            .retain(|open| (open.0, open.2, open.3) != (node, piece, blob));
        let piece = self.piece(piece);
        let from = Some(from);
        self.on(Event::Got {
            node,
            blob,
            piece,
            from,
        });
    }

    fn failed(&mut self, told: Told, fault: PeerFault) {
        self.open.retain(|open| *open != told);
        let (node, from, piece, blob) = told;
        let piece = self.piece(piece);
        self.on(Event::Failed {
            node,
            blob,
            piece,
            from,
            fault,
        });
    }

    fn next_from(&self, from: NodeKey) -> Option<Told> {
        self.open.iter().copied().find(|told| told.1 == from)
    }

    /// Lets time pass, with all ticks.
    fn wait(&mut self, time: Now) {
        let end = self.now + time;
        while let Some(at) = self.scheduler.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.on(Event::Tick);
        }
        self.now = end;
    }

    /// Answers everything until nothing is open; all that was told on the way.
    fn run(&mut self) -> Vec<Told> {
        let mut all = self.open.clone();
        for _ in 0..1000 {
            if self.open.is_empty() {
                break;
            }
            self.now += Now::from_millis(10);
            self.got(self.open[0]);
            all.extend(&self.told);
        }
        assert!(self.open.is_empty(), "{:?}", self.open);
        all
    }
}

#[test]
fn one_node_gets_all_from_the_seed_in_order_a_few_at_a_time() {
    let mut rig = Rig::new(SMALL, true, &[A]);
    rig.join(A, BLOB, &[2]);
    let slots = usize::from(Options::prompt().down_slots) + 1;
    assert!(rig.open.len() <= slots, "{:?}", rig.open);
    let told = rig.run();
    let pieces: Vec<u32> = told.iter().map(|told| told.2).collect();
    assert_eq!(pieces, [0, 1, 3, 4, 5, 6, 7]);
    assert!(told.iter().all(|told| told.1 == SEED));
}

#[test]
fn pieces_are_promised_shortly_before_the_seed_has_them() {
    let mut rig = Rig::new(SMALL, false, &[A, B]);
    rig.join(A, BLOB, &[]);
    rig.join(B, BLOB, &[]);
    assert_eq!(rig.open.len(), usize::from(Options::prompt().seed_ahead));
    let piece = rig.piece(0);
    rig.on(Event::SeedHas { blob: BLOB, piece });
    assert_eq!(rig.told.len(), 1, "the next one: {:?}", rig.told);
    assert_eq!(rig.told[0].2, 1);
}

#[test]
fn a_seed_that_failed_is_not_asked_any_more() {
    let mut rig = Rig::new(SMALL, false, &[A, B]);
    for number in 0..3 {
        let piece = rig.piece(number);
        rig.on(Event::SeedHas { blob: BLOB, piece });
    }
    rig.join(A, BLOB, &[5]);
    rig.on(Event::SeedGone { blob: BLOB });
    rig.open.clear();
    rig.join(B, BLOB, &[]);
    let told = rig.run();
    assert!(told.iter().all(|told| told.1 != SEED), "{told:?}");
    assert_eq!(told, [(B, A, 5, BLOB)]);
    // It comes back.
    let piece = rig.piece(3);
    rig.on(Event::SeedHas { blob: BLOB, piece });
    assert!(rig.told.iter().any(|told| told.1 == SEED));
}

#[test]
fn a_holder_spares_the_seed() {
    let mut rig = Rig::new(SMALL, true, &[A, B]);
    rig.holds(A);
    rig.join(B, BLOB, &[]);
    let told = rig.run();
    assert_eq!(told.len(), 8);
    assert!(told.iter().all(|told| told.1 == A), "{told:?}");
    assert_eq!(rig.scheduler.progress(BLOB).unwrap().seed_sends, 0);
}

#[test]
fn wrong_bytes_ban_at_once_and_for_all() {
    let mut rig = Rig::new(SMALL, true, &[A, B, C]);
    rig.holds(A);
    rig.join(B, BLOB, &[]);
    let told = rig.next_from(A).unwrap();
    rig.failed(told, PeerFault::Wrong);
    assert_eq!(rig.banned, [A]);
    rig.open.retain(|told| told.1 != A);
    rig.join(C, BLOB, &[]);
    let told = rig.run();
    assert!(told.iter().all(|told| told.1 != A), "{told:?}");
    rig.wait(Now::from_secs(3600));
    assert_eq!(rig.banned, [A]);
}

#[test]
fn who_finds_everybody_wrong_is_believed_a_few_times() {
    let nodes: Vec<NodeKey> = (1..=8).map(NodeKey).collect();
    let mut rig = Rig::new(SMALL, false, &nodes);
    for &node in &nodes[1..] {
        rig.holds(node);
    }
    rig.join(A, BLOB, &[]);
    for _ in 0..50 {
        let mut open = rig.open.iter().copied();
        let unlike = |told: &Told| told.1 != SEED && !rig.banned.contains(&told.1);
        if let Some(told) = open.rfind(unlike) {
            rig.failed(told, PeerFault::Wrong);
        }
        rig.wait(Now::from_secs(11));
    }
    assert_eq!(rig.banned.len(), 3);
}

#[test]
fn one_complaint_is_the_pairs_and_three_are_everybodys() {
    let mut rig = Rig::new(SMALL, false, &[A, B, C, D, E]);
    rig.holds(A);
    for node in [B, C, D] {
        rig.join(node, BLOB, &[]);
        let told = rig.next_from(A).unwrap();
        rig.failed(told, PeerFault::Unreachable);
        assert!(rig.told.iter().all(|told| (told.0, told.1) != (node, A)));
        rig.on(Event::Gone { node, blob: BLOB });
        rig.open.clear();
    }
    rig.join(E, BLOB, &[]);
    assert!(rig.next_from(A).is_none(), "all have complained");
    rig.wait(Options::prompt().avoid * 2);
    assert!(rig.next_from(A).is_some(), "but not for ever");
}

#[test]
fn a_piece_that_a_sender_lost_comes_from_another() {
    let mut rig = Rig::new(SMALL, false, &[A, B, C]);
    rig.join(A, BLOB, &[0]);
    rig.join(B, BLOB, &[]);
    let told = rig.next_from(A).unwrap();
    rig.failed(told, PeerFault::Missing);
    rig.open.retain(|told| told.1 == SEED);
    rig.join(C, BLOB, &[0]);
    assert!(rig.open.contains(&(B, C, 0, BLOB)), "{:?}", rig.open);
}

#[test]
fn a_late_piece_is_named_again_with_another_sender() {
    let mut rig = Rig::new(SMALL, false, &[A, B, C]);
    rig.join(A, BLOB, &[0]);
    rig.join(B, BLOB, &[]);
    assert!(rig.open.contains(&(B, A, 0, BLOB)));
    rig.join(C, BLOB, &[0]);
    assert!(!rig.open.contains(&(B, C, 0, BLOB)), "not before");
    rig.wait(Now::from_secs(4));
    assert!(rig.open.contains(&(B, C, 0, BLOB)), "{:?}", rig.open);
}

#[test]
fn a_silent_node_is_neither_told_nor_asked() {
    let mut rig = Rig::new(SMALL, false, &[A, B]);
    rig.holds(A);
    rig.on(Event::Silent { node: A });
    rig.join(B, BLOB, &[]);
    assert!(rig.next_from(A).is_none());
    rig.on(Event::Spoke { node: A });
    rig.wait(Now::from_secs(1));
    assert!(rig.next_from(A).is_some());
    rig.on(Event::Silent { node: B });
    rig.open.clear();
    rig.wait(Now::from_secs(60));
    assert_eq!(rig.open, []);
}

#[test]
fn a_nodes_slots_are_shared_by_its_blobs() {
    let mut rig = Rig::new(64 << 20, true, &[A, B]);
    let other = BlobKey(1);
    rig.blob(other, true);
    for blob in [BLOB, other] {
        rig.on(Event::Holds { node: B, blob });
        rig.join(A, blob, &[]);
    }
    let mut counts = [0_u32; 2];
    for _ in 0..100 {
        let told = rig.open[0];
        counts[told.3.0 as usize] += 1;
        rig.got(told);
    }
    assert!(counts[0].abs_diff(counts[1]) <= 10, "{counts:?}");
}

#[test]
fn what_has_gone_leaves_nothing_behind() {
    let mut rig = Rig::new(SMALL, true, &[A, B, C]);
    for node in [A, B, C] {
        rig.join(node, BLOB, &[]);
    }
    rig.on(Event::NodeWent { node: A });
    rig.on(Event::BlobDone { blob: BLOB });
    assert_eq!(rig.scheduler.progress(BLOB), None);
    for node in &rig.scheduler.nodes {
        assert_eq!((node.up.used, node.down.used), (0, 0));
        assert!(node.sending.is_empty());
        assert_eq!(node.blobs().count(), 0);
    }
    rig.open.clear();
    rig.blob(BLOB, true);
    rig.join(B, BLOB, &[]);
    assert_eq!(rig.run().len(), 8);
}

#[test]
fn nothing_is_told_twice_while_it_is_on_its_way() {
    let nodes: Vec<NodeKey> = (1..=6).map(NodeKey).collect();
    let mut rig = Rig::new(SMALL, true, &nodes);
    for &node in &nodes {
        rig.join(node, BLOB, &[]);
    }
    let told = rig.run();
    let different: BTreeSet<(NodeKey, u32)> = told.iter().map(|told| (told.0, told.2)).collect();
    assert_eq!(told.len(), 48);
    assert_eq!(different.len(), 48);
}

#[test]
fn strangers_change_nothing() {
    let mut rig = Rig::new(SMALL, true, &[A]);
    let piece = rig.piece(0);
    let (nobody, nothing) = (NodeKey(99), BlobKey(99));
    for (node, blob) in [
        (nobody, BLOB),
        (A, nothing),
        (nobody, nothing),
        (SEED, BLOB),
    ] {
        rig.join(node, blob, &[]);
        rig.got((node, A, 0, blob));
        rig.failed((node, nobody, 0, blob), PeerFault::Wrong);
        for keeps in [false, true] {
            rig.on(Event::Left { node, blob, keeps });
        }
        rig.on(Event::Gone { node, blob });
    }
    rig.on(Event::SeedHas {
        blob: nothing,
        piece,
    });
    rig.on(Event::NodeWent { node: nobody });
    rig.on(Event::Spoke { node: nobody });
    assert_eq!(rig.open, []);
    assert_eq!(rig.banned, []);
}
