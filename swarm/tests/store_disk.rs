//! What only a store on disk can show: restarts, kills, full disks, rot, foreign files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use oci::Digest;
use swarm::store::{FreeSpace, Limits, MinFree, OpenError, Options};
use swarm::{BlobStore, DiskStore, PartialBlob, ScopeTag, StoreError};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder, Limits::cap(64 * MIB as u64));
    options.min_free = MinFree::Bytes(0);
    options.scrub = None;
    options
}

fn open(folder: &Path) -> DiskStore {
    DiskStore::open(options(folder)).unwrap()
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

fn hold(store: &DiskStore, content: &[u8]) -> Digest {
    let digest = Digest::sha256(content);
    let partial = store.begin(&digest, scope(), content.len() as u64).unwrap();
    partial.write_at(0, content).unwrap();
    partial.publish().unwrap();
    digest
}

fn blob_path(folder: &Path, digest: &Digest, suffix: &str) -> PathBuf {
    let hex = digest.hex();
    let name = format!("{hex}{suffix}");
    folder.join("blobs/sha256").join(&hex[..2]).join(name)
}

/// All files below the blobs, by name.
fn files(folder: &Path) -> Vec<String> {
    let folders = fs::read_dir(folder.join("blobs/sha256")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A copy of the folder as it is now: what a kill at this moment would leave.
fn snapshot(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", folder.display());
    let copied = Command::new("cp")
        .args(["-a", &from])
        .arg(copy.path())
        .status()
        .unwrap();
    assert!(copied.success());
    copy
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_held_is_held_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 64 * KIB + 1, 2 * MIB - 1, 5 * MIB];
    let store = open(folder.path());
    let digests: Vec<Digest> = (sizes.iter().zip(0..))
        .map(|(&size, seed)| hold(&store, &content(size, seed)))
        .collect();
    let usage = store.usage();
    drop(store);
    let mut names: Vec<String> = digests.iter().map(Digest::hex).collect();
    names.sort();
    assert_eq!(
        files(folder.path()),
        names,
        "synced and under their final names"
    );

    let store = open(folder.path());
    assert_eq!(store.usage(), usage);
    for (seed, (digest, &size)) in digests.iter().zip(&sizes).enumerate() {
        let held = store.open(digest).unwrap();
        assert_eq!(held.read_all().unwrap(), content(size, seed as u8));
    }
}

#[test]
fn a_partial_goes_on_where_it_was_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(3 * MIB, 1);
    let digest = Digest::sha256(&bytes);
    let store = open(folder.path());
    let partial = store.begin(&digest, scope(), bytes.len() as u64).unwrap();
    partial.write_at(0, &bytes[..MIB + 5]).unwrap();
    partial.write_at(2 * MIB as u64, &bytes[2 * MIB..]).unwrap();
    drop(partial);
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.usage().partial_blobs, 1);
    let partial = store.begin(&digest, scope(), bytes.len() as u64).unwrap();
    let present: Vec<_> = partial.present().iter().collect();
    assert_eq!(present, [0..MIB as u64 + 5, 2 * MIB as u64..3 * MIB as u64]);
    partial.write_at(0, &bytes).unwrap();
    assert_eq!(partial.publish().unwrap().read_all().unwrap(), bytes);
}

#[test]
fn a_partial_of_an_earlier_boot_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let digest = Digest::sha256(b"x");
    let store = open(folder.path());
    let partial = store.begin(&digest, scope(), 100).unwrap();
    partial.write_at(0, &[1; 50]).unwrap();
    drop((partial, store));
    // The bytes of the boot's name follow the magic and the length.
    let map = blob_path(folder.path(), &digest, &format!(".{}.map", scope()));
    let file = fs::File::options().write(true).open(map).unwrap();
    file.write_all_at(&[0; 16], 16).unwrap();

    let store = open(folder.path());
    assert_eq!(store.usage().partial_blobs, 0);
    assert_eq!(files(folder.path()), [] as [String; 0]);
    assert!(
        store
            .begin(&digest, scope(), 100)
            .unwrap()
            .present()
            .is_empty()
    );
}

#[test]
fn what_was_published_but_not_synced_is_hashed_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let good = content(3 * MIB, 1);
    let bad = Digest::sha256(b"something else");
    let store = open(folder.path());
    // As a kill between publish and sync leaves them.
    for digest in [Digest::sha256(&good), bad] {
        let path = blob_path(folder.path(), &digest, ".verified");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &good).unwrap();
    }
    drop(store);

    let store = open(folder.path());
    let digest = Digest::sha256(&good);
    eventually("both looked at", || store.usage().partial_blobs == 0);
    assert_eq!(store.open(&digest).unwrap().read_all().unwrap(), good);
    assert!(store.open(&bad).is_none());
    drop(store);
    assert_eq!(files(folder.path()), [digest.hex()]);
}

#[test]
fn a_whole_partial_that_was_not_published_is_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = content(3 * MIB, 1);
    let digest = Digest::sha256(&bytes);
    let store = open(folder.path());
    let partial = store.begin(&digest, scope(), bytes.len() as u64).unwrap();
    partial.write_at(0, &bytes).unwrap();
    let copy = snapshot(folder.path());

    let store = open(copy.path());
    eventually("adopted", || store.usage().held_blobs == 1);
    assert_eq!(store.open(&digest).unwrap().read_all().unwrap(), bytes);
}

#[test]
fn a_killed_process_loses_at_most_a_mebibyte() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_that_is_killed", "--nocapture"])
        .env("DARNER_TEST_CHILD", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let written = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("written ")?.parse::<u64>().ok())
        .find(|&written| written >= 5_500_000);
    child.kill().unwrap();
    child.wait().unwrap();
    let written = written.expect("the child got that far");

    let bytes = content(32 * MIB, 1);
    let digest = Digest::sha256(&bytes);
    let store = open(folder.path());
    let partial = store.begin(&digest, scope(), bytes.len() as u64).unwrap();
    let kept = partial.first_gap_after(0);
    assert!(kept + MIB as u64 >= written, "kept {kept} of {written}");
    let mut buffer = vec![0; kept as usize];
    partial.read_at(0, &mut buffer).unwrap();
    assert!(buffer == bytes[..kept as usize]);
    partial.write_at(kept, &bytes[kept as usize..]).unwrap();
    assert!(partial.publish().unwrap().read_all().unwrap() == bytes);
    let small = Digest::sha256(b"small");
    assert_eq!(
        store.open(&small).unwrap().read_all().unwrap(),
        &b"small"[..]
    );
}

#[test]
fn the_child_that_is_killed() {
    let Some(folder) = std::env::var_os("DARNER_TEST_CHILD") else {
        return;
    };
    let bytes = content(32 * MIB, 1);
    let store = open(Path::new(&folder));
    store.put(&Digest::sha256(b"small"), b"small").unwrap();
    store.settle();
    let digest = Digest::sha256(&bytes);
    let partial = store.begin(&digest, scope(), bytes.len() as u64).unwrap();
    let mut written = 0;
    for piece in bytes.chunks(100_000) {
        partial.write_at(written, piece).unwrap();
        written += piece.len() as u64;
        println!("written {written}");
    }
    // The parent kills us; if it died itself, we end.
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn two_processes_cannot_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let second = DiskStore::open(options(folder.path()));
    let error = second.err().unwrap();
    assert!(matches!(error, OpenError::Locked(_)));
    assert!(error.to_string().contains("in use by another process"));
    drop(store);
    open(folder.path());
}

#[test]
fn a_folder_that_cannot_be_one_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DiskStore::open(options(&file.join("data"))).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }));
    assert!(error.to_string().contains("cannot be used"));
}

#[test]
fn leftovers_are_cleared_and_foreign_files_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let held = hold(&store, b"held");
    let good = Digest::sha256(b"good");
    let partial = store.begin(&good, scope(), 100).unwrap();
    partial.write_at(0, &[1; 10]).unwrap();
    drop((partial, store));
    let path = |name: &[u8], suffix: &str| {
        let path = blob_path(folder.path(), &Digest::sha256(name), suffix);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    let tag = scope();
    let map = fs::read(blob_path(folder.path(), &good, &format!(".{tag}.map"))).unwrap();
    fs::write(path(b"1", &format!(".{tag}.map")), &map).unwrap();
    fs::write(path(b"2", &format!(".{tag}.partial")), [0; 100]).unwrap();
    fs::write(path(b"3", &format!(".{tag}.partial")), [0; 99]).unwrap();
    fs::write(path(b"3", &format!(".{tag}.map")), &map).unwrap();
    fs::write(path(b"4", &format!(".{tag}.partial")), [0; 99]).unwrap();
    fs::write(path(b"4", &format!(".{tag}.map")), b"not a map at all").unwrap();
    fs::write(folder.path().join("trash/7"), b"x").unwrap();
    let foreign = path(b"5", ".txt");
    fs::write(&foreign, b"mine").unwrap();
    fs::create_dir(path(b"6", "")).unwrap();
    fs::write(folder.path().join("catalog"), b"of somebody else").unwrap();

    let store = open(folder.path());
    let usage = store.usage();
    assert_eq!((usage.held_blobs, usage.partial_blobs), (1, 1));
    drop(store);
    let mut expected = vec![
        held.hex(),
        format!("{}.{tag}.partial", good.hex()),
        format!("{}.{tag}.map", good.hex()),
        foreign.file_name().unwrap().to_str().unwrap().to_owned(),
        Digest::sha256(b"6").hex(),
    ];
    expected.sort();
    assert_eq!(files(folder.path()), expected);
    assert_eq!(
        fs::read_dir(folder.path().join("trash")).unwrap().count(),
        0
    );
    assert!(folder.path().join("catalog").exists());
}

#[test]
fn a_file_that_others_touched_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let gone = hold(&store, &content(MIB, 1));
    let short = hold(&store, &content(MIB, 2));
    drop(store);
    let store = open(folder.path());
    fs::remove_file(blob_path(folder.path(), &gone, "")).unwrap();
    fs::write(blob_path(folder.path(), &short, ""), b"short").unwrap();
    assert!(store.open(&gone).is_none());
    assert!(store.open(&short).is_none());
    let usage = store.usage();
    assert_eq!(
        (usage.held_blobs, usage.held_bytes, usage.rotten_blobs),
        (0, 0, 1)
    );
    hold(&store, &content(MIB, 1));
    assert!(store.open(&gone).is_some());
}

#[test]
fn a_scrub_finds_a_flipped_bit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let digests: Vec<Digest> = (0..3)
        .map(|seed| hold(&store, &content(3 * MIB, seed)))
        .collect();
    store.settle();
    assert_eq!(store.scrub_once().checked_blobs, 3);
    let path = blob_path(folder.path(), &digests[1], "");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let byte = content(3 * MIB, 1)[2_000_000] ^ 0x10;
    file.write_all_at(&[byte], 2_000_000).unwrap();

    let report = store.scrub_once();
    assert_eq!(report.rotten, [digests[1]]);
    assert_eq!(
        (report.checked_blobs, report.checked_bytes),
        (2, 9 * MIB as u64)
    );
    assert!(store.open(&digests[1]).is_none() && store.open(&digests[2]).is_some());
    let aside = folder
        .path()
        .join("quarantine")
        .join(format!("sha256-{}", digests[1].hex()));
    assert!(aside.exists() && !path.exists());
    assert_eq!(hold(&store, &content(3 * MIB, 1)), digests[1]);
    assert!(store.open(&digests[1]).is_some());
}

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
fn slices_outlive_eviction_and_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let bytes = content(3 * MIB, 1);
    let digest = Digest::sha256(&bytes);
    let partial = store.begin(&digest, scope(), bytes.len() as u64).unwrap();
    partial.write_at(0, &bytes).unwrap();
    let slice = partial.slice(0..3 * MIB as u64).unwrap();
    let held = partial.publish().unwrap();
    store.settle();
    let reopened = store.open(&digest).unwrap();
    let same = Arc::ptr_eq(held.file().unwrap(), reopened.file().unwrap());
    assert!(same, "readers go on with the descriptor that was written");
    let file = slice.file.as_ref().unwrap();
    assert_eq!(
        file.locate(slice.bytes.as_ptr(), slice.bytes.len()),
        Some(0)
    );
    store.remove(&digest).unwrap();
    drop((partial, held, reopened, store));
    assert_eq!(files(folder.path()), [] as [String; 0]);
    assert_eq!(slice.bytes, bytes);
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
