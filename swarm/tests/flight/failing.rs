//! Sources that cut, stall, refuse and lie, and what their readers see.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_resumed_where_it_was() {
    let size = 2 * MIB as u64;
    let offsets = [0, 1, 64 * 1024, 777_777, size - 64 * 1024, size - 1];
    for offset in offsets {
        let engine = engine();
        let blob = content(size as usize);
        let digest = Digest::sha256(&blob);
        let source = Scripted::new(&blob);
        source.cut_at(offset);
        assert_eq!(
            read_all(&engine, &digest, &source).await,
            blob,
            "cut at {offset}"
        );
        let resumed = if offset == 0 {
            FetchRange::All
        } else {
            FetchRange::From(offset)
        };
        assert_eq!(source.requests(), [FetchRange::All, resumed]);
        assert_eq!(source.sent(), size);
        assert_eq!(engine.stats().resumed, 1);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_source_is_left_for_another() {
    let engine = hasty_engine();
    let blob = content(2 * MIB);
    let digest = Digest::sha256(&blob);
    let (slow, good) = (
        Scripted::named("slow", &blob),
        Scripted::named("good", &blob),
    );
    for _ in 0..9 {
        slow.stall_at(MIB as u64);
    }
    let one = engine
        .read(want(&digest, FetchRange::All, &slow))
        .await
        .unwrap();
    let two = engine
        .read(want(&digest, FetchRange::All, &good))
        .await
        .unwrap();
    assert_eq!((one.how(), two.how()), (How::Started, How::Joined));
    let (one, two) = tokio::join!(collect(&one, 0..1 << 40), collect(&two, 0..1 << 40));
    assert!(one.1.is_none() && two.1.is_none());
    assert_eq!((&one.0[..], &two.0[..]), (&blob[..], &blob[..]));
    assert!(slow.requests().len() >= 2, "once more, then the other");
    assert!(good.requests().contains(&FetchRange::From(MIB as u64)));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_only_stalls_is_given_up() {
    let engine = hasty_engine();
    let blob = content(2 * MIB);
    let digest = Digest::sha256(&blob);
    let source = Scripted::new(&blob);
    for _ in 0..9 {
        source.stall_at(MIB as u64);
    }
    let reader = engine
        .read(want(&digest, FetchRange::All, &source))
        .await
        .unwrap();
    let mut stream = reader.stream(0..reader.total());
    let mut got = Vec::new();
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(slice) => got.extend_from_slice(&slice.bytes),
            Err(error) => break error,
        }
    };
    assert_eq!(got, blob[..MIB], "good bytes first");
    assert!(matches!(error, ReadError::Source(_)), "{error:?}");
    assert!(source.requests().len() <= 6);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_source_refuses_its_reader_only() {
    for fault in [Fault::Denied, Fault::NotFound] {
        let engine = engine();
        let blob = content(MIB);
        let digest = Digest::sha256(&blob);
        let (bad, good) = (
            Scripted::named("bad", &blob),
            Scripted::named("good", &blob),
        );
        bad.gate_heads(false);
        bad.refuse(fault.clone());
        let (first, second) =
            tokio::join!(engine.read(want(&digest, FetchRange::All, &bad)), async {
                until(|| !bad.requests().is_empty()).await;
                let joined = engine.read(want(&digest, FetchRange::All, &good));
                let (joined, ()) = tokio::join!(joined, async {
                    until(|| engine.stats().flights_joined == 1).await;
                    bad.gate_heads(true);
                });
                joined
            });
        assert!(matches!(first, Err(ReadError::Source(e)) if e.fault == fault));
        let second = second.unwrap();
        assert_eq!(second.how(), How::Started);
        assert_eq!(collect(&second, 0..MIB as u64).await.0, blob);
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_gives_is_said_at_once() {
    let engine = engine();
    let blob = content(MIB);
    let digest = Digest::sha256(&blob);
    let limited = Fault::Limited {
        retry_after: Some(Duration::from_secs(7)),
    };
    for fault in [
        Fault::NotFound,
        Fault::Denied,
        Fault::Unavailable("down".into()),
        limited,
    ] {
        let source = Scripted::new(&blob);
        // What may have been a bad moment is asked about once more.
        let asked = 1 + usize::from(matches!(fault, Fault::Unavailable(_)));
        for _ in 0..asked {
            source.refuse(fault.clone());
        }
        let error = soon(engine.read(want(&digest, FetchRange::All, &source)))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, ReadError::Source(e) if e.fault == fault),
            "{error:?}"
        );
        assert_eq!(source.requests().len(), asked);
        assert_eq!(
            error.retry_after().is_some(),
            matches!(fault, Fault::Limited { .. })
        );
    }
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_reach_nobody_whole_and_nothing_is_kept() {
    for size in [1, 64 * KIB, 3 * MIB] {
        for bad_at in [0, size / 2, size - 1] {
            let folder = tempfile::tempdir().unwrap();
            let engine = engine_over(disk(folder.path()));
            let blob = content(size);
            let digest = Digest::sha256(&blob);
            let mut tampered = blob.to_vec();
            tampered[bad_at] ^= 1;
            let liar = Scripted::named("liar", &tampered.into());
            let mut readers = tokio::task::JoinSet::new();
            for start in [0, 0, size as u64 / 2] {
                let (engine, liar) = (engine.clone(), liar.clone());
                readers.spawn(async move {
                    let first = FetchRange::From(start);
                    let reader = engine.read(want(&digest, first, &liar)).await.unwrap();
                    let (got, error) = collect(&reader, start..reader.total()).await;
                    assert!(matches!(error, Some(ReadError::WrongDigest)), "{error:?}");
                    assert!(got.len() + 64 * KIB <= size.max(64 * KIB));
                });
            }
            while let Some(done) = readers.join_next().await {
                done.unwrap();
            }
            assert!(engine.held(&digest).is_none());
            let honest = Scripted::new(&blob);
            assert_eq!(read_all(&engine, &digest, &honest).await, blob);
            assert_eq!(
                honest.sent(),
                size as u64,
                "nothing of the lie was taken up"
            );
            engine.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_ranges_serves_all_the_same() {
    let blob = content(6 * MIB);
    let digest = Digest::sha256(&blob);
    for first in [
        FetchRange::All,
        FetchRange::From(3 * MIB as u64),
        FetchRange::Span(MIB as u64..2 * MIB as u64),
    ] {
        let engine = engine();
        let source = Scripted::without_ranges(&blob);
        source.cut_at(5 * MIB as u64);
        let reader = soon(engine.read(want(&digest, first.clone(), &source)))
            .await
            .unwrap();
        let range = first.resolve(reader.total()).unwrap();
        let (got, error) = collect(&reader, range.clone()).await;
        assert!(error.is_none(), "{first:?}: {error:?}");
        assert_eq!(got, blob[range.start as usize..range.end as usize]);
        engine.shutdown().await;
    }
}
