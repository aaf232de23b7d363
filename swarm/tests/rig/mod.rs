//! What the tests of the store on disk share.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci::Digest;
use swarm::store::{Limits, MinFree, Options};
use swarm::{BlobStore, DiskStore, ScopeTag};

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder, Limits::cap(64 * MIB as u64));
    options.min_free = MinFree::Bytes(0);
    options.scrub = None;
    options
}

pub(crate) fn open(folder: &Path) -> DiskStore {
    DiskStore::open(options(folder)).unwrap()
}

pub(crate) fn content(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(step).collect()
}

pub(crate) fn scope() -> ScopeTag {
    ScopeTag::of("registry.example")
}

pub(crate) fn hold(store: &DiskStore, content: &[u8]) -> Digest {
    let digest = Digest::sha256(content);
    let partial = store.begin(&digest, scope(), content.len() as u64).unwrap();
    partial.write_at(0, content).unwrap();
    partial.publish().unwrap();
    digest
}

pub(crate) fn blob_path(folder: &Path, digest: &Digest, suffix: &str) -> PathBuf {
    let hex = digest.hex();
    let name = format!("{hex}{suffix}");
    folder.join("blobs/sha256").join(&hex[..2]).join(name)
}

/// All files below the blobs, by name.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let folders = fs::read_dir(folder.join("blobs/sha256")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}
