//! Which blobs go when room is needed. Pure: entries, the time and the need in; victims out.
//!
//! Invariant: a shielded entry (pinned, being read, being filled) is never a victim, and when the
//! need cannot be met nothing is given up for it in vain: only what is expired goes.

use std::time::{Duration, SystemTime};

/// A blob or partial that takes up room.
#[derive(Clone, Debug)]
pub(super) struct Entry<K> {
    /// What the caller knows it by.
    pub(super) key: K,
    /// Room that it takes up.
    pub(super) charge_bytes: u64,
    /// When it was last opened or written.
    pub(super) last_use: SystemTime,
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
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan<K> {
    /// What goes, least recently used first.
    pub(super) victims: Vec<K>,
    /// Whether the need is met once they are gone.
    pub(super) fits: bool,
}

/// Chooses victims: all that are unused for longer than `ttl`, then the least recently used.
pub(super) fn plan<K: Clone>(
    entries: &[Entry<K>],
    now: SystemTime,
    ttl: Option<Duration>,
    need: Need,
) -> Plan<K> {
    let used: u64 = entries.iter().map(|entry| entry.charge_bytes).sum();
    let mut loose: Vec<_> = entries.iter().filter(|entry| !entry.shielded).collect();
    loose.sort_by_key(|entry| entry.last_use);
    let loose_bytes: u64 = loose.iter().map(|entry| entry.charge_bytes).sum();
    let expired = loose.partition_point(|entry| is_expired(entry.last_use, now, ttl));

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
        let one = (0u64..100, 0u64..50, prop::bool::weighted(0.3));
        prop::collection::vec(one, 0..30).prop_map(|all| {
            let entry = |(key, (charge_bytes, second, shielded))| Entry {
                key,
                charge_bytes,
                last_use: at(second),
                shielded,
            };
            all.into_iter().enumerate().map(entry).collect()
        })
    }

    proptest! {
        #[test]
        fn frees_enough_and_no_more(
            entries in entries(),
            now in 0u64..60,
            ttl in prop::option::of(0u64..60),
            (used_at_most, used_goal, freed_at_least) in (0u64..2000, 0u64..2000, 0u64..500),
        ) {
            let need = Need { used_at_most, used_goal, freed_at_least };
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
            // Least recently used goes first.
            let last = plan.victims.iter().map(|&key| entries[key].last_use).max();
            for entry in entries.iter().filter(|entry| !entry.shielded) {
                prop_assert!(victims.contains(&entry.key) || Some(entry.last_use) >= last);
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
            shielded: false,
        };
        let entries: Vec<_> = (0..10).map(entry).collect();
        let need = |used_at_most| Need {
            used_at_most,
            used_goal: 70,
            freed_at_least: 0,
        };
        assert_eq!(
            plan(&entries, at(20), None, need(100)).victims,
            Vec::<u64>::new()
        );
        assert_eq!(plan(&entries, at(20), None, need(99)).victims, [0, 1, 2]);
    }
}
