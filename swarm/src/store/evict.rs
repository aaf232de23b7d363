//! Which blobs go when room is needed. Pure: entries, the time and the need in; victims out.
//!
//! Invariant: a shielded entry (pinned, being read, being filled) is never a victim, and when the
//! need cannot be met nothing is given up for it in vain: only what is expired goes.
//!
//! Two segments, as in segmented LRU: what was read again since it was stored goes after what was
//! read once, so that a flood of blobs that nobody wants twice pushes out no others. Only as much as
//! its share of the room is preferred; of more, the least recently used is as if read once.

use std::time::{Duration, SystemTime};

/// How often a blob was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// By whoever had it brought in, or not at all.
    Once,
    /// And by at least one request after it was stored.
    Again,
}

/// A blob or partial that takes up room.
#[derive(Clone, Debug)]
pub(super) struct Entry<K> {
    /// What the caller knows it by.
    pub(super) key: K,
    /// Room that it takes up.
    pub(super) charge_bytes: u64,
    /// When it was last opened or written.
    pub(super) last_use: SystemTime,
    /// Its segment.
    pub(super) reads: Reads,
    /// Pinned, being read or being filled.
    pub(super) shielded: bool,
}

/// What must be reached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Need {
    /// Entries may take up this much at most.
    pub(super) used_at_most: u64,
    /// Once anything must go for that, go down to this, so that the next call need not evict.
    pub(super) used_goal: u64,
    /// And this much must come free, whatever is used.
    pub(super) freed_at_least: u64,
    /// What was read again is preferred up to this much.
    pub(super) preferred_at_most: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan<K> {
    /// What goes, in this order.
    pub(super) victims: Vec<K>,
    /// Whether the need is met once they are gone.
    pub(super) fits: bool,
}

/// Chooses victims: all that are unused for longer than `ttl`, then the least recently used of those
/// read once, then of those read again.
pub(super) fn plan<K: Clone>(
    entries: &[Entry<K>],
    now: SystemTime,
    ttl: Option<Duration>,
    need: Need,
) -> Plan<K> {
    let used: u64 = entries.iter().map(|entry| entry.charge_bytes).sum();
    let mut loose: Vec<_> = entries.iter().filter(|entry| !entry.shielded).collect();
    let preferred_since = preferred_since(entries, need.preferred_at_most);
    let is_preferred = |entry: &Entry<K>| {
        entry.reads == Reads::Again && preferred_since.is_some_and(|since| entry.last_use >= since)
    };
    let is_expired = |entry: &Entry<K>| is_expired(entry.last_use, now, ttl);
    loose.sort_by_key(|entry| (!is_expired(entry), is_preferred(entry), entry.last_use));
    let loose_bytes: u64 = loose.iter().map(|entry| entry.charge_bytes).sum();
    let expired = loose.partition_point(|entry| is_expired(entry));

    let must_free = used
        .saturating_sub(need.used_at_most)
        .max(need.freed_at_least);
    let fits = must_free <= loose_bytes;
    let wanted = used.saturating_sub(need.used_goal).max(must_free);
    let to_free = if !fits || must_free == 0 {
        0
    } else if wanted <= loose_bytes {
        wanted
    } else {
        must_free
    };

    let mut freed = 0;
    let victims = loose.iter().enumerate().take_while(|&(index, entry)| {
        let goes = index < expired || freed < to_free;
        freed += entry.charge_bytes;
        goes
    });
    let victims = victims.map(|(_, entry)| entry.key.clone()).collect();
    Plan { victims, fits }
}

/// The last use since which what was read again takes up no more than `at_most`.
fn preferred_since<K>(entries: &[Entry<K>], at_most: u64) -> Option<SystemTime> {
    let again = entries.iter().filter(|entry| entry.reads == Reads::Again);
    let mut again: Vec<_> = again.collect();
    again.sort_by_key(|entry| std::cmp::Reverse(entry.last_use));
    let mut since = None;
    let mut sum = 0u64;
    for same_use in again.chunk_by(|one, other| one.last_use == other.last_use) {
        sum += same_use.iter().map(|entry| entry.charge_bytes).sum::<u64>();
        if sum > at_most {
            break;
        }
        since = Some(same_use[0].last_use);
    }
    since
}

fn is_expired(last_use: SystemTime, now: SystemTime, ttl: Option<Duration>) -> bool {
    // A last use in the future (the clock was set back) counts as just now.
    let idle = now.duration_since(last_use).unwrap_or_default();
    ttl.is_some_and(|ttl| idle > ttl)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn entries() -> impl Strategy<Value = Vec<Entry<usize>>> {
        let reads = prop_oneof![Just(Reads::Once), Just(Reads::Again)];
        let one = (0u64..100, 0u64..50, reads, prop::bool::weighted(0.3));
        prop::collection::vec(one, 0..30).prop_map(|all| {
            let entry = |(key, (charge_bytes, second, reads, shielded))| Entry {
                key,
                charge_bytes,
                last_use: at(second),
                reads,
                shielded,
            };
            all.into_iter().enumerate().map(entry).collect()
        })
    }

    /// Whether this blob and all that were read again as lately as it fit into the share.
    fn is_preferred(entry: &Entry<usize>, entries: &[Entry<usize>], at_most: u64) -> bool {
        let as_late = entries
            .iter()
            .filter(|other| other.reads == Reads::Again && other.last_use >= entry.last_use);
        let bytes: u64 = as_late.map(|other| other.charge_bytes).sum();
        entry.reads == Reads::Again && bytes <= at_most
    }

    proptest! {
        #[test]
        fn frees_enough_and_no_more(
            entries in entries(),
            now in 0u64..60,
            ttl in prop::option::of(0u64..60),
            (used_at_most, used_goal, freed_at_least) in (0u64..2000, 0u64..2000, 0u64..500),
            preferred_at_most in 0u64..2000,
        ) {
            let need = Need { used_at_most, used_goal, freed_at_least, preferred_at_most };
            let ttl = ttl.map(Duration::from_secs);
            let plan = plan(&entries, at(now), ttl, need);
            let victims: HashSet<usize> = plan.victims.iter().copied().collect();
            let used: u64 = entries.iter().map(|entry| entry.charge_bytes).sum();
            let freed: u64 = plan.victims.iter().map(|&key| entries[key].charge_bytes).sum();

            prop_assert_eq!(victims.len(), plan.victims.len());
            for entry in &entries {
                let expired = is_expired(entry.last_use, at(now), ttl);
                let gone = victims.contains(&entry.key);
                prop_assert!(!(gone && entry.shielded));
                prop_assert!(gone || entry.shielded || !expired);
                prop_assert!(!gone || plan.fits || expired, "evicted in vain");
            }
            let met = used - freed <= used_at_most && freed >= freed_at_least;
            if plan.fits {
                prop_assert!(met);
            } else {
                let loose = entries.iter().filter(|entry| !entry.shielded);
                let most: u64 = loose.map(|entry| entry.charge_bytes).sum();
                prop_assert!(used - most > used_at_most || most < freed_at_least);
            }
            // What was read once goes first, and of each segment the least recently used.
            let rank = |entry: &Entry<usize>| {
                (is_preferred(entry, &entries, preferred_at_most), entry.last_use)
            };
            let chosen = plan.victims.iter().map(|&key| &entries[key]);
            let last = chosen.filter(|entry| !is_expired(entry.last_use, at(now), ttl)).map(rank).max();
            for entry in entries.iter().filter(|entry| !entry.shielded) {
                prop_assert!(victims.contains(&entry.key) || Some(rank(entry)) >= last);
            }
            // Without the last victim the goal would not have been reached.
            if let Some(&last) = plan.victims.last()
                && !is_expired(entries[last].last_use, at(now), ttl)
            {
                let without = freed - entries[last].charge_bytes;
                prop_assert!(
                    entries[last].charge_bytes == 0
                        || used - without > used_goal.min(used_at_most)
                        || without < freed_at_least
                );
            }
        }
    }

    #[test]
    fn goes_down_to_the_goal_only_when_something_must_go() {
        let entry = |key| Entry {
            key,
            charge_bytes: 10,
            last_use: at(key),
            reads: Reads::Once,
            shielded: false,
        };
        let entries: Vec<_> = (0..10).map(entry).collect();
        let need = |used_at_most| Need {
            used_at_most,
            used_goal: 70,
            ..Need::default()
        };
        assert_eq!(
            plan(&entries, at(20), None, need(100)).victims,
            Vec::<u64>::new()
        );
        assert_eq!(plan(&entries, at(20), None, need(99)).victims, [0, 1, 2]);
    }

    #[test]
    fn a_flood_of_blobs_read_once_leaves_what_was_read_again_up_to_its_share() {
        let entry = |key: u64| Entry {
            key,
            charge_bytes: 10,
            last_use: at(key),
            reads: if key < 4 { Reads::Again } else { Reads::Once },
            shielded: false,
        };
        let entries: Vec<_> = (0..10).map(entry).collect();
        let victims = |used_at_most, preferred_at_most| {
            let need = Need {
                used_at_most,
                used_goal: used_at_most,
                freed_at_least: 0,
                preferred_at_most,
            };
            plan(&entries, at(20), None, need).victims
        };
        assert_eq!(victims(60, 80), [4, 5, 6, 7]);
        assert_eq!(victims(20, 80), [4, 5, 6, 7, 8, 9, 0, 1]);
        // Only the two latest of them are preferred.
        assert_eq!(victims(60, 29), [0, 1, 4, 5]);
    }
}
