//! What every `BlobStore` promises, run on the disk store and on the memory store.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

use std::sync::Arc;

use oci::{Algorithm, Digest};
use swarm::store::{Limits, Options};
use swarm::{BlobStore, DiskStore, HeldBlob, MemoryStore, PartialBlob, ScopeTag, StoreError};
use tempfile::TempDir;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const SIZES: [usize; 10] = [
    0,
    1,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    2 * MIB - 1,
    2 * MIB,
    2 * MIB + 1,
    3 * MIB + 4097,
    5 * MIB,
];

struct Rig {
    store: Box<dyn BlobStore>,
    name: &'static str,
    _folder: Option<TempDir>,
}

/// One of each kind, with the same cap.
fn rigs(cap_bytes: usize) -> [Rig; 2] {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits::cap(cap_bytes as u64);
    let mut options = Options::new(folder.path(), limits);
    options.min_free = swarm::store::MinFree::Bytes(0);
    let disk = Rig {
        store: Box::new(DiskStore::open(options).unwrap()),
        name: "disk",
        _folder: Some(folder),
    };
    let memory = Rig {
        store: Box::new(MemoryStore::new(limits)),
        name: "memory",
        _folder: None,
    };
    [disk, memory]
}

fn content(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

fn scope() -> ScopeTag {
    ScopeTag::of("registry.example")
}

/// Fills the partial in pieces, the last first.
fn fill(partial: &dyn PartialBlob, content: &[u8], piece: usize) {
    let mut starts: Vec<usize> = (0..content.len()).step_by(piece).collect();
    starts.reverse();
    for start in starts {
        let end = content.len().min(start + piece);
        partial
            .write_at(start as u64, &content[start..end])
            .unwrap();
    }
}

fn hold(store: &dyn BlobStore, content: &[u8]) -> Digest {
    let digest = Digest::sha256(content);
    let partial = store.begin(&digest, scope(), content.len() as u64).unwrap();
    fill(&*partial, content, 256 * KIB);
    partial.publish().unwrap();
    digest
}

fn assert_holds(held: &HeldBlob, content: &[u8]) {
    let total = content.len() as u64;
    assert_eq!(held.total(), total);
    assert_eq!(held.read_all().unwrap(), content);
    assert_eq!(held.slice(0..total).unwrap().bytes, content);
    assert!(held.slice(0..total + 1).is_none());
    if let [_, middle @ .., _] = content {
        assert_eq!(held.slice(1..total - 1).unwrap().bytes, middle);
        let mut buffer = vec![0; middle.len()];
        held.read_at(1, &mut buffer).unwrap();
        assert_eq!(buffer, middle);
        assert!(held.read_at(3, &mut buffer).is_err());
    }
}

#[test]
fn every_size_goes_in_out_of_order_and_comes_out_whole() {
    for rig in rigs(64 * MIB) {
        for (seed, size) in SIZES.into_iter().enumerate() {
            let bytes = content(size, seed as u8);
            let digest = Digest::of(Algorithm::Sha512, &bytes);
            assert!(rig.store.open(&digest).is_none());
            let partial = rig.store.begin(&digest, scope(), size as u64).unwrap();
            fill(&*partial, &bytes, 300_000);
            assert!(
                rig.store.open(&digest).is_none(),
                "{}: not verified",
                rig.name
            );
            assert_eq!(partial.first_gap_after(0), size as u64);
            let before = partial.slice(0..size as u64).unwrap();
            assert_holds(&partial.publish().unwrap(), &bytes);
            let held = rig.store.open(&digest).unwrap();
            assert_holds(&held, &bytes);
            assert_eq!(before.bytes, bytes);

            rig.store.remove(&digest).unwrap();
            assert!(rig.store.open(&digest).is_none());
            assert_holds(&held, &bytes);
        }
        assert_eq!(
            (
                rig.store.usage().held_bytes,
                rig.store.usage().partial_bytes
            ),
            (0, 0)
        );
    }
}

#[test]
fn a_present_byte_never_changes() {
    for rig in rigs(MIB) {
        let digest = Digest::sha256(b"x");
        let partial = rig.store.begin(&digest, scope(), 30).unwrap();
        partial.write_at(10, &[1; 10]).unwrap();
        partial.write_at(5, &[2; 20]).unwrap();
        let mut bytes = [0; 20];
        partial.read_at(5, &mut bytes).unwrap();
        assert_eq!(bytes[..5], [2; 5]);
        assert_eq!(bytes[5..15], [1; 10]);
        assert_eq!(bytes[15..], [2; 5]);
        let all: Vec<_> = partial.present().iter().collect();
        assert_eq!(all, vec![5..25], "{}", rig.name);
    }
}

#[test]
fn what_is_not_there_cannot_be_had() {
    for rig in rigs(MIB) {
        let partial = rig
            .store
            .begin(&Digest::sha256(b"x"), scope(), 100)
            .unwrap();
        partial.write_at(10, &[1; 10]).unwrap();
        assert!(partial.slice(9..15).is_none());
        assert!(partial.slice(15..21).is_none());
        assert!(partial.read_at(15, &mut [0; 6]).is_err());
        assert!(partial.read_at(u64::MAX, &mut [0; 6]).is_err());
        assert!(partial.write_at(95, &[1; 6]).is_err());
        assert!(partial.write_at(u64::MAX, &[1; 6]).is_err());
        assert!(partial.publish().is_err(), "{}", rig.name);
        assert_eq!(partial.present().covered_len(), 10);
    }
}

#[test]
fn one_scope_shares_a_partial_and_two_do_not() {
    for rig in rigs(MIB) {
        let digest = Digest::sha256(b"x");
        let one = rig.store.begin(&digest, scope(), 100).unwrap();
        let same = rig.store.begin(&digest, scope(), 100).unwrap();
        let other = rig
            .store
            .begin(&digest, ScopeTag::of("other.example"), 100)
            .unwrap();
        one.write_at(0, &[1; 50]).unwrap();
        assert_eq!(same.first_gap_after(0), 50);
        assert!(other.present().is_empty());
        let refused = rig.store.begin(&digest, scope(), 101);
        assert!(matches!(refused, Err(StoreError::Io(_))), "{}", rig.name);
        assert_eq!(rig.store.usage().partial_blobs, 2);
    }
}

#[test]
fn a_dropped_partial_is_taken_up_and_another_total_begins_anew() {
    for rig in rigs(MIB) {
        let bytes = content(100_000, 1);
        let digest = Digest::sha256(&bytes);
        let partial = rig.store.begin(&digest, scope(), 100_000).unwrap();
        partial.write_at(500, &bytes[500..90_000]).unwrap();
        drop(partial);
        let partial = rig.store.begin(&digest, scope(), 100_000).unwrap();
        let present: Vec<_> = partial.present().iter().collect();
        assert_eq!(present, vec![500..90_000], "{}", rig.name);
        fill(&*partial, &bytes, 7_000);
        drop(partial);
        let partial = rig.store.begin(&digest, scope(), 99_999).unwrap();
        assert!(partial.present().is_empty());
        drop(partial);
        assert_eq!(rig.store.usage().partial_blobs, 1);
    }
}

#[test]
fn a_discarded_partial_leaves_nothing_but_open_slices() {
    for rig in rigs(MIB) {
        let digest = Digest::sha256(b"x");
        let partial = rig.store.begin(&digest, scope(), 100).unwrap();
        partial.write_at(0, &[7; 100]).unwrap();
        let slice = partial.slice(0..100).unwrap();
        partial.discard();
        partial.discard();
        assert!(partial.publish().is_err());
        assert_eq!(rig.store.usage().partial_blobs, 0);
        let anew = rig.store.begin(&digest, scope(), 100).unwrap();
        assert!(anew.present().is_empty());
        partial.discard();
        drop(partial);
        anew.write_at(0, &[8; 50]).unwrap();
        assert!(
            rig.store
                .begin(&digest, scope(), 100)
                .unwrap()
                .present()
                .contains(0..50)
        );
        assert_eq!(slice.bytes, [7; 100][..], "{}", rig.name);
    }
}

#[test]
fn publishing_twice_or_by_two_scopes_is_harmless() {
    for rig in rigs(MIB) {
        let bytes = content(10_000, 3);
        let digest = Digest::sha256(&bytes);
        let one = rig.store.begin(&digest, scope(), 10_000).unwrap();
        let two = rig
            .store
            .begin(&digest, ScopeTag::of("other.example"), 10_000)
            .unwrap();
        fill(&*one, &bytes, 10_000);
        fill(&*two, &bytes, 10_000);
        for partial in [&one, &two, &one] {
            assert_holds(&partial.publish().unwrap(), &bytes);
        }
        assert_holds(&rig.store.open(&digest).unwrap(), &bytes);
        let usage = rig.store.usage();
        assert_eq!(
            (usage.held_blobs, usage.partial_blobs),
            (1, 0),
            "{}",
            rig.name
        );
        assert!(one.write_at(0, &bytes).is_ok(), "all of it is there");
    }
}

#[test]
fn the_least_recently_used_goes_first_and_the_cap_is_kept() {
    for rig in rigs(10 * MIB) {
        let all: Vec<Digest> = (0..20)
            .map(|seed| {
                let digest = hold(&*rig.store, &content(MIB, seed));
                let first = Digest::sha256(&content(MIB, 0));
                settle(&rig);
                assert!(
                    rig.store.open(&first).is_some(),
                    "{}: in steady use",
                    rig.name
                );
                let usage = rig.store.usage();
                assert!(usage.held_bytes + usage.partial_bytes <= usage.cap_bytes);
                digest
            })
            .collect();
        assert!(rig.store.open(&all[1]).is_none());
        assert!(rig.store.open(&all[19]).is_some());
        assert!(rig.store.usage().evicted_blobs >= 10);
    }
}

/// Publishing is finished in the background; until then a blob of the disk store is shielded.
fn settle(rig: &Rig) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while rig._folder.as_ref().is_some_and(has_unsynced) {
        assert!(
            std::time::Instant::now() < deadline,
            "a sync takes for ever"
        );
        std::thread::yield_now();
    }
}

fn has_unsynced(folder: &TempDir) -> bool {
    let folders = std::fs::read_dir(folder.path().join("blobs/sha256")).unwrap();
    let mut files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    files.any(|file| {
        file.unwrap()
            .path()
            .extension()
            .is_some_and(|end| end == "verified")
    })
}

#[test]
fn what_is_read_pinned_or_filled_is_not_evicted() {
    for rig in rigs(5 * MIB) {
        let read = hold(&*rig.store, &content(MIB, 0));
        let sliced = hold(&*rig.store, &content(MIB, 1));
        let pinned = hold(&*rig.store, &content(MIB, 2));
        let idle = hold(&*rig.store, &content(MIB, 3));
        settle(&rig);
        rig.store.pin(&pinned).unwrap();
        let reader = rig.store.open(&read).unwrap();
        let slice = rig.store.open(&sliced).unwrap().slice(5..10).unwrap();
        let filled = Digest::sha256(b"filled");
        let partial = rig.store.begin(&filled, scope(), MIB as u64).unwrap();

        let more = Digest::sha256(b"more");
        let refused = rig.store.begin(&more, scope(), 2 * MIB as u64);
        assert!(matches!(refused, Err(StoreError::Full)), "{}", rig.name);
        assert!(rig.store.open(&idle).is_some(), "nothing goes in vain");
        drop(rig.store.begin(&more, scope(), MIB as u64).unwrap());
        for digest in [&read, &sliced, &pinned] {
            assert!(rig.store.open(digest).is_some(), "{}", rig.name);
        }
        assert!(rig.store.open(&idle).is_none());
        assert_eq!(rig.store.usage().partial_blobs, 2);

        drop((reader, partial));
        rig.store.unpin(&pinned).unwrap();
        drop(
            rig.store
                .begin(&Digest::sha256(b"4"), scope(), 4 * MIB as u64)
                .unwrap(),
        );
        assert!(rig.store.open(&sliced).is_some() && rig.store.open(&pinned).is_none());
        assert_eq!(rig.store.usage().partial_blobs, 1, "idle partials go too");
        drop(slice);
        let huge = rig.store.begin(&more, scope(), 5 * MIB as u64 + 1);
        assert!(matches!(huge, Err(StoreError::TooLarge { .. })));
        assert!(matches!(
            rig.store.begin(&more, scope(), u64::MAX),
            Err(StoreError::TooLarge { .. })
        ));
    }
}

#[test]
fn put_checks_what_it_stores() {
    for rig in rigs(MIB) {
        let bytes = content(5_000, 1);
        let digest = Digest::sha256(&bytes);
        let wrong = rig.store.put(&digest, b"other");
        assert!(matches!(wrong, Err(StoreError::Mismatch)));
        // As a power cut may leave it: recorded as present, but not what was written.
        let leftover = rig.store.begin(&digest, ScopeTag::VERIFIED, 5_000).unwrap();
        leftover.write_at(100, &[0; 1_000]).unwrap();
        drop(leftover);
        for _ in 0..2 {
            assert_holds(&rig.store.put(&digest, &bytes).unwrap(), &bytes);
        }
        assert_holds(&rig.store.open(&digest).unwrap(), &bytes);
        assert_eq!(rig.store.usage().held_blobs, 1, "{}", rig.name);
        let empty = Digest::sha256(b"");
        assert_holds(&rig.store.put(&empty, b"").unwrap(), b"");
    }
}

#[test]
fn many_writers_of_one_partial_agree() {
    for rig in rigs(16 * MIB) {
        let bytes = Arc::new(content(4 * MIB, 9));
        let digest = Digest::sha256(&bytes);
        let partial = rig
            .store
            .begin(&digest, scope(), bytes.len() as u64)
            .unwrap();
        std::thread::scope(|threads| {
            for number in 0..4usize {
                let (partial, bytes) = (&partial, &bytes);
                threads.spawn(move || {
                    let piece = 50_000 + 7_919 * number;
                    for start in (0..bytes.len()).step_by(piece) {
                        let end = bytes.len().min(start + piece);
                        partial.write_at(start as u64, &bytes[start..end]).unwrap();
                        let slice = partial.slice(start as u64..end as u64).unwrap();
                        assert_eq!(slice.bytes, bytes[start..end]);
                    }
                });
            }
        });
        assert_holds(&partial.publish().unwrap(), &bytes);
        assert_eq!(Digest::sha256(&bytes), digest, "{}", rig.name);
    }
}
