//! A blob that is being distributed: who has and wants which pieces of it.
//!
//! Invariant: a zone's rarity counts what its members have or are about to get; `copies` counts the
//! same over all zones; a member is in `lacking` if pieces remain that nobody is sending it.

use std::mem::size_of;

use swarm::Layout;

use super::bits::Bits;
use super::pool::Pool;
use super::rarity::Rarity;
use super::{BlobKey, NodeKey, Now, Progress};

/// A blob.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) key: BlobKey,
    pub(super) layout: Layout,
    pub(super) pieces: u32,
    pub(super) members: Vec<Member>,
    vacant: Vec<u32>,
    /// By number of the zone.
    zones: Vec<Option<Box<Rarity>>>,
    /// Copies of each piece that members have or are about to get, but for those of whole holders.
    copies: Vec<u32>,
    /// Members who held it whole when they came.
    whole: u32,
    /// Members who lack pieces that are not on their way, and can be told so.
    pub(super) lacking: Pool,
    /// Those of them with a free slot.
    pub(super) hungry: Pool,
    /// Members with pieces and a free slot to send them.
    pub(super) giving: Pool,
    /// Members who have all of it; whether they have a free slot is not followed.
    pub(super) resting: Pool,
    /// Members whose node's slots are followed.
    live: Pool,
    /// The seed has all pieces before this one.
    pub(super) seed_has: u32,
    pub(super) seed_gone: bool,
    /// No piece before this one is without a copy.
    pub(super) fresh_from: u32,
    /// Pieces promised from the seed before it has them, with the instruction.
    pub(super) promised: Vec<(u32, u32)>,
    pub(super) seed_sends: u64,
    pub(super) crossings: u64,
    pub(super) outstanding: u32,
    /// Members that want it.
    pub(super) wanting: u32,
    /// Whether it waits for the seed's turn.
    pub(super) in_turn: bool,
}

/// A node's part in it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: NodeKey,
    pub(super) zone: u16,
    pub(super) rack: u16,
    /// How much slower than usual its node receives.
    pub(super) slowness: f32,
    /// Its node avoids some senders.
    pub(super) wary: bool,
    /// When it was last told to fetch something.
    pub(super) told_at: Now,
    /// How many of its instructions are late.
    pub(super) late: u16,
    pub(super) have: Bits,
    /// What it has, or what is on its way to it from a sender that works.
    pub(super) taken: Bits,
    pub(super) held: u32,
    pub(super) taken_count: u32,
    /// Instructions that have not ended.
    pub(super) coming: Vec<u32>,
    /// No piece before this one is missing, from where its reader began.
    pub(super) first_gap: u32,
    pub(super) wants: bool,
    /// It came with all pieces, and they are counted as a whole.
    whole: bool,
    /// Its copies are counted (not those of a liar, or of a node that is silent).
    counted: bool,
}

impl Blob {
    pub(super) fn new(key: BlobKey, layout: Layout, held_by_seed: bool) -> Self {
        let pieces = layout.count();
        Self {
            key,
            layout,
            pieces,
            members: Vec::new(),
            vacant: Vec::new(),
            zones: Vec::new(),
            copies: vec![0; pieces as usize],
            whole: 0,
            lacking: Pool::default(),
            hungry: Pool::default(),
            giving: Pool::default(),
            resting: Pool::default(),
            live: Pool::default(),
            seed_has: if held_by_seed { pieces } else { 0 },
            seed_gone: false,
            fresh_from: 0,
            promised: Vec::new(),
            seed_sends: 0,
            crossings: 0,
            outstanding: 0,
            wanting: 0,
            in_turn: false,
        }
    }

    /// A new member with nothing.
    pub(super) fn enter(&mut self, node: NodeKey, (zone, rack): (u16, u16), now: Now) -> u32 {
        let member = Member {
            node,
            zone,
            rack,
            slowness: 1.0,
            wary: false,
            told_at: now,
            late: 0,
            have: Bits::none(self.pieces),
            taken: Bits::none(self.pieces),
            held: 0,
            taken_count: 0,
            coming: Vec::new(),
            first_gap: 0,
            wants: false,
            whole: false,
            counted: true,
        };
        if self.zones.len() <= usize::from(zone) {
            self.zones.resize_with(usize::from(zone) + 1, || None);
        }
        let pieces = self.pieces;
        self.zones[usize::from(zone)].get_or_insert_with(|| Box::new(Rarity::new(pieces)));
        match self.vacant.pop() {
            Some(at) => {
                self.members[at as usize] = member;
                at
            }
            None => {
                self.members.push(member);
                self.members.len() as u32 - 1
            }
        }
    }

    /// Takes a member out; its instructions must have ended.
    pub(super) fn leave(&mut self, at: u32) {
        self.count_out(at);
        for pool in self.pools() {
            pool.set(at, false);
        }
        self.live.set(at, false);
        let member = &mut self.members[at as usize];
        debug_assert!(member.coming.is_empty());
        if member.wants {
            member.wants = false;
            self.wanting -= 1;
        }
        member.have = Bits::none(0);
        member.taken = Bits::none(0);
        self.vacant.push(at);
    }

    fn pools(&mut self) -> [&mut Pool; 4] {
        [
            &mut self.lacking,
            &mut self.hungry,
            &mut self.giving,
            &mut self.resting,
        ]
    }

    pub(super) fn member(&self, at: u32) -> &Member {
        &self.members[at as usize]
    }

    pub(super) fn member_mut(&mut self, at: u32) -> &mut Member {
        &mut self.members[at as usize]
    }

    pub(super) fn zone(&self, zone: u16) -> Option<&Rarity> {
        self.zones.get(usize::from(zone))?.as_deref()
    }

    fn zone_mut(&mut self, zone: u16) -> Option<&mut Rarity> {
        self.zones.get_mut(usize::from(zone))?.as_deref_mut()
    }

    /// The member has the piece, or it is on its way: nobody else needs to bring it.
    pub(super) fn take(&mut self, at: u32, piece: u32) {
        let member = &mut self.members[at as usize];
        if member.taken.set(piece) {
            member.taken_count += 1;
            if member.counted {
                let zone = member.zone;
                self.count(zone, piece);
            }
        }
    }

    /// The piece is not on its way any more.
    pub(super) fn untake(&mut self, at: u32, piece: u32) {
        let member = &mut self.members[at as usize];
        if !member.have.has(piece) && member.taken.clear(piece) {
            member.taken_count -= 1;
            if member.counted {
                let zone = member.zone;
                self.uncount(zone, piece);
            }
        }
    }

    /// The member has the piece now; whether it had not.
    pub(super) fn arrive(&mut self, at: u32, piece: u32) -> bool {
        self.take(at, piece);
        let member = &mut self.members[at as usize];
        let new = member.have.set(piece);
        if new {
            member.held += 1;
            if piece == member.first_gap {
                member.first_gap = member.have.first_zero(piece);
            }
        }
        new
    }

    /// The member turned out not to have the piece.
    pub(super) fn lose(&mut self, at: u32, piece: u32) {
        let member = &mut self.members[at as usize];
        if member.whole || !member.have.clear(piece) {
            return;
        }
        member.held -= 1;
        member.first_gap = member.first_gap.min(piece);
        self.untake(at, piece);
    }

    /// The member has all pieces from now on.
    pub(super) fn fill(&mut self, at: u32) {
        let pieces = self.pieces;
        let member = &mut self.members[at as usize];
        if member.held == pieces {
            return;
        }
        let counted = member.counted;
        self.count_out(at);
        let member = &mut self.members[at as usize];
        member.have = Bits::all(pieces);
        member.taken = Bits::all(pieces);
        member.held = pieces;
        member.taken_count = pieces;
        member.first_gap = pieces;
        member.whole = true;
        if counted {
            self.count_in(at);
        }
    }

    /// What this member has counts (again) as copies.
    pub(super) fn count_in(&mut self, at: u32) {
        let member = &mut self.members[at as usize];
        if std::mem::replace(&mut member.counted, true) {
            return;
        }
        let zone = member.zone;
        if member.whole {
            self.whole += 1;
            self.zone_mut(zone).into_iter().for_each(Rarity::add_whole);
            return;
        }
        let taken: Vec<u32> = member.taken.ones().collect();
        for piece in taken {
            self.count(zone, piece);
        }
    }

    /// What this member has does not count any more.
    pub(super) fn count_out(&mut self, at: u32) {
        let member = &mut self.members[at as usize];
        if !std::mem::replace(&mut member.counted, false) {
            return;
        }
        let zone = member.zone;
        if member.whole {
            self.whole -= 1;
            self.fresh_from = 0;
            self.zone_mut(zone)
                .into_iter()
                .for_each(Rarity::remove_whole);
            return;
        }
        let taken: Vec<u32> = member.taken.ones().collect();
        for piece in taken {
            self.uncount(zone, piece);
        }
    }

    fn count(&mut self, zone: u16, piece: u32) {
        self.copies[piece as usize] += 1;
        if let Some(zone) = self.zone_mut(zone) {
            zone.add(piece);
        }
    }

    fn uncount(&mut self, zone: u16, piece: u32) {
        let copies = &mut self.copies[piece as usize];
        *copies -= 1;
        if *copies == 0 {
            self.fresh_from = self.fresh_from.min(piece);
        }
        if let Some(zone) = self.zone_mut(zone) {
            zone.remove(piece);
        }
    }

    /// The first piece below `end` of which nobody has or gets a copy.
    pub(super) fn fresh(&mut self, end: u32) -> Option<u32> {
        if self.whole > 0 {
            return None;
        }
        while self.fresh_from < self.pieces && self.copies[self.fresh_from as usize] > 0 {
            self.fresh_from += 1;
        }
        (self.fresh_from < end.min(self.pieces)).then_some(self.fresh_from)
    }

    /// Whether the node's slots are followed for this member; says what it was.
    pub(super) fn set_live(&mut self, at: u32, live: bool) -> bool {
        let was = self.live.has(at);
        self.live.set(at, live);
        was
    }

    pub(super) fn is_live(&self, at: u32) -> bool {
        self.live.has(at)
    }

    pub(super) fn any_live(&self) -> Option<u32> {
        self.live.at(0)
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            wanting: self.wanting,
            holding: (self.members.len() - self.vacant.len()) as u32 - self.wanting,
            seed_sends: self.seed_sends,
            crossings: self.crossings,
            outstanding: self.outstanding,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let members: usize = self.members.iter().map(Member::memory_bytes).sum();
        let spare = (self.members.capacity() - self.members.len()) * size_of::<Member>();
        let zones = self.zones.iter().flatten().map(|zone| zone.memory_bytes());
        let pools = [
            &self.lacking,
            &self.hungry,
            &self.giving,
            &self.resting,
            &self.live,
        ];
        let pools = pools.iter().map(|pool| pool.memory_bytes());
        size_of::<Self>()
            + members
            + spare
            + zones.sum::<usize>()
            + pools.sum::<usize>()
            + self.copies.capacity() * 4
    }
}

impl Member {
    /// False once it has left.
    pub(super) fn is_member(&self) -> bool {
        !self.have.words().is_empty()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.have.memory_bytes()
            + self.taken.memory_bytes()
            + self.coming.capacity() * 4
    }
}
