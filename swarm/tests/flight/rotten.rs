//! Held blobs whose file is not the one that was verified, or not known to be.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// A store on disk that counts its examinations and lets them wait at a gate.
#[derive(Clone)]
struct Watched {
    inner: Arc<DiskStore>,
    examined: Arc<AtomicUsize>,
    gate: Arc<AtomicBool>,
}

impl Watched {
    fn open(folder: &Path) -> Self {
        Self {
            inner: Arc::new(disk(folder)),
            examined: Arc::default(),
            gate: Arc::new(AtomicBool::new(true)),
        }
    }

    fn examined(&self) -> usize {
        self.examined.load(Ordering::SeqCst)
    }
}

impl BlobStore for Watched {
    fn open(&self, digest: &Digest) -> Option<HeldBlob> {
        self.inner.open(digest)
    }

    fn read_again(&self, digest: &Digest) {
        self.inner.read_again(digest);
    }

    fn examine(&self, blob: &HeldBlob, go_on: &mut dyn FnMut(u64) -> bool) -> Examined {
        self.examined.fetch_add(1, Ordering::SeqCst);
        while !self.gate.load(Ordering::SeqCst) {
            if !go_on(0) {
                return Examined::Undecided;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.inner.examine(blob, go_on)
    }

    fn begin(
        &self,
        digest: &Digest,
        scope: ScopeTag,
        total: u64,
    ) -> Result<Arc<dyn PartialBlob>, StoreError> {
        self.inner.begin(digest, scope, total)
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        self.inner.remove(digest)
    }

    fn pin(&self, digest: &Digest) -> Result<(), StoreError> {
        self.inner.pin(digest)
    }

    fn unpin(&self, digest: &Digest) -> Result<(), StoreError> {
        self.inner.unpin(digest)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

fn path(folder: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    folder.join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// Flips a bit, and writes until the file's times show it: they have the grain of a clock tick.
fn flip(folder: &Path, digest: &Digest, at: usize) {
    let mut options = File::options();
    let file = options.read(true).write(true).open(path(folder, digest));
    let file = file.unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    while file.metadata().unwrap().modified().unwrap() == before {
        file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
    }
}

async fn land(store: &Watched, engine: &Engine, blob: &Bytes) -> (Digest, Arc<Scripted>) {
    let (digest, source) = (Digest::sha256(blob), Scripted::new(blob));
    assert_eq!(read_all(engine, &digest, &source).await, *blob);
    until(|| store.inner.open(&digest).is_some()).await;
    store.inner.settle();
    (digest, source)
}

async fn open(engine: &Engine, digest: &Digest, source: &Arc<Scripted>) -> BlobReader {
    let reader = engine.read(want(digest, FetchRange::All, source));
    soon(reader).await.unwrap()
}

/// Every place of a flipped bit that could be special, in a large and in a small blob.
const FLIPS: [(usize, usize); 7] = [
    (4 * MIB, 0),
    (4 * MIB, 2 * MIB + 5),
    (4 * MIB, 4 * MIB - 64 * KIB),
    (4 * MIB, 4 * MIB - 1),
    (64 * KIB, 0),
    (5_000, 2_500),
    (1, 0),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_never_leaves_as_a_whole_blob_and_is_mended() {
    for restart in [true, false] {
        for (size, at) in FLIPS {
            let folder = tempfile::tempdir().unwrap();
            let blob = content(size);
            let mut store = Watched::open(folder.path());
            let mut engine = engine_over(store.clone());
            let (digest, source) = land(&store, &engine, &blob).await;
            if restart {
                engine.shutdown().await;
                drop((engine, store));
                flip(folder.path(), &digest, at);
                store = Watched::open(folder.path());
                engine = engine_over(store.clone());
            } else {
                flip(folder.path(), &digest, at);
            }
            let reader = open(&engine, &digest, &source).await;
            assert_eq!(reader.how(), How::Held);
            let (got, error) = collect(&reader, 0..size as u64).await;
            assert!(matches!(error, Some(ReadError::WrongDigest)), "{error:?}");
            assert!(got.len() <= size.saturating_sub(64 * KIB), "{}", got.len());
            drop(reader);

            let aside = format!("quarantine/sha256-{}", digest.hex());
            assert!(folder.path().join(aside).exists());
            assert!(engine.held(&digest).is_none());
            assert_eq!(store.usage().rotten_blobs, 1);
            assert_eq!(read_all(&engine, &digest, &source).await, blob);
            assert_eq!(source.requests().len(), 2, "fetched anew");
            engine.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_start_one_check_serves_all_readers_and_later_ones_need_none() {
    let folder = tempfile::tempdir().unwrap();
    let blob = content(4 * MIB + 17);
    let store = Watched::open(folder.path());
    let engine = engine_over(store.clone());
    let (digest, source) = land(&store, &engine, &blob).await;
    assert_eq!(read_all(&engine, &digest, &source).await, blob);
    assert_eq!(store.examined(), 0, "it landed in this run");
    engine.shutdown().await;
    drop((engine, store));

    let store = Watched::open(folder.path());
    store.gate.store(false, Ordering::SeqCst);
    let engine = engine_over(store.clone());
    let reader = open(&engine, &digest, &source).await;
    let mut streams = [reader.stream(0..u64::MAX), reader.stream(0..u64::MAX)];
    let before_tail = blob.len() - 64 * KIB;
    let mut got = [0, 0];
    for (stream, got) in streams.iter_mut().zip(&mut got) {
        while *got < before_tail {
            *got += soon(stream.next()).await.unwrap().unwrap().bytes.len();
        }
        assert_eq!(*got, before_tail, "at once, and nothing of the tail");
        assert!(futures_util::poll!(stream.next()).is_pending());
    }
    let middle = collect(&reader, 5..MIB as u64).await.0;
    assert_eq!(
        middle,
        blob[5..MIB],
        "a range before the tail does not wait"
    );
    let mut last = reader.stream(blob.len() as u64 - 1..u64::MAX);
    assert!(futures_util::poll!(last.next()).is_pending());

    store.gate.store(true, Ordering::SeqCst);
    for mut stream in streams {
        let slice = soon(stream.next()).await.unwrap().unwrap();
        assert_eq!(slice.bytes, blob[before_tail..]);
        assert!(slice.file.is_some(), "the same way of the bytes");
        assert!(soon(stream.next()).await.is_none());
    }
    assert_eq!(
        soon(last.next()).await.unwrap().unwrap().bytes,
        blob[blob.len() - 1..]
    );
    assert_eq!(store.examined(), 1);
    assert_eq!(read_all(&engine, &digest, &source).await, blob);
    assert_eq!(store.examined(), 1, "trusted from then on");
    assert_eq!(source.requests().len(), 1);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_readers_of_a_rotten_blob_are_both_cut_and_it_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let blob = content(3 * MIB);
    let store = Watched::open(folder.path());
    let engine = engine_over(store.clone());
    let (digest, source) = land(&store, &engine, &blob).await;
    flip(folder.path(), &digest, MIB);
    let readers = [
        open(&engine, &digest, &source).await,
        open(&engine, &digest, &source).await,
    ];
    let both = readers
        .each_ref()
        .map(|reader| collect(reader, 0..u64::MAX));
    let [one, other] = both;
    for (got, error) in <[_; 2]>::from(tokio::join!(one, other)) {
        assert!(matches!(error, Some(ReadError::WrongDigest)), "{error:?}");
        assert!(got.len() <= blob.len() - 64 * KIB);
    }
    assert_eq!(store.usage().rotten_blobs, 1);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_while_it_is_read_is_checked_before_its_tail() {
    let folder = tempfile::tempdir().unwrap();
    let blob = content(3 * MIB);
    let store = Watched::open(folder.path());
    let engine = engine_over(store.clone());
    let (digest, source) = land(&store, &engine, &blob).await;
    let reader = open(&engine, &digest, &source).await;
    let mut stream = reader.stream(0..u64::MAX);
    let mut got = soon(stream.next()).await.unwrap().unwrap().bytes.len();
    assert_eq!(store.examined(), 0);
    flip(folder.path(), &digest, 0);
    let error = loop {
        match soon(stream.next()).await.unwrap() {
            Ok(slice) => got += slice.bytes.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::WrongDigest), "{error:?}");
    assert!(got <= blob.len() - 64 * KIB, "{got}");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_offered_to_other_nodes_is_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let blob = content(3 * MIB);
    let store = Watched::open(folder.path());
    let engine = engine_over(store.clone());
    let (digest, _) = land(&store, &engine, &blob).await;
    engine.share(&digest);
    assert!(engine.offer(&digest).is_some());
    assert_eq!(store.examined(), 0);
    flip(folder.path(), &digest, MIB);
    // Pieces may be taken meanwhile; whoever takes them has their digests.
    until(|| engine.offer(&digest).is_none()).await;
    assert_eq!(store.usage().rotten_blobs, 1);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_process_stops_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let blob = content(MIB);
    let store = Watched::open(folder.path());
    let engine = engine_over(store.clone());
    let (digest, source) = land(&store, &engine, &blob).await;
    flip(folder.path(), &digest, 0);
    store.gate.store(false, Ordering::SeqCst);
    let reader = open(&engine, &digest, &source).await;
    let mut stream = reader.stream(0..u64::MAX);
    soon(stream.next()).await.unwrap().unwrap();
    assert!(futures_util::poll!(stream.next()).is_pending());
    until(|| store.examined() == 1).await;
    soon(engine.shutdown()).await;
    let error = soon(stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ReadError::ShutDown), "{error:?}");
}
