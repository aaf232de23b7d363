//! The store under a flight: restarts, and what it cannot take.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_fetches_only_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let size = 24 * MIB;
    let blob = content(size);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let had = 11 * MIB as u64 + 4321;
    source.gate(had);
    let engine = engine_over(disk(folder.path()));
    let reader = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let mut stream = reader.stream(0..size as u64);
    let mut got = 0;
    while got < had {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len() as u64;
    }
    engine.shutdown().await;
    let error = soon(stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ReadError::ShutDown));
    drop((stream, reader, engine));

    let again = Scripted::new(&blob);
    let engine = engine_over(disk(folder.path()));
    assert_eq!(read_all(&engine, &digest, &again).await, blob);
    let missing = size as u64 - had;
    assert!(
        again.sent() <= missing + MIB as u64,
        "{} > {missing} + 1 MiB",
        again.sent()
    );
    until(|| engine.held(&digest).is_some()).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_passes_through() {
    let engine = engine_over(MemoryStore::new(Limits::cap(MIB as u64)));
    let blob = content(24 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate_heads(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (engine, source) = (engine.clone(), source.clone());
        readers.spawn(async move { read_all(&engine, &digest, &source).await });
    }
    until(|| engine.stats().flights_joined == 7).await;
    source.gate_heads(true);
    while let Some(got) = readers.join_next().await {
        assert_eq!(got.unwrap(), blob);
    }
    assert_eq!(source.requests(), [FetchRange::All]);
    assert!(engine.held(&digest).is_none());

    let tampered: Bytes = {
        let mut bytes = blob.to_vec();
        bytes[7] ^= 1;
        bytes.into()
    };
    let liar = Scripted::new(&tampered);
    let reader = soon(engine.read(want(&digest, FetchRange::All, &liar)))
        .await
        .unwrap();
    let (got, error) = collect(&reader, 0..1 << 40).await;
    assert!(matches!(error, Some(ReadError::WrongDigest)), "{error:?}");
    assert!(got.len() <= 24 * MIB - 64 * KIB);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_outside_the_window_fetches_apart() {
    let engine = engine_over(MemoryStore::new(Limits::cap(MIB as u64)));
    let blob = content(40 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(20 * MIB as u64);
    let main = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let mut stream = main.stream(0..main.total());
    let mut got = 0;
    while got < 20 * MIB {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len();
    }
    let deep = 30 * MIB as u64..31 * MIB as u64;
    for range in [deep, 5..100] {
        let first = FetchRange::Span(range.clone());
        let reader = soon(engine.read(want(&digest, first, &source)))
            .await
            .unwrap();
        let (bytes, error) = collect(&reader, range.clone()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(bytes, blob[range.start as usize..range.end as usize]);
    }
    source.gate(u64::MAX);
    while let Some(slice) = soon(stream.next()).await {
        got += slice.unwrap().bytes.len();
    }
    assert_eq!(got, 40 * MIB);
    engine.shutdown().await;
}

/// A store whose disk is full after so many bytes.
struct FullAfter {
    inner: MemoryStore,
    room: u64,
}

struct FullPartial {
    inner: Arc<dyn PartialBlob>,
    room: u64,
}

impl BlobStore for FullAfter {
    fn open(&self, digest: &Digest) -> Option<HeldBlob> {
        self.inner.open(digest)
    }

    fn read_again(&self, digest: &Digest) {
        self.inner.read_again(digest);
    }

    fn examine(&self, blob: &HeldBlob, go_on: &mut dyn FnMut(u64) -> bool) -> Examined {
        self.inner.examine(blob, go_on)
    }

    fn begin(
        &self,
        digest: &Digest,
        scope: ScopeTag,
        total: u64,
    ) -> Result<Arc<dyn PartialBlob>, StoreError> {
        Ok(Arc::new(FullPartial {
            inner: self.inner.begin(digest, scope, total)?,
            room: self.room,
        }))
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

impl PartialBlob for FullPartial {
    fn total(&self) -> u64 {
        self.inner.total()
    }

    fn present(&self) -> ByteSet {
        self.inner.present()
    }

    fn first_gap_after(&self, offset: u64) -> u64 {
        self.inner.first_gap_after(offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        match offset + bytes.len() as u64 <= self.room {
            true => self.inner.write_at(offset, bytes),
            false => Err(StoreError::Full),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_at(offset, buffer)
    }

    fn slice(&self, range: Range<u64>) -> Option<Slice> {
        self.inner.slice(range)
    }

    fn publish(&self) -> Result<HeldBlob, StoreError> {
        self.inner.publish()
    }

    fn discard(&self) {
        self.inner.discard();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_in_the_middle_fails_no_read() {
    for room in [0, 1, 64 * KIB, 3 * MIB + 5, 20 * MIB] {
        let engine = engine_over(FullAfter {
            inner: MemoryStore::new(Limits::cap(1 << 30)),
            room: room as u64,
        });
        let blob = content(24 * MIB);
        let digest = Digest::sha256(&blob);
        let source = Scripted::new(&blob);
        source.cut_at(22 * MIB as u64);
        let mut readers = tokio::task::JoinSet::new();
        for range in [0..24 * MIB, 0..24 * MIB, 10 * MIB..24 * MIB, MIB..2 * MIB] {
            let (engine, source, blob) = (engine.clone(), source.clone(), blob.clone());
            readers.spawn(async move {
                let bytes = range.start as u64..range.end as u64;
                let first = FetchRange::Span(bytes.clone());
                let reader = engine.read(want(&digest, first, &source)).await.unwrap();
                let (got, error) = collect(&reader, bytes).await;
                assert!(error.is_none(), "room {room}, {range:?}: {error:?}");
                assert!(got == blob[range]);
            });
        }
        while let Some(done) = readers.join_next().await {
            done.unwrap();
        }
        assert!(engine.held(&digest).is_none());
        engine.shutdown().await;
    }
}
