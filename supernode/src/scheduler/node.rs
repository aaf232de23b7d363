//! A node as the scheduler sees it: its slots, its pace, where it stands, and what it is in.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

use super::pace::Pace;
use super::{BlobKey, NodeKey, Now, Options, Site};

/// A node with so few pieces sends one at a time, so that the first pieces double soonest.
const ONE_AT_ONCE: u32 = 2;
/// With so few it sends two.
const TWO_AT_ONCE: u32 = 8;

/// A node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its stream is open.
    pub(super) here: bool,
    /// No sign of life for a while.
    pub(super) silent: bool,
    /// It sent wrong bytes.
    pub(super) banned: bool,
    /// Several receivers complained: nobody asks it until then.
    pub(super) suspect_until: Now,
    pub(super) zone: u16,
    pub(super) rack: u16,
    /// Pieces that it has, of any blob, as far as it was told.
    pub(super) held: u32,
    pub(super) up: Slots,
    pub(super) down: Slots,
    pub(super) sends: Pace,
    pub(super) receives: Pace,
    /// The blobs it is in and its place among their members, by blob.
    blobs: Vec<(BlobKey, u32)>,
    /// Those of them whose pools follow its slots.
    pub(super) live: Vec<BlobKey>,
    /// Instructions by which it is to send.
    pub(super) sending: Vec<u32>,
    /// Senders that failed it, each until when it does not ask them again.
    pub(super) avoids: Vec<(NodeKey, Now)>,
    /// How often it was under suspicion.
    pub(super) strikes: u8,
    /// Who complained of it lately, and until when that counts.
    pub(super) accusers: Vec<(NodeKey, Now)>,
    /// How many nodes were banned on its word.
    pub(super) bans: u8,
}

/// How much it does at once in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slots {
    pub(super) used: u16,
    pub(super) limit: u16,
}

impl Slots {
    pub(super) fn of(limit: u16) -> Self {
        Self { used: 0, limit }
    }

    pub(super) fn free(self) -> bool {
        self.used < self.limit
    }

    pub(super) fn take(&mut self) {
        self.used += 1;
    }

    pub(super) fn give_back(&mut self) {
        debug_assert!(self.used > 0);
        self.used = self.used.saturating_sub(1);
    }
}

impl Node {
    pub(super) fn seed(options: &Options) -> Self {
        Self {
            here: true,
            up: Slots::of(options.seed_slots),
            ..Self::default()
        }
    }

    pub(super) fn new(options: &Options, (zone, rack): (u16, u16)) -> Self {
        Self {
            here: true,
            zone,
            rack,
            up: Slots::of(options.up_slots),
            down: Slots::of(options.down_slots),
            ..Self::default()
        }
    }

    /// Whether it may be asked for pieces, slots aside.
    pub(super) fn gives(&self, now: Now) -> bool {
        self.here && !self.silent && !self.banned && self.suspect_until <= now
    }

    /// Whether it has a slot to send another piece.
    pub(super) fn sends_more(&self) -> bool {
        let limit = match self.held {
            few if few <= ONE_AT_ONCE => 1,
            few if few <= TWO_AT_ONCE => 2,
            _ => u16::MAX,
        };
        self.up.used < self.up.limit.min(limit)
    }

    /// Whether it can be told anything.
    pub(super) fn hears(&self) -> bool {
        self.here && !self.silent
    }

    pub(super) fn member(&self, blob: BlobKey) -> Option<u32> {
        let at = self.blobs.binary_search_by_key(&blob, |(blob, _)| *blob);
        at.ok().map(|at| self.blobs[at].1)
    }

    pub(super) fn enter(&mut self, blob: BlobKey, member: u32) {
        match self.blobs.binary_search_by_key(&blob, |(blob, _)| *blob) {
            Ok(at) => self.blobs[at].1 = member,
            Err(at) => self.blobs.insert(at, (blob, member)),
        }
    }

    pub(super) fn leave(&mut self, blob: BlobKey) {
        self.blobs.retain(|(held, _)| *held != blob);
        self.live.retain(|held| *held != blob);
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobKey> + '_ {
        self.blobs.iter().map(|(blob, _)| *blob)
    }

    pub(super) fn avoids_any(&self) -> bool {
        !self.avoids.is_empty()
    }

    pub(super) fn avoids(&self, sender: NodeKey, now: Now) -> bool {
        self.avoids
            .iter()
            .any(|(avoided, until)| *avoided == sender && *until > now)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.blobs.capacity() * size_of::<(BlobKey, u32)>()
            + (self.live.capacity() + self.sending.capacity()) * 4
            + (self.avoids.capacity() + self.accusers.capacity()) * size_of::<(NodeKey, Now)>()
    }
}

/// Numbers for the names of zones and racks.
#[derive(Debug, Default)]
pub(super) struct Sites {
    zones: HashMap<Arc<str>, u16>,
    racks: HashMap<Site, u16>,
}

impl Sites {
    /// Zone and rack. Beyond 65,535 of them, the rest share one.
    pub(super) fn number(&mut self, site: Site) -> (u16, u16) {
        let zones = u16::try_from(self.zones.len()).unwrap_or(u16::MAX);
        let zone = *self.zones.entry(site.zone.clone()).or_insert(zones);
        let racks = u16::try_from(self.racks.len()).unwrap_or(u16::MAX);
        let rack = *self.racks.entry(site).or_insert(racks);
        (zone, rack)
    }
}
