//! Blobs as a source for transfers: ranges, lengths, lies and cuts.

use oci_conformance::{Ask as Seen, Fault, Origin};
use swarm::{Fault as SourceFault, FetchRange};

use super::rig::{REPOSITORY, fetch, fetch_until_error, registry, upstream};

async fn origin_with(bytes: &[u8]) -> (Origin, String) {
    let origin = Origin::start().await;
    let digest = origin.push_blob(REPOSITORY, bytes.to_vec());
    (origin, digest)
}

#[tokio::test]
async fn whole_and_ranges() {
    let (origin, digest) = origin_with(b"0123456789").await;
    let upstream = upstream(registry(&[&origin]));
    for (range, start, bytes) in [
        (FetchRange::All, 0, &b"0123456789"[..]),
        (FetchRange::From(0), 0, b"0123456789"),
        (FetchRange::From(7), 7, b"789"),
        (FetchRange::Span(2..4), 2, b"23"),
        (FetchRange::Span(8..99), 8, b"89"),
        (FetchRange::Last(3), 7, b"789"),
    ] {
        let got = fetch(&upstream, &digest, range.clone()).await.unwrap();
        assert_eq!(got, (start, 10, bytes.to_vec()), "{range:?}");
    }
    assert_eq!(origin.count(Seen::blob(&digest).head()), 0);
    let beyond = fetch(&upstream, &digest, FetchRange::From(10)).await;
    assert_eq!(
        beyond.unwrap_err().fault,
        SourceFault::Unsatisfiable { total: 10 }
    );
}

#[tokio::test]
async fn an_empty_blob() {
    let (origin, digest) = origin_with(b"").await;
    let upstream = upstream(registry(&[&origin]));
    let got = fetch(&upstream, &digest, FetchRange::All).await.unwrap();
    assert_eq!(got, (0, 0, Vec::new()));
}

#[tokio::test]
async fn a_body_without_a_length_is_measured_first() {
    for fault in [Fault::Chunked, Fault::CloseDelimited] {
        let (origin, digest) = origin_with(b"0123456789").await;
        origin.when(Seen::blob(&digest).get()).answer(fault);
        let upstream = upstream(registry(&[&origin]));
        let got = fetch(&upstream, &digest, FetchRange::All).await.unwrap();
        assert_eq!(got, (0, 10, b"0123456789".to_vec()));
    }
}

#[tokio::test]
async fn a_resumed_transfer_gets_its_rest_from_a_server_without_ranges() {
    let (origin, digest) = origin_with(b"0123456789").await;
    origin.when(Seen::blobs()).answer(Fault::WholeForRange);
    let upstream = upstream(registry(&[&origin]));
    let got = fetch(&upstream, &digest, FetchRange::From(6))
        .await
        .unwrap();
    assert_eq!(got, (6, 10, b"6789".to_vec()));
    let deep = fetch(&upstream, &digest, FetchRange::Span(6..8)).await;
    assert!(matches!(deep.unwrap_err().fault, SourceFault::Wrong(_)));
}

#[tokio::test]
async fn lies_are_told_from_bytes() {
    for (fault, range) in [
        (Fault::WrongContentRange, FetchRange::From(3)),
        (Fault::Html, FetchRange::All),
        (Fault::Gzip, FetchRange::All),
    ] {
        let (origin, digest) = origin_with(b"0123456789").await;
        origin.when(Seen::blobs()).answer(fault.clone());
        let upstream = upstream(registry(&[&origin]));
        let got = fetch(&upstream, &digest, range).await;
        assert!(
            matches!(got.unwrap_err().fault, SourceFault::Wrong(_)),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_cut_ends_with_an_error_after_the_bytes_that_came() {
    for fault in [Fault::CutFin(4), Fault::StallAt(4)] {
        let (origin, digest) = origin_with(b"0123456789").await;
        origin.when(Seen::blobs()).answer(fault.clone());
        let upstream = upstream(registry(&[&origin]));
        let (bytes, error) = fetch_until_error(&upstream, &digest).await;
        assert_eq!(bytes, 4, "{fault:?}");
        let error = error.expect("the body is not whole");
        assert!(
            matches!(error.fault, SourceFault::Unavailable(_)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn after_a_cut_the_other_endpoint_goes_on() {
    let (first, digest) = origin_with(b"0123456789").await;
    let (second, _) = origin_with(b"0123456789").await;
    first.when(Seen::blobs()).answer(Fault::CutFin(4));
    let upstream = upstream(registry(&[&first, &second]));
    let source = upstream.blob_source(
        REPOSITORY.parse().unwrap(),
        proxy::upstream::Credential::Anonymous,
    );
    let digest = digest.parse().unwrap();
    use futures_util::TryStreamExt as _;
    let begun = source.fetch(&digest, FetchRange::All).await.unwrap();
    assert!(begun.body.try_collect::<Vec<_>>().await.is_err());
    let rest = source.fetch(&digest, FetchRange::From(4)).await.unwrap();
    let frames: Vec<bytes::Bytes> = rest.body.try_collect().await.unwrap();
    assert_eq!(frames.concat(), b"456789");
    assert_eq!(second.count(Seen::blobs()), 1);
}

#[tokio::test]
async fn a_liar_is_followed_by_the_next_endpoint() {
    let (first, digest) = origin_with(b"0123456789").await;
    let (second, _) = origin_with(b"0123456789").await;
    first.when(Seen::blobs()).answer(Fault::Html);
    let upstream = upstream(registry(&[&first, &second]));
    let got = fetch(&upstream, &digest, FetchRange::All).await.unwrap();
    assert_eq!(got.2, b"0123456789");
}
