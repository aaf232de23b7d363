//! Instructions end, blobs wake and come to rest.

use super::blob::Blob;
use super::outstanding::Instruction;
use super::{BlobKey, NodeKey, Scheduler};

impl Scheduler {
    /// Ends an instruction and gives its slots back; the piece is not on its way any more.
    pub(super) fn end(&mut self, at: u32) -> Option<Instruction> {
        let given = self.outstanding.remove(at)?;
        if given.down {
            self.node_mut(given.node).down.give_back();
        }
        let sender = self.node_mut(given.from);
        sender.sending.retain(|sent| *sent != at);
        if given.up {
            sender.up.give_back();
        }
        if let Some((blob, member)) = self.membership(given.node, given.blob) {
            blob.outstanding -= 1;
            blob.promised.retain(|(_, promised)| *promised != at);
            blob.member_mut(member)
                .coming
                .retain(|coming| *coming != at);
        }
        let again = self.is_coming(&given);
        if !again && let Some((blob, member)) = self.membership(given.node, given.blob) {
            blob.untake(member, given.piece);
        }
        Some(given)
    }

    /// Whether the same piece is on its way from someone else who is not late.
    fn is_coming(&self, given: &Instruction) -> bool {
        self.coming(given.node, given.blob)
            .iter()
            .filter_map(|&at| self.outstanding.get(at))
            .any(|other| other.piece == given.piece && !other.late)
    }

    fn coming(&self, node: NodeKey, blob: BlobKey) -> &[u32] {
        let member = self.node(node).member(blob);
        match member.zip(self.blob(blob)) {
            Some((member, blob)) => &blob.member(member).coming,
            None => &[],
        }
    }

    /// Ends the instruction to fetch a piece from one sender.
    pub(super) fn end_piece(
        &mut self,
        node: NodeKey,
        blob: BlobKey,
        piece: u32,
        from: Option<NodeKey>,
    ) {
        let found = self.coming(node, blob).iter().copied().find(|&at| {
            let given = self.outstanding.get(at);
            given.is_some_and(|g| g.piece == piece && Some(g.from) == from)
        });
        if let Some(at) = found {
            self.end(at);
        }
    }

    /// A piece is there: ends all instructions to fetch it, and learns from the one that brought it.
    pub(super) fn end_piece_everywhere(
        &mut self,
        node: NodeKey,
        blob: BlobKey,
        piece: u32,
        from: Option<NodeKey>,
    ) -> Vec<NodeKey> {
        let coming = self.coming(node, blob).iter().copied();
        let same = |&at: &u32| self.outstanding.get(at).is_some_and(|g| g.piece == piece);
        let ended: Vec<u32> = coming.filter(same).collect();
        let mut senders = Vec::with_capacity(2);
        for at in ended {
            let used = self.outstanding.get(at).map(|given| {
                let receiver = self.node(given.node).down.used;
                (self.node(given.from).up.used, receiver)
            });
            let Some(given) = self.end(at) else { continue };
            senders.push(given.from);
            if let Some(used) = used
                && Some(given.from) == from
            {
                self.learn(&given, used);
            }
        }
        senders
    }

    /// Ends all that a node is to fetch of a blob; the senders.
    pub(super) fn end_all_to(&mut self, node: NodeKey, blob: BlobKey) -> Vec<NodeKey> {
        let coming = self.coming(node, blob).to_vec();
        let ended = coming.into_iter().filter_map(|at| self.end(at));
        ended.map(|given| given.from).collect()
    }

    /// Ends all that a node is to send of a blob; the receivers.
    pub(super) fn end_all_from(&mut self, node: NodeKey, blob: BlobKey) -> Vec<NodeKey> {
        let sending = self.node(node).sending.clone();
        let of_blob = |at: &u32| self.outstanding.get(*at).is_some_and(|g| g.blob == blob);
        let sending: Vec<u32> = sending.into_iter().filter(of_blob).collect();
        let ended = sending.into_iter().filter_map(|at| self.end(at));
        ended.map(|given| given.node).collect()
    }

    /// A node's slots are followed for this blob from now on, and the seed thinks of the blob.
    pub(super) fn follow(&mut self, node: NodeKey, key: BlobKey, member: u32) {
        let Some(blob) = self.blob_mut(key) else {
            return;
        };
        blob.resting.set(member, false);
        let turn = blob.wanting > 0 && !std::mem::replace(&mut blob.in_turn, true);
        if !blob.set_live(member, true) {
            self.node_mut(node).live.push(key);
        }
        if turn {
            self.seed_turn.push_back(key);
        }
    }

    /// A resting sender that is used is followed.
    pub(super) fn wake(&mut self, node: NodeKey, key: BlobKey) {
        if let Some(member) = self.node(node).member(key)
            && self.blob(key).is_some_and(|blob| !blob.is_live(member))
        {
            self.follow(node, key, member);
        }
    }

    /// When nobody wants a blob any more, nobody's slots are followed for it.
    pub(super) fn rest(&mut self, key: BlobKey) {
        let Some(blob) = self.blob_mut(key).filter(|blob| blob.wanting == 0) else {
            return;
        };
        let live = blob.rest();
        for node in live {
            self.node_mut(node).live.retain(|live| *live != key);
        }
        self.seed_turn.retain(|turn| *turn != key);
    }
}

impl Blob {
    /// Stops following all members; their nodes.
    fn rest(&mut self) -> Vec<NodeKey> {
        let mut nodes = Vec::new();
        self.in_turn = false;
        while let Some(at) = self.any_live() {
            self.set_live(at, false);
            self.lacking.set(at, false);
            self.hungry.set(at, false);
            self.giving.set(at, false);
            let whole = self.member(at).held == self.pieces;
            self.resting.set(at, whole);
            nodes.push(self.member(at).node);
        }
        nodes
    }

    pub(super) fn stop_wanting_if_full(&mut self, at: u32) {
        let pieces = self.pieces;
        let member = self.member_mut(at);
        if member.wants && member.held == pieces {
            member.wants = false;
            self.wanting -= 1;
        }
    }

    /// All nodes that have a part in it.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeKey> + '_ {
        let members = self.members.iter();
        members.filter(|m| m.is_member()).map(|member| member.node)
    }
}
