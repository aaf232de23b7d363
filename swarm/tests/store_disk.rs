//! What only a store on disk can show: restarts, kills, rot, foreign files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

mod rig;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use oci::Digest;
use rig::{KIB, MIB, blob_path, content, eventually, files, hold, open, options, scope};
use swarm::store::{Examined, OpenError};
use swarm::{BlobStore, DiskStore};

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

#[test]
fn a_blob_is_trusted_from_its_landing_on_until_others_touch_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    let seconds = Arc::new(AtomicU64::new(2_000_000_000));
    let clock = Arc::clone(&seconds);
    options.clock = Arc::new(move || {
        SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
    });
    let store = DiskStore::open(options.clone()).unwrap();
    let digest = hold(&store, &content(3 * MIB, 1));
    let is_trusted = |store: &DiskStore| store.open(&digest).unwrap().is_trusted();
    assert!(is_trusted(&store));
    // The changes of name, access time and mode are our own.
    store.settle();
    assert!(is_trusted(&store));
    seconds.fetch_add(1_000, Ordering::SeqCst);
    assert!(is_trusted(&store) && is_trusted(&store));
    store.read_again(&digest);
    assert!(is_trusted(&store));

    drop(store);
    let store = DiskStore::open(options).unwrap();
    assert!(!is_trusted(&store), "nothing is known of it after a start");
    let held = store.open(&digest).unwrap();
    assert_eq!(store.examine(&held, &mut |_| false), Examined::Undecided);
    assert!(!held.is_trusted());
    assert_eq!(store.examine(&held, &mut |_| true), Examined::Sound);
    assert!(held.is_trusted() && is_trusted(&store));

    let path = blob_path(folder.path(), &digest, "");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    while fs::metadata(&path).unwrap().modified().unwrap() == before {
        file.write_all_at(&[1, 2, 3], 5).unwrap();
    }
    assert!(!held.is_trusted());
    assert_eq!(store.examine(&held, &mut |_| true), Examined::Rotten);
    assert_eq!(store.examine(&held, &mut |_| true), Examined::Rotten);
    assert!(store.open(&digest).is_none() && !path.exists());
    assert_eq!(store.usage().rotten_blobs, 1);
}

#[test]
fn what_a_scrub_found_sound_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let digest = hold(&store, &content(MIB, 1));
    drop(store);
    let store = open(folder.path());
    assert!(!store.open(&digest).unwrap().is_trusted());
    assert_eq!(store.scrub_once().checked_blobs, 1);
    assert!(store.open(&digest).unwrap().is_trusted());
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
