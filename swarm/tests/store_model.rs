//! Random calls to a store, compared with a plain model of what it must hold.
//!
//! The cap is never met here, so nothing is evicted; a restart of the disk store may come between
//! any two calls.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use oci::Digest;
use proptest::prelude::*;
use swarm::store::{Limits, MinFree, Options};
use swarm::{BlobStore, ByteSet, DiskStore, MemoryStore, PartialBlob, ScopeTag};
use tempfile::TempDir;

const SCOPES: [&str; 2] = ["one.example", "two.example"];
const SIZES: [usize; 3] = [0, 5_000, 1_500_000];

#[derive(Clone, Debug)]
enum Call {
    Begin(Which),
    Write(Which, Range<f64>),
    Publish(Which),
    Discard(Which),
    Let(Which),
    Remove(usize),
    Put(usize),
    Restart,
}

/// A blob, and the scope that fills it.
type Which = (usize, usize);

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let which = || (0..SIZES.len(), 0..SCOPES.len());
    let range = (0.0..1.0f64, 0.0..1.3f64).prop_map(|(start, length)| start..start + length);
    let call = prop_oneof![
        3 => which().prop_map(Call::Begin),
        6 => (which(), range).prop_map(|(which, range)| Call::Write(which, range)),
        3 => which().prop_map(Call::Publish),
        1 => which().prop_map(Call::Discard),
        1 => which().prop_map(Call::Let),
        1 => (0..SIZES.len()).prop_map(Call::Remove),
        1 => (0..SIZES.len()).prop_map(Call::Put),
        1 => Just(Call::Restart),
    ];
    prop::collection::vec(call, 1..40)
}

/// The store under test; `None` only between the two halves of a restart.
struct Subject {
    store: Option<Box<dyn BlobStore>>,
    folder: Option<TempDir>,
    living: HashMap<Which, Arc<dyn PartialBlob>>,
}

#[derive(Default)]
struct Model {
    held: HashSet<usize>,
    partials: HashMap<Which, ByteSet>,
}

impl Subject {
    fn on_disk() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: Some(open(&folder)),
            folder: Some(folder),
            living: HashMap::new(),
        }
    }

    fn in_memory() -> Self {
        Self {
            store: Some(Box::new(MemoryStore::new(Limits::cap(1 << 30)))),
            folder: None,
            living: HashMap::new(),
        }
    }

    fn store(&self) -> &dyn BlobStore {
        &**self.store.as_ref().unwrap()
    }

    fn partial(&mut self, blobs: &[(Digest, Vec<u8>)], which: Which) -> Arc<dyn PartialBlob> {
        let (digest, content) = &blobs[which.0];
        let scope = ScopeTag::of(SCOPES[which.1]);
        let partial = self.store().begin(digest, scope, content.len() as u64);
        let partial = partial.unwrap();
        self.living.insert(which, Arc::clone(&partial));
        partial
    }

    fn restart(&mut self) {
        self.living.clear();
        if let Some(folder) = &self.folder {
            self.store = None;
            self.store = Some(open(folder));
        }
    }
}

fn open(folder: &TempDir) -> Box<dyn BlobStore> {
    let mut options = Options::new(folder.path(), Limits::cap(1 << 30));
    options.min_free = MinFree::Bytes(0);
    options.scrub = None;
    Box::new(DiskStore::open(options).unwrap())
}

fn run(mut subject: Subject, blobs: &[(Digest, Vec<u8>)], calls: &[Call]) {
    let mut model = Model::default();
    for call in calls {
        match call {
            Call::Begin(which) => {
                let present = subject.partial(blobs, *which).present();
                let expected = model.partials.entry(*which).or_default();
                assert_eq!(present, *expected, "{call:?}");
            }
            Call::Write(which, range) => {
                let content = &blobs[which.0].1;
                let at = |part: f64| ((content.len() as f64 * part) as usize).min(content.len());
                let (start, end) = (at(range.start), at(range.end));
                let partial = subject.partial(blobs, *which);
                partial
                    .write_at(start as u64, &content[start..end])
                    .unwrap();
                let set = model.partials.entry(*which).or_default();
                set.insert(start as u64..end as u64);
            }
            Call::Publish(which) => {
                let content = &blobs[which.0].1;
                let published = subject.partial(blobs, *which).publish();
                let set = model.partials.entry(*which).or_default();
                assert_eq!(published.is_ok(), set.contains(0..content.len() as u64));
                if published.is_ok() {
                    subject.living.remove(which);
                    model.partials.remove(which);
                    model.held.insert(which.0);
                }
            }
            Call::Discard(which) => {
                subject.partial(blobs, *which).discard();
                subject.living.remove(which);
                model.partials.remove(which);
            }
            Call::Let(which) => drop(subject.living.remove(which)),
            Call::Remove(number) => {
                subject.store().remove(&blobs[*number].0).unwrap();
                model.held.remove(number);
                let living = &subject.living;
                model
                    .partials
                    .retain(|which, _| which.0 != *number || living.contains_key(which));
            }
            Call::Put(number) => {
                let (digest, content) = &blobs[*number];
                subject.store().put(digest, content).unwrap();
                model.held.insert(*number);
            }
            Call::Restart => {
                subject.restart();
                if subject.folder.is_some() {
                    after_restart(&mut model, blobs);
                }
            }
        }
        check(&subject, &model, blobs);
    }
}

/// What was empty is gone with its file's map; what was whole is adopted, sooner or later.
fn after_restart(model: &mut Model, blobs: &[(Digest, Vec<u8>)]) {
    let whole = |which: &Which, set: &ByteSet| set.contains(0..blobs[which.0].1.len() as u64);
    for (which, set) in &model.partials {
        if whole(which, set) && !set.is_empty() {
            model.held.insert(which.0);
        }
    }
    model
        .partials
        .retain(|which, set| !set.is_empty() && !whole(which, set));
}

fn check(subject: &Subject, model: &Model, blobs: &[(Digest, Vec<u8>)]) {
    let store = subject.store();
    // Adoption after a restart takes its time.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let counts = || (store.usage().held_blobs, store.usage().partial_blobs);
    let expected = (model.held.len() as u64, model.partials.len() as u64);
    while counts() != expected && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(counts(), expected, "held and partial");
    for (number, (digest, content)) in blobs.iter().enumerate() {
        let held = store.open(digest);
        assert_eq!(held.is_some(), model.held.contains(&number));
        if let Some(held) = held {
            assert!(held.read_all().unwrap() == content[..]);
        }
    }
    for (which, partial) in &subject.living {
        assert_eq!(partial.present(), model.partials[which]);
        for range in partial.present().iter() {
            let slice = partial.slice(range.clone()).unwrap();
            let expected = &blobs[which.0].1[range.start as usize..range.end as usize];
            assert!(slice.bytes == *expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_store_holds_what_the_model_holds(calls in calls()) {
        let blob = |size: usize| {
            let content: Vec<u8> = (0..size).map(|at| ((at / 7) ^ (at >> 9)) as u8).collect();
            (Digest::sha256(&content), content)
        };
        let blobs: Vec<_> = SIZES.into_iter().map(blob).collect();
        run(Subject::on_disk(), &blobs, &calls);
        run(Subject::in_memory(), &blobs, &calls);
    }
}
