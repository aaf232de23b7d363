//! What a store holds, in memory: sizes, last uses, pins, and the decision what must go.
//!
//! Pure bookkeeping, the same for files and for memory: the store that owns the index does the I/O
//! for what is taken out of it. Invariant: `held_bytes` and `partial_bytes` are the sums over the
//! entries, and an entry in use is never given up.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use oci::Digest;

use super::evict::{self, Entry, Need, Plan, Reads};
use super::{ScopeTag, StoreError, Usage};

/// File systems hand out whole blocks; many small blobs would otherwise break the cap unseen.
const BLOCK_BYTES: u64 = 4096;

/// Share of the cap that blobs read again may keep from those read once, which need room to become
/// blobs read again.
const READ_AGAIN_PERCENT: u8 = 80;

/// How far a store may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The hard cap, checked when room is reserved.
    pub cap_bytes: u64,
    /// Above this share of the cap the sweep evicts in the background.
    pub high_percent: u8,
    /// Eviction goes down to this share of the cap.
    pub low_percent: u8,
    /// Blobs unused for longer go, whether or not there is room.
    pub ttl: Option<Duration>,
}

impl Limits {
    /// A cap with the usual watermarks, 95 % and 90 %, and no expiry.
    pub fn cap(cap_bytes: u64) -> Self {
        Self {
            cap_bytes,
            high_percent: 95,
            low_percent: 90,
            ttl: None,
        }
    }

    fn share(&self, percent: u8) -> u64 {
        (u128::from(self.cap_bytes) * u128::from(percent.min(100)) / 100) as u64
    }
}

/// The content behind an entry can say whether somebody uses it.
pub(super) trait InUse {
    fn in_use(&self) -> bool;
}

pub(super) type PartialKey = (Digest, ScopeTag);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Held(Digest),
    Partial(PartialKey),
}

pub(super) struct Shelved<T> {
    pub(super) content: T,
    pub(super) len: u64,
    pub(super) last_use: SystemTime,
    pub(super) reads: Reads,
}

/// An entry that was taken out to make room.
pub(super) enum Victim<H, P> {
    Held(Digest, H),
    Partial(PartialKey, P),
}

pub(super) struct Index<H, P> {
    limits: Limits,
    held: HashMap<Digest, Shelved<H>>,
    partials: HashMap<PartialKey, Shelved<P>>,
    pins: BTreeSet<Digest>,
    held_bytes: u64,
    partial_bytes: u64,
    evicted_blobs: u64,
    rotten_blobs: u64,
}

impl<H: InUse, P: InUse> Index<H, P> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: HashMap::new(),
            partials: HashMap::new(),
            pins: BTreeSet::new(),
            held_bytes: 0,
            partial_bytes: 0,
            evicted_blobs: 0,
            rotten_blobs: 0,
        }
    }

    pub(super) fn held(&mut self, digest: &Digest) -> Option<&mut Shelved<H>> {
        self.held.get_mut(digest)
    }

    pub(super) fn partial(&mut self, key: &PartialKey) -> Option<&mut Shelved<P>> {
        self.partials.get_mut(key)
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.held.keys()
    }

    /// Adds a complete blob; one that is there already stays and is returned to be dropped.
    pub(super) fn add_held(&mut self, digest: Digest, entry: Shelved<H>) -> Option<Shelved<H>> {
        if self.held.contains_key(&digest) {
            return Some(entry);
        }
        self.held_bytes += charge(entry.len);
        self.held.insert(digest, entry);
        None
    }

    /// Adds a partial that no entry has the key of.
    pub(super) fn add_partial(&mut self, key: PartialKey, entry: Shelved<P>) {
        self.partial_bytes += charge(entry.len);
        let before = self.partials.insert(key, entry);
        debug_assert!(before.is_none(), "a partial has one entry");
    }

    pub(super) fn take_held(&mut self, digest: &Digest) -> Option<Shelved<H>> {
        let entry = self.held.remove(digest)?;
        self.held_bytes -= charge(entry.len);
        Some(entry)
    }

    pub(super) fn take_partial(&mut self, key: &PartialKey) -> Option<Shelved<P>> {
        let entry = self.partials.remove(key)?;
        self.partial_bytes -= charge(entry.len);
        Some(entry)
    }

    /// The keys of the partials of `digest` that nobody fills.
    pub(super) fn idle_partials(&self, digest: &Digest) -> Vec<PartialKey> {
        let idle = |(key, entry): (&PartialKey, &Shelved<P>)| {
            (key.0 == *digest && !entry.content.in_use()).then_some(*key)
        };
        self.partials.iter().filter_map(idle).collect()
    }

    /// Takes out what must go so that `total` more bytes fit below the cap and `disk_short` bytes
    /// of disk come free. The caller adds the entry under the same lock.
    pub(super) fn make_room(
        &mut self,
        total: u64,
        disk_short: u64,
        now: SystemTime,
    ) -> Result<Vec<Victim<H, P>>, StoreError> {
        let cap_bytes = self.limits.cap_bytes;
        let need = charge(total);
        if need > cap_bytes {
            return Err(StoreError::TooLarge { total, cap_bytes });
        }
        let used = self.held_bytes + self.partial_bytes;
        if used + need <= cap_bytes && disk_short == 0 {
            return Ok(Vec::new());
        }
        let low = self.limits.share(self.limits.low_percent);
        let plan = self.plan(
            now,
            Need {
                used_at_most: cap_bytes - need,
                used_goal: low.saturating_sub(need),
                freed_at_least: disk_short,
                preferred_at_most: self.limits.share(READ_AGAIN_PERCENT),
            },
        );
        // A refused reservation gives up nothing; what is expired waits for the sweep.
        if !plan.fits {
            return Err(StoreError::Full);
        }
        Ok(self.take(plan.victims))
    }

    /// Takes out what is expired, and the least recently used above the high watermark.
    pub(super) fn sweep(&mut self, disk_short: u64, now: SystemTime) -> Vec<Victim<H, P>> {
        let plan = self.plan(
            now,
            Need {
                used_at_most: self.limits.share(self.limits.high_percent),
                used_goal: self.limits.share(self.limits.low_percent),
                freed_at_least: disk_short,
                preferred_at_most: self.limits.share(READ_AGAIN_PERCENT),
            },
        );
        self.take(plan.victims)
    }

    fn plan(&self, now: SystemTime, need: Need) -> Plan<Key> {
        evict::plan(&self.entries(), now, self.limits.ttl, need)
    }

    fn take(&mut self, victims: Vec<Key>) -> Vec<Victim<H, P>> {
        let take = |key| match key {
            Key::Held(digest) => {
                self.evicted_blobs += 1;
                let entry = self.take_held(&digest)?;
                Some(Victim::Held(digest, entry.content))
            }
            Key::Partial(key) => {
                let entry = self.take_partial(&key)?;
                Some(Victim::Partial(key, entry.content))
            }
        };
        victims.into_iter().filter_map(take).collect()
    }

    fn entries(&self) -> Vec<Entry<Key>> {
        let held = self.held.iter().map(|(digest, entry)| Entry {
            key: Key::Held(*digest),
            charge_bytes: charge(entry.len),
            last_use: entry.last_use,
            reads: entry.reads,
            shielded: entry.content.in_use() || self.pins.contains(digest),
        });
        let partials = self.partials.iter().map(|(key, entry)| Entry {
            key: Key::Partial(*key),
            charge_bytes: charge(entry.len),
            last_use: entry.last_use,
            reads: entry.reads,
            shielded: entry.content.in_use(),
        });
        held.chain(partials).collect()
    }

    pub(super) fn pins(&mut self) -> &mut BTreeSet<Digest> {
        &mut self.pins
    }

    pub(super) fn count_rotten(&mut self) {
        self.rotten_blobs += 1;
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            cap_bytes: self.limits.cap_bytes,
            held_bytes: self.held_bytes,
            partial_bytes: self.partial_bytes,
            held_blobs: self.held.len() as u64,
            partial_blobs: self.partials.len() as u64,
            evicted_blobs: self.evicted_blobs,
            rotten_blobs: self.rotten_blobs,
        }
    }
}

/// The room that a file of `len` bytes takes up.
fn charge(len: u64) -> u64 {
    len.checked_next_multiple_of(BLOCK_BYTES)
        .unwrap_or(u64::MAX)
}
