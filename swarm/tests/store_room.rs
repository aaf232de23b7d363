//! How a store on disk keeps to its room: lifetimes, watermarks, the floor of free disk, a full disk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

mod rig;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use oci::Digest;
use rig::{MIB, content, files, hold, open, options, scope};
use swarm::store::{FreeSpace, Limits, MinFree, Options};
use swarm::{BlobStore, DiskStore, PartialBlob, StoreError};

/// A clock that stands until it is moved.
fn clock(options: &mut Options) -> Arc<AtomicU64> {
    let seconds = Arc::new(AtomicU64::new(2_000_000_000));
    let read = Arc::clone(&seconds);
    options.clock =
        Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(read.load(Ordering::SeqCst)));
    seconds
}

#[test]
fn what_is_not_used_for_its_lifetime_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.limits.ttl = Some(Duration::from_secs(1_000));
    let clock = clock(&mut options);
    let store = DiskStore::open(options.clone()).unwrap();
    let old = hold(&store, b"old");
    let pinned = hold(&store, b"pinned");
    let used = hold(&store, b"used");
    store.pin(&pinned).unwrap();
    drop(store.begin(&Digest::sha256(b"idle"), scope(), 100).unwrap());
    store.settle();
    clock.fetch_add(900, Ordering::SeqCst);
    assert!(store.open(&used).is_some());
    store.sweep();
    assert_eq!(store.usage().held_blobs, 3);
    clock.fetch_add(200, Ordering::SeqCst);
    store.sweep();
    assert!(store.open(&old).is_none(), "expired");
    let usage = store.usage();
    assert_eq!((usage.held_blobs, usage.partial_blobs), (2, 0));
    drop(store);

    // Uses and pins are known after a restart.
    clock.fetch_add(700, Ordering::SeqCst);
    let store = DiskStore::open(options.clone()).unwrap();
    store.sweep();
    assert_eq!(store.usage().held_blobs, 2);
    clock.fetch_add(200, Ordering::SeqCst);
    store.sweep();
    assert!(store.open(&used).is_none());
    assert!(store.open(&pinned).is_some());
    store.unpin(&pinned).unwrap();
    drop(store);
    clock.fetch_add(2_000, Ordering::SeqCst);
    let store = DiskStore::open(options).unwrap();
    store.sweep();
    assert_eq!(store.usage().held_blobs, 0);
}

#[test]
fn a_sweep_goes_from_the_high_to_the_low_watermark() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.limits = Limits::cap(20 * MIB as u64);
    (options.limits.high_percent, options.limits.low_percent) = (80, 50);
    let store = DiskStore::open(options).unwrap();
    for seed in 0..16 {
        hold(&store, &content(MIB, seed));
    }
    store.settle();
    store.sweep();
    assert_eq!(store.usage().held_blobs, 16);
    hold(&store, &content(MIB, 16));
    store.settle();
    store.sweep();
    assert_eq!(store.usage().held_blobs, 10);
    assert!(store.open(&Digest::sha256(&content(MIB, 6))).is_none());
    assert!(store.open(&Digest::sha256(&content(MIB, 7))).is_some());
}

#[test]
fn a_flood_of_blobs_read_once_leaves_those_read_again_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.limits = Limits::cap(20 * MIB as u64);
    let mut store = DiskStore::open(options.clone()).unwrap();
    let used = hold(&store, &content(4 * MIB, 0));
    store.read_again(&used);
    for seed in 1..40 {
        if seed == 20 {
            drop(store);
            store = DiskStore::open(options.clone()).unwrap();
        }
        hold(&store, &content(2 * MIB, seed));
        store.settle();
    }
    assert!(store.usage().evicted_blobs > 0);
    assert!(store.open(&used).is_some());
}

#[test]
fn what_was_read_again_keeps_no_more_than_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.limits = Limits::cap(20 * MIB as u64);
    let store = DiskStore::open(options).unwrap();
    let digests: Vec<Digest> = (0..18)
        .map(|seed| hold(&store, &content(MIB, seed)))
        .collect();
    store.settle();
    for digest in &digests {
        assert!(store.open(digest).is_some());
        store.read_again(digest);
    }
    // 16 of the 18 fit into their share: the two least recently used go before the new ones.
    for seed in 18..24 {
        hold(&store, &content(MIB, seed));
        store.settle();
    }
    let held = digests.iter().map(|digest| store.open(digest).is_some());
    let held: Vec<bool> = held.collect();
    assert_eq!(held, [[false; 2].as_slice(), &[true; 16]].concat());
}

#[test]
fn the_floor_of_free_disk_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    let used_by_others = Arc::new(AtomicU64::new(0));
    let others = Arc::clone(&used_by_others);
    // A disk of 100 MiB, on which only this store and `others` write.
    options.min_free = MinFree::Percent(20);
    options.space = Arc::new(move |root| {
        let du = Command::new("du")
            .args(["-s", "-B1"])
            .arg(root)
            .output()?
            .stdout;
        let text = String::from_utf8_lossy(&du).into_owned();
        let ours: u64 = text
            .split_whitespace()
            .next()
            .and_then(|used| used.parse().ok())
            .unwrap();
        let total_bytes = 100 * MIB as u64;
        let used = ours + others.load(Ordering::SeqCst);
        Ok(FreeSpace {
            total_bytes,
            available_bytes: total_bytes.saturating_sub(used),
        })
    });
    let store = DiskStore::open(options).unwrap();
    let digests: Vec<Digest> = (0..5)
        .map(|seed| hold(&store, &content(8 * MIB, seed)))
        .collect();
    store.settle();
    used_by_others.store(30 * MIB as u64, Ordering::SeqCst);
    // 40 held, 30 of others, 20 to stay free: 10 are left.
    let more = Digest::sha256(b"more");
    drop(store.begin(&more, scope(), 9 * MIB as u64).unwrap());
    assert_eq!(store.usage().held_blobs, 5);
    store.remove(&more).unwrap();
    drop(store.begin(&more, scope(), 12 * MIB as u64).unwrap());
    assert_eq!(store.usage().held_blobs, 4);
    assert!(store.open(&digests[0]).is_none());
    let full = store.begin(&Digest::sha256(b"x"), scope(), 60 * MIB as u64);
    assert!(matches!(full, Err(StoreError::Full)));
    assert_eq!(store.usage().held_blobs, 4, "nothing goes in vain");
    // The sweep keeps the floor too, once others need the room.
    used_by_others.store(50 * MIB as u64, Ordering::SeqCst);
    store.sweep();
    let usage = store.usage();
    assert!(usage.held_bytes + usage.partial_bytes <= 30 * MIB as u64);
}

#[test]
fn a_full_disk_is_an_answer_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    // Files may not grow beyond the limit: the kernel's answer to a write, as on a full disk. The
    // shell ignores the signal that comes with it, and the child inherits that.
    let status = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; exec \"$0\" --exact the_child_with_a_full_disk",
        ])
        .arg(std::env::current_exe().unwrap())
        .env("DARNER_TEST_FULL", folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn the_child_with_a_full_disk() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Some(folder) = std::env::var_os("DARNER_TEST_FULL") else {
        return;
    };
    let store = open(Path::new(&folder));
    let digest = Digest::sha256(b"x");
    let partial = store.begin(&digest, scope(), 4 * MIB as u64).unwrap();
    let limit = Rlimit {
        current: Some(MIB as u64),
        maximum: Some(MIB as u64),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    partial.write_at(0, &[1; MIB]).unwrap();
    let full = partial.write_at(MIB as u64, &[2; 100]);
    assert!(matches!(full, Err(StoreError::Full)));
    assert_eq!(partial.slice(0..MIB as u64).unwrap().bytes[5], 1);
    assert_eq!(partial.first_gap_after(0), MIB as u64);
    let other = Digest::sha256(b"y");
    let refused = store.begin(&other, scope(), 2 * MIB as u64);
    assert!(matches!(refused, Err(StoreError::Full)));
    assert_eq!(store.usage().partial_blobs, 1, "nothing is left of it");
    store.put(&Digest::sha256(b"small"), b"small").unwrap();
}

#[test]
fn partials_and_evictions_race_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.limits = Limits::cap(6 * MIB as u64);
    let store = DiskStore::open(options).unwrap();
    let outcomes = Mutex::new((0, 0));
    std::thread::scope(|threads| {
        for worker in 0..4u8 {
            let (store, outcomes) = (&store, &outcomes);
            threads.spawn(move || {
                for round in 0..60u8 {
                    let bytes = content(MIB / 2, (worker ^ round) % 16);
                    let digest = Digest::sha256(&bytes);
                    if let Some(held) = store.open(&digest) {
                        assert!(held.read_all().unwrap() == bytes);
                        continue;
                    }
                    match store.begin(&digest, scope(), bytes.len() as u64) {
                        Err(StoreError::Full) => outcomes.lock().unwrap().0 += 1,
                        Err(error) => panic!("{error:?}"),
                        Ok(partial) => fill_some(&*partial, &bytes, round),
                    }
                    let usage = store.usage();
                    assert!(usage.held_bytes + usage.partial_bytes <= usage.cap_bytes);
                    outcomes.lock().unwrap().1 += 1;
                }
            });
        }
    });
    assert!(outcomes.lock().unwrap().1 > 0);
    store.settle();
    let usage = store.usage();
    drop(store);
    assert_eq!(
        files(folder.path()).len() as u64,
        usage.held_blobs + 2 * usage.partial_blobs
    );
    let report = open(folder.path()).scrub_once();
    assert_eq!(report.rotten, []);
}

/// Ends a partial in one of the ways in which a flight may end it.
fn fill_some(partial: &dyn PartialBlob, bytes: &[u8], round: u8) {
    let half = bytes.len() / 2;
    partial.write_at(0, &bytes[..half]).unwrap_or_default();
    match round % 4 {
        0 => {}
        1 => partial.discard(),
        _ => {
            // Another worker may have discarded this same partial.
            if partial.write_at(half as u64, &bytes[half..]).is_ok()
                && let Ok(held) = partial.publish()
            {
                assert!(held.read_all().unwrap() == bytes);
            }
        }
    }
}
