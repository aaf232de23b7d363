//! 429 and its gate, and the node's own cap on what it downloads.

use std::time::{Duration, Instant};

use http::Method;
use oci::client::ClientConfig;
use oci_conformance::origin::content;
use oci_conformance::{Ask as Seen, Fault, Origin};
use proxy::upstream::{UpstreamError, Upstreams, UpstreamsConfig, What};
use swarm::FetchRange;

use super::rig::{REPOSITORY, ask, fetch, registry, tag, upstream, with};

#[tokio::test]
async fn nothing_is_asked_before_retry_after_is_over() {
    let origin = Origin::start().await;
    let image = origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    origin
        .when(Seen::manifests().get())
        .answer(Fault::TooMany(Some("60".into())));
    let upstream = upstream(registry(&[&origin]));
    for _ in 0..3 {
        let error = upstream.ask(tag("latest")).await.unwrap_err();
        let UpstreamError::Limited { retry_after, .. } = error else {
            panic!("{error:?}");
        };
        let left = retry_after.expect("upstream said so");
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30));
    }
    assert_eq!(origin.count(Seen::manifests().get()), 1);
    // Docker Hub counts manifest GETs only: the rest still goes.
    let mut head = tag("latest");
    head.method = Method::HEAD;
    upstream.ask(head).await.unwrap();
    fetch(&upstream, &image.layers[0], FetchRange::All)
        .await
        .unwrap();
    // And a client with rights of its own is not held back by nobody's.
    let own = upstream.ask(with(tag("latest"), "Bearer mine")).await;
    assert!(matches!(own, Err(UpstreamError::Limited { .. })));
    assert_eq!(origin.count(Seen::manifests().get()), 2);
}

#[tokio::test]
async fn limited_with_the_challenge_so_that_an_account_can_be_used() {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    origin.require_tokens();
    origin
        .when(Seen::manifests().and(|seen| seen.authorization().is_some()))
        .answer(Fault::TooMany(None));
    let upstream = upstream(registry(&[&origin]));
    let error = upstream.ask(tag("latest")).await.unwrap_err();
    let UpstreamError::Limited { challenge, .. } = error else {
        panic!("{error:?}");
    };
    assert!(challenge[0].to_str().unwrap().starts_with("Bearer realm="));
}

#[tokio::test]
async fn the_rate_of_all_downloads_is_capped() {
    let origin = Origin::start().await;
    let digest = origin.push_blob(REPOSITORY, content(1, 300_000));
    let config = UpstreamsConfig {
        public: false,
        registries: vec![registry(&[&origin])],
        ratelimit: Some(1_000_000),
    };
    let table = Upstreams::with_client(&config, ClientConfig::bare()).unwrap();
    let upstream = table.get(&"r.test".parse().unwrap()).unwrap();
    let begun = Instant::now();
    fetch(&upstream, &digest, FetchRange::All).await.unwrap();
    let third = fetch(&upstream, &digest, FetchRange::All);
    third.await.unwrap();
    // 600 kB at 1 MB/s less the burst and the last frame, which is not waited for.
    assert!(
        begun.elapsed() >= Duration::from_millis(150),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn an_unknown_registry_has_no_upstream() {
    let table = Upstreams::with_client(&UpstreamsConfig::default(), ClientConfig::bare()).unwrap();
    for known in ["docker.io", "index.docker.io", "ghcr.io", "eu.gcr.io"] {
        assert!(table.knows(known).is_some(), "{known}");
    }
    for unknown in [
        "evil.test",
        "127.0.0.1",
        "ghcr.io.evil.test",
        "docker.io:5000",
        "http://ghcr.io",
    ] {
        assert!(table.knows(unknown).is_none(), "{unknown}");
    }
    let evil = "evil.test".parse().unwrap();
    assert!(table.get(&evil).is_none());
    let what = What::Tags {
        query: String::new(),
    };
    let own = table.get(&"ghcr.io".parse().unwrap()).unwrap();
    drop((own, ask(Method::GET, what)));
}
