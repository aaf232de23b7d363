//! Readers: one fetch for many, bytes as they arrive, ranges anywhere, coming and going.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_and_algorithms_arrive_whole_and_are_held() {
    let engine = engine();
    let sizes = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 3 * MIB + 17];
    for size in sizes {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let blob = content(size);
            let digest = Digest::of(algorithm, &blob);
            let source = Scripted::new(&blob);
            assert_eq!(
                read_all(&engine, &digest, &source).await,
                blob,
                "{size} {algorithm:?}"
            );
            until(|| engine.held(&digest).is_some()).await;
            let again = soon(engine.read(want(&digest, FetchRange::All, &source)))
                .await
                .unwrap();
            assert_eq!(again.how(), How::Held);
            assert_eq!(collect(&again, 0..size as u64).await.0, blob);
            assert_eq!(source.requests(), [FetchRange::All]);
        }
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_readers_cost_one_fetch() {
    let engine = engine();
    let blob = content(5 * MIB + 3);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate_heads(false);
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (engine, source) = (engine.clone(), source.clone());
        readers.spawn(async move { read_all(&engine, &digest, &source).await });
    }
    until(|| engine.stats().flights_joined == 63).await;
    source.gate_heads(true);
    while let Some(got) = readers.join_next().await {
        assert_eq!(got.unwrap(), blob);
    }
    assert_eq!(source.requests(), [FetchRange::All]);
    assert_eq!(source.sent(), blob.len() as u64);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_byte_leaves_as_it_arrives_and_the_tail_waits_for_the_digest() {
    let engine = engine();
    let blob = content(MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(1);
    let reader = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    assert_eq!((reader.how(), reader.total()), (How::Started, MIB as u64));
    let mut stream = reader.stream(0..MIB as u64);
    let first = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!(first.bytes, blob[..1]);

    source.gate(MIB as u64 - 1);
    let mut got = 1;
    while got < MIB - 64 * KIB {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len();
    }
    assert_eq!(got, MIB - 64 * KIB, "nothing of the tail, all before it");
    assert!(futures_util::poll!(stream.next()).is_pending());
    source.gate(u64::MAX);
    while let Some(slice) = soon(stream.next()).await {
        got += slice.unwrap().bytes.len();
    }
    assert_eq!(got, MIB);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_range_does_not_wait_for_the_beginning() {
    let engine = engine();
    let blob = content(16 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(10);
    let whole = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let deep = 9 * MIB as u64..9 * MIB as u64 + 100_000;
    let first = FetchRange::Span(deep.clone());
    let reader = soon(engine.read(want(&digest, first.clone(), &source)))
        .await
        .unwrap();
    assert_eq!(reader.how(), How::Joined);
    let (got, error) = collect(&reader, deep.clone()).await;
    assert!(error.is_none());
    assert_eq!(got, blob[deep.start as usize..deep.end as usize]);
    assert_eq!(source.requests(), [FetchRange::All, first]);
    source.gate(u64::MAX);
    assert_eq!(collect(&whole, 0..whole.total()).await.0, blob);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_deep_range_alone_fetches_nothing_else() {
    let engine = engine();
    let blob = content(16 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let deep = 9 * MIB as u64..9 * MIB as u64 + 100_000;
    let first = FetchRange::Span(deep.clone());
    let reader = soon(engine.read(want(&digest, first.clone(), &source)))
        .await
        .unwrap();
    assert_eq!(
        (reader.how(), reader.total()),
        (How::Started, 16 * MIB as u64)
    );
    assert_eq!(collect(&reader, deep.clone()).await.0.len(), 100_000);
    drop(reader);
    until(|| engine.stats().flights_in_progress == 0).await;
    assert_eq!(source.requests(), [first]);
    assert_eq!(source.sent(), 100_000);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_first_range_is_answered() {
    let blob = content(3 * MIB);
    let digest = Digest::sha256(&blob);
    let cases = [
        (FetchRange::From(0), 0..3 * MIB),
        (FetchRange::From(2 * MIB as u64), 2 * MIB..3 * MIB),
        (FetchRange::Last(100), 3 * MIB - 100..3 * MIB),
        (FetchRange::Last(1 << 40), 0..3 * MIB),
        (FetchRange::Span(5..1 << 40), 5..3 * MIB),
        (FetchRange::Span(MIB as u64..MIB as u64 + 1), MIB..MIB + 1),
    ];
    for (first, range) in cases {
        let engine = engine();
        let source = Scripted::new(&blob);
        let reader = soon(engine.read(want(&digest, first.clone(), &source)))
            .await
            .unwrap();
        assert_eq!(reader.how(), How::Started, "{first:?}");
        let (got, error) = collect(&reader, range.start as u64..range.end as u64).await;
        assert!(error.is_none(), "{first:?}: {error:?}");
        assert_eq!(got, blob[range], "{first:?}");
        assert!(
            source.sent() <= (3 * MIB + 64 * KIB) as u64,
            "{first:?} cost {}",
            source.sent()
        );
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_beyond_the_end_is_unsatisfiable() {
    let engine = engine();
    let blob = content(MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    for first in [
        FetchRange::From(MIB as u64),
        FetchRange::Span(1 << 30..1 << 31),
        FetchRange::Last(0),
    ] {
        let error = soon(engine.read(want(&digest, first.clone(), &source)))
            .await
            .unwrap_err();
        assert!(
            matches!(error, ReadError::Unsatisfiable { total } if total == MIB as u64),
            "{first:?}: {error:?}"
        );
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_may_leave() {
    let engine = engine();
    let blob = content(4 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(MIB as u64);
    let first = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    let second = soon(engine.read(want(&digest, FetchRange::All, &source)))
        .await
        .unwrap();
    drop(first);
    source.gate(2 * MIB as u64);
    let mut stream = second.stream(0..second.total());
    let mut got = 0;
    while got < 2 * MIB {
        got += soon(stream.next()).await.unwrap().unwrap().bytes.len();
    }
    drop((stream, second));
    source.gate(u64::MAX);
    until(|| engine.held(&digest).is_some()).await;
    assert_eq!(source.requests(), [FetchRange::All]);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_nobody_reads_ends() {
    let options = EngineOptions {
        linger: Duration::from_millis(50),
        ..options()
    };
    let engine = Engine::new(Arc::new(MemoryStore::new(Limits::cap(1 << 30))), options);
    let blob = content(4 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    source.gate(MIB as u64);
    let reader = engine
        .read(want(&digest, FetchRange::All, &source))
        .await
        .unwrap();
    drop(reader);
    until(|| engine.stats().flights_in_progress == 0).await;
    assert!(engine.held(&digest).is_none());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_chunks_cost_little() {
    let engine = engine();
    let size = 30 * MIB;
    let blob = content(size);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let mut chunks = tokio::task::JoinSet::new();
    for start in (0..size).step_by(8 * MIB) {
        let (engine, source, blob) = (engine.clone(), source.clone(), blob.clone());
        chunks.spawn(async move {
            let first = FetchRange::From(start as u64);
            let reader = engine.read(want(&digest, first, &source)).await.unwrap();
            let mut stream = reader.stream(start as u64..reader.total());
            let end = (start + 8 * MIB).min(size);
            let mut at = start;
            while at < end {
                let slice = soon(stream.next()).await.unwrap().unwrap();
                assert_eq!(slice.bytes, blob[at..at + slice.bytes.len()]);
                at += slice.bytes.len();
            }
        });
    }
    while let Some(done) = chunks.join_next().await {
        done.unwrap();
    }
    until(|| engine.held(&digest).is_some()).await;
    assert!(
        source.sent() as f64 <= 1.2 * size as f64,
        "{} bytes",
        source.sent()
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranges_of_one_reader() {
    let engine = engine();
    let blob = content(20 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    let ranges = [
        15 * MIB..15 * MIB + 9,
        3 * MIB..3 * MIB + 70_000,
        20 * MIB - 5..20 * MIB,
    ];
    let first = FetchRange::Span(ranges[0].start as u64..ranges[0].end as u64);
    let reader = soon(engine.read(want(&digest, first, &source)))
        .await
        .unwrap();
    for range in ranges {
        let (got, error) = collect(&reader, range.start as u64..range.end as u64).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(got, blob[range]);
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_share_only_verified_bytes() {
    let engine = engine();
    let blob = content(2 * MIB);
    let digest = Digest::sha256(&blob);
    let (one, two) = (Scripted::named("one", &blob), Scripted::named("two", &blob));
    one.gate(MIB as u64);
    let first = soon(engine.read(want(&digest, FetchRange::All, &one)))
        .await
        .unwrap();
    let other = Want {
        scope: FlightScope::new("other.example"),
        ..want(&digest, FetchRange::All, &two)
    };
    let second = soon(engine.read(other)).await.unwrap();
    assert_eq!(second.how(), How::Started);
    assert_eq!(collect(&second, 0..second.total()).await.0, blob);
    one.gate(u64::MAX);
    assert_eq!(collect(&first, 0..first.total()).await.0, blob);
    engine.shutdown().await;
}
