//! Complaints of senders: whom to ask no more, and for how long.
//!
//! Wrong bytes end it at once and for good. Anything else may be the link between the two, so it
//! counts for the pair first, and for all only when several receivers say so. A receiver that finds
//! everybody wrong is probably wrong itself: after a few, its word counts for itself only.

use swarm::tracker::PeerFault;

use super::{Action, BlobKey, NodeKey, Scheduler};

/// So many receivers make a sender suspect.
const ACCUSERS: usize = 3;
/// Suspects are at most one of so many nodes.
const SUSPECTS: usize = 4;
/// Suspicion lasts longer each time, up to this count.
const STRIKES: u8 = 5;
/// So many nodes can be banned on one receiver's word.
const BANS: u8 = 3;
/// So many senders one receiver avoids at a time; the oldest are forgotten.
const AVOIDED: usize = 16;

/// A receiver's word on a sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Complaint {
    pub(super) by: NodeKey,
    pub(super) of: NodeKey,
    pub(super) blob: BlobKey,
    pub(super) piece: u32,
    pub(super) fault: PeerFault,
}

impl Scheduler {
    pub(super) fn complain(&mut self, complaint: Complaint, actions: &mut Vec<Action>) {
        let Complaint { by, of, fault, .. } = complaint;
        if !self.node(of).here || !self.node(by).here {
            return;
        }
        self.avoid(by, of);
        if of == NodeKey::SEED {
            return;
        }
        match fault {
            PeerFault::Wrong if self.node(by).bans < BANS => {
                self.node_mut(by).bans += 1;
                self.ban(of, complaint.blob, actions);
            }
            PeerFault::Missing => {
                if let Some((blob, member)) = self.membership(of, complaint.blob) {
                    blob.lose(member, complaint.piece);
                }
            }
            PeerFault::Wrong | PeerFault::Slow | PeerFault::Unreachable => self.suspect(by, of),
        }
    }

    /// This receiver does not ask this sender for a while.
    pub(super) fn avoid(&mut self, by: NodeKey, of: NodeKey) {
        let now = self.now;
        let until = match of {
            NodeKey::SEED => now + self.options.avoid / 10,
            _ => now + self.options.avoid,
        };
        let avoids = &mut self.node_mut(by).avoids;
        avoids.retain(|(node, until)| *node != of && *until > now);
        if avoids.len() >= AVOIDED {
            avoids.remove(0);
        }
        avoids.push((of, until));
    }

    /// Several receivers' word makes a sender suspect, each time for longer; never many at once, as
    /// then something else is wrong.
    pub(super) fn suspect(&mut self, by: NodeKey, of: NodeKey) {
        if of == NodeKey::SEED {
            return;
        }
        let (now, avoid) = (self.now, self.options.avoid);
        let many = self.suspects.len() > self.here as usize / SUSPECTS;
        let node = self.node_mut(of);
        node.accusers
            .retain(|(accuser, until)| *accuser != by && *until > now);
        node.accusers.push((by, now + avoid));
        if node.accusers.len() < ACCUSERS || many || node.suspect_until > now {
            return;
        }
        node.accusers.clear();
        node.strikes = (node.strikes + 1).min(STRIKES);
        node.suspect_until = now + avoid * (1 << (node.strikes - 1));
        self.suspects.push(of);
        self.count_out_all(of);
        self.refresh(of);
    }

    /// Suspicions that are over; those nodes give again.
    pub(super) fn end_suspicions(&mut self) -> Vec<NodeKey> {
        let now = self.now;
        let suspects = std::mem::take(&mut self.suspects);
        let (over, still) = suspects
            .into_iter()
            .partition(|&node| self.node(node).suspect_until <= now);
        self.suspects = still;
        for &node in &over {
            self.count_in_all(node);
        }
        over
    }

    /// What this node has is not counted as copies any more.
    pub(super) fn count_out_all(&mut self, node: NodeKey) {
        let blobs: Vec<BlobKey> = self.node(node).blobs().collect();
        for blob in blobs {
            if let Some((blob, member)) = self.membership(node, blob) {
                blob.count_out(member);
            }
        }
    }

    /// What this node has counts again, if it gives.
    pub(super) fn count_in_all(&mut self, node: NodeKey) {
        if !self.node(node).gives(self.now) {
            return;
        }
        let blobs: Vec<BlobKey> = self.node(node).blobs().collect();
        for blob in blobs {
            if let Some((blob, member)) = self.membership(node, blob) {
                blob.count_in(member);
            }
        }
    }

    fn ban(&mut self, node: NodeKey, blob: BlobKey, actions: &mut Vec<Action>) {
        if self.node(node).banned {
            return;
        }
        self.node_mut(node).banned = true;
        actions.push(Action::Banned { node, blob });
        self.count_out_all(node);
        self.refresh(node);
        let receivers = self.make_all_late(node);
        self.settle(&receivers, actions);
    }
}
