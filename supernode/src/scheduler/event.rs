//! What each event changes; the deciding comes after, in `settle`.

use swarm::{Layout, PieceIndex};

use super::blob::Blob;
use super::faults::Complaint;
use super::node::Node;
use super::{Action, BlobKey, Event, NodeKey, Scheduler, Site};

impl Scheduler {
    pub(super) fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::NodeCame { node, site } => self.came(node, site),
            Event::NodeWent { node } => self.went(node, actions),
            Event::Silent { node } => self.silent(node, actions),
            Event::Spoke { node } => self.spoke(node, actions),
            Event::Blob {
                blob,
                layout,
                held_by_seed,
            } => self.begin(blob, layout, held_by_seed, actions),
            Event::SeedHas { blob, piece } => self.seed_has(blob, piece, actions),
            Event::SeedGone { blob } => self.seed_gone(blob, actions),
            Event::Joined {
                node,
                blob,
                present,
                reading_at,
            } => {
                self.joined(node, blob, &present, reading_at);
                self.settle(&[node], actions);
                self.rest(blob);
            }
            Event::Got {
                node,
                blob,
                piece,
                from,
            } => {
                let touched = self.got(node, blob, piece.get(), from);
                self.settle(&touched, actions);
                self.rest(blob);
            }
            Event::Failed {
                node,
                blob,
                piece,
                from,
                fault,
            } => {
                self.end_piece(node, blob, piece.get(), Some(from));
                self.complain(
                    Complaint {
                        by: node,
                        of: from,
                        blob,
                        piece: piece.get(),
                        fault,
                    },
                    actions,
                );
                self.settle(&[from, node], actions);
            }
            Event::Left { node, blob, keeps } => self.left(node, blob, keeps, actions),
            Event::Holds { node, blob } => self.left(node, blob, true, actions),
            Event::Gone { node, blob } => self.left(node, blob, false, actions),
            Event::BlobDone { blob } => self.done(blob, actions),
            Event::Tick => self.tick(actions),
        }
    }

    fn came(&mut self, key: NodeKey, site: Site) {
        if key == NodeKey::SEED {
            return;
        }
        let at = key.0 as usize;
        if self.nodes.len() <= at {
            self.nodes.resize_with(at + 1, Node::default);
        }
        if self.nodes[at].here {
            self.remove(key);
        }
        self.here += 1;
        self.nodes[at] = Node::new(&self.options, self.sites.number(site));
    }

    fn went(&mut self, key: NodeKey, actions: &mut Vec<Action>) {
        if key == NodeKey::SEED || !self.node(key).here {
            return;
        }
        let touched = self.remove(key);
        self.settle(&touched, actions);
    }

    /// Takes a node out of everything; who was to send to it or to hear from it.
    fn remove(&mut self, key: NodeKey) -> Vec<NodeKey> {
        let mut touched = Vec::new();
        let blobs: Vec<BlobKey> = self.node(key).blobs().collect();
        for blob in blobs {
            touched.extend(self.drop_member(key, blob));
        }
        self.here -= 1;
        *self.node_mut(key) = Node::default();
        touched
    }

    fn silent(&mut self, key: NodeKey, actions: &mut Vec<Action>) {
        if key == NodeKey::SEED || !self.node(key).hears() {
            return;
        }
        self.node_mut(key).silent = true;
        let blobs: Vec<BlobKey> = self.node(key).blobs().collect();
        let mut touched = Vec::new();
        for blob in blobs {
            touched.extend(self.end_all_to(key, blob));
        }
        self.count_out_all(key);
        touched.extend(self.make_all_late(key));
        touched.push(key);
        self.settle(&touched, actions);
    }

    fn spoke(&mut self, key: NodeKey, actions: &mut Vec<Action>) {
        if !self.node(key).silent {
            return;
        }
        self.node_mut(key).silent = false;
        self.count_in_all(key);
        self.settle(&[key], actions);
    }

    fn begin(
        &mut self,
        key: BlobKey,
        layout: Layout,
        held_by_seed: bool,
        actions: &mut Vec<Action>,
    ) {
        let at = key.0 as usize;
        if self.blobs.len() <= at {
            self.blobs.resize_with(at + 1, || None);
        }
        match &mut self.blobs[at] {
            Some(blob) if blob.layout == layout => {
                blob.seed_gone = false;
                if held_by_seed {
                    blob.seed_has = blob.pieces;
                    self.keep_promises(key);
                }
            }
            Some(_) => {
                self.done(key, actions);
                self.begin(key, layout, held_by_seed, actions);
            }
            none => *none = Some(Box::new(Blob::new(key, layout, held_by_seed))),
        }
        self.settle(&[], actions);
    }

    fn joined(&mut self, key: NodeKey, blob: BlobKey, present: &[PieceIndex], at: PieceIndex) {
        let (true, Some(member)) = (self.node(key).here, self.enter(key, blob)) else {
            return;
        };
        let now = self.now;
        let Some(blob) = self.blob_mut(blob) else {
            return;
        };
        for piece in present {
            blob.arrive(member, piece.get());
        }
        let pieces = blob.pieces;
        let wanted = blob.member_mut(member);
        wanted.first_gap = wanted.have.first_zero(at.get());
        if !wanted.wants && wanted.held < pieces {
            wanted.wants = true;
            wanted.told_at = now;
            blob.wanting += 1;
        }
        let blob = blob.key;
        let present = u32::try_from(present.len()).unwrap_or(u32::MAX);
        let node = self.node_mut(key);
        node.held = node.held.saturating_add(present);
        self.follow(key, blob, member);
    }

    /// Who has a slot free by that.
    fn got(
        &mut self,
        node: NodeKey,
        blob: BlobKey,
        piece: u32,
        from: Option<NodeKey>,
    ) -> Vec<NodeKey> {
        let mut touched = self.end_piece_everywhere(node, blob, piece, from);
        if let Some((blob, member)) = self.membership(node, blob) {
            blob.arrive(member, piece);
            blob.stop_wanting_if_full(member);
        }
        let receiver = self.node_mut(node);
        receiver.held = receiver.held.saturating_add(1);
        touched.push(node);
        touched
    }

    fn left(&mut self, node: NodeKey, blob: BlobKey, keeps: bool, actions: &mut Vec<Action>) {
        if !self.node(node).here {
            return;
        }
        let mut touched = if keeps {
            self.enter(node, blob);
            self.end_all_to(node, blob)
        } else {
            self.drop_member(node, blob)
        };
        if keeps && let Some((blob, member)) = self.membership(node, blob) {
            blob.fill(member);
            let pieces = blob.pieces;
            blob.stop_wanting_if_full(member);
            let rests = !blob.is_live(member);
            blob.resting.set(member, rests);
            let node = self.node_mut(node);
            node.held = node.held.max(pieces);
        }
        touched.push(node);
        self.settle(&touched, actions);
        self.rest(blob);
    }

    fn done(&mut self, key: BlobKey, actions: &mut Vec<Action>) {
        let Some(blob) = self.blob(key) else { return };
        let nodes: Vec<NodeKey> = blob.nodes().collect();
        let mut touched = Vec::new();
        for node in nodes {
            touched.extend(self.end_all_to(node, key));
            self.node_mut(node).leave(key);
        }
        self.blobs[key.0 as usize] = None;
        self.seed_turn.retain(|turn| *turn != key);
        self.settle(&touched, actions);
    }

    /// The node as a member of the blob, new if it must be.
    fn enter(&mut self, node: NodeKey, blob: BlobKey) -> Option<u32> {
        if let Some(member) = self.node(node).member(blob) {
            return Some(member);
        }
        if node == NodeKey::SEED {
            return None;
        }
        let site = (self.node(node).zone, self.node(node).rack);
        let counts = self.node(node).gives(self.now);
        let now = self.now;
        let entered = self.blob_mut(blob)?;
        let member = entered.enter(node, site, now);
        if !counts {
            entered.count_out(member);
        }
        self.node_mut(node).enter(blob, member);
        Some(member)
    }

    /// Takes a node out of a blob; who has a slot free by that.
    fn drop_member(&mut self, node: NodeKey, blob: BlobKey) -> Vec<NodeKey> {
        let mut touched = self.end_all_to(node, blob);
        touched.extend(self.end_all_from(node, blob));
        if let Some((held, member)) = self.membership(node, blob) {
            held.leave(member);
            self.node_mut(node).leave(blob);
        }
        self.rest(blob);
        touched
    }

    /// A blob and the node's place in it.
    pub(super) fn membership(&mut self, node: NodeKey, blob: BlobKey) -> Option<(&mut Blob, u32)> {
        let member = self.node(node).member(blob)?;
        Some((self.blob_mut(blob)?, member))
    }
}
