//! Complaints of senders: whom to ask no more, and for how long.
//!
//! Wrong bytes end it at once and for good. Anything else may be the link between the two, so it
//! counts for the pair first, and for all only when several receivers say so. A receiver that finds
//! everybody wrong is probably wrong itself: after a few, its word counts for itself only.

use swarm::tracker::PeerFault;

use super::{Action, BlobKey, NodeKey, Scheduler};

/// So many receivers make a sender suspect.
const ACCUSERS: usize = 3;
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
    fn avoid(&mut self, by: NodeKey, of: NodeKey) {
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

    fn suspect(&mut self, by: NodeKey, of: NodeKey) {
        let (now, until) = (self.now, self.now + self.options.avoid);
        let node = self.node_mut(of);
        node.accusers
            .retain(|(accuser, until)| *accuser != by && *until > now);
        node.accusers.push((by, until));
        if node.accusers.len() >= ACCUSERS {
            node.accusers.clear();
            node.suspect_until = until;
            self.suspects.push(of);
        }
    }

    fn ban(&mut self, node: NodeKey, blob: BlobKey, actions: &mut Vec<Action>) {
        if self.node(node).banned {
            return;
        }
        self.node_mut(node).banned = true;
        actions.push(Action::Banned { node, blob });
        let blobs: Vec<BlobKey> = self.node(node).blobs().collect();
        for blob in blobs {
            self.count_out(node, blob);
        }
        let receivers = self.make_all_late(node);
        self.settle(&receivers, actions);
    }
}
