//! Several endpoints of one registry, and paths before the repository.

use oci_conformance::origin::{Reply, nobody};
use oci_conformance::{Ask as Seen, Fault, Gate, Origin};
use proxy::upstream::{EndpointConfig, RegistryConfig, UpstreamError};

use super::rig::{REPOSITORY, registry, tag, text, upstream, with};

async fn origin(manifest: &str) -> Origin {
    let origin = Origin::start().await;
    let bytes = manifest.to_owned();
    origin.push_manifest(REPOSITORY, Some("latest"), "application/json", bytes);
    origin
}

#[tokio::test]
async fn the_next_one_answers_when_the_first_does_not() {
    for fault in [
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::TooMany(None),
        Fault::Status(500),
        Fault::Status(503),
        Fault::HangUp,
        Fault::Reset,
        Fault::Gzip,
    ] {
        let (first, second) = (origin("first").await, origin("second").await);
        first.when(Seen::any()).answer(fault.clone());
        let upstream = upstream(registry(&[&first, &second]));
        let answer = upstream.ask(tag("latest")).await.unwrap();
        assert_eq!(answer.endpoint, 1, "{fault:?}");
        assert_eq!(text(Ok(answer)).await, "second", "{fault:?}");
    }
}

#[tokio::test]
async fn nobody_listens_at_the_first() {
    let second = origin("second").await;
    let mut config = registry(&[&second]);
    let dead = EndpointConfig::at(format!("http://{}", nobody().await));
    config.endpoints.insert(0, dead);
    assert_eq!(
        text(upstream(config).ask(tag("latest")).await).await,
        "second"
    );
}

#[tokio::test]
async fn one_that_stalls_is_asked_last_for_a_while() {
    let (first, second) = (origin("first").await, origin("second").await);
    first
        .when(Seen::any())
        .answer(Fault::HoldHead(Gate::closed()));
    let upstream = upstream(registry(&[&first, &second]));
    for _ in 0..3 {
        assert_eq!(text(upstream.ask(tag("latest")).await).await, "second");
    }
    assert_eq!(first.count(Seen::any()), 1);
    // But it is asked when the others fail, and is first again when it answers.
    first.behave();
    second.when(Seen::any()).answer(Fault::Status(500));
    for _ in 0..2 {
        assert_eq!(text(upstream.ask(tag("latest")).await).await, "first");
    }
    assert_eq!(second.count(Seen::any()), 4);
}

#[tokio::test]
async fn the_last_one_has_the_word() {
    let (first, second) = (origin("first").await, origin("second").await);
    first.when(Seen::any()).answer(Fault::Status(500));
    second.when(Seen::any()).answer(Fault::Status(404));
    let upstream = upstream(registry(&[&first, &second]));
    let error = upstream.ask(tag("latest")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_belong_to_the_last_one_or_a_trusted_one() {
    for trusted in [false, true] {
        let (first, second) = (origin("first").await, origin("second").await);
        let wants = || Fault::Challenge("Basic realm=\"x\"".into());
        for origin in [&first, &second] {
            origin
                .when(Seen::any().and(|seen| seen.authorization().is_none()))
                .answer(wants());
        }
        let mut config = registry(&[&first, &second]);
        config.endpoints[0].trusted = trusted;
        let upstream = upstream(config);
        let ask = with(tag("latest"), "Basic Y2Fyb2w6c2VjcmV0");
        let expected = if trusted { "first" } else { "second" };
        assert_eq!(text(upstream.ask(ask).await).await, expected);
        let seen = first.seen(Seen::any());
        let leaked = seen.iter().any(|seen| seen.authorization().is_some());
        assert_eq!(leaked, trusted);
    }
}

#[tokio::test]
async fn a_path_in_the_url_goes_before_the_repository() {
    let origin = Origin::start().await;
    let in_project = format!("hub/{REPOSITORY}");
    origin.push_manifest(&in_project, Some("latest"), "application/json", &b"m"[..]);
    origin.require_tokens();
    let config = RegistryConfig {
        endpoints: vec![EndpointConfig::at(format!("{}/hub/", origin.url()))],
        ..registry(&[])
    };
    let upstream = upstream(config);
    assert_eq!(text(upstream.ask(tag("latest")).await).await, "m");
    let scope = origin.seen(Seen::token())[0].parameter("scope");
    assert_eq!(scope, Some(format!("repository:{in_project}:pull")));
}

#[tokio::test]
async fn a_redirect_takes_no_credentials_along() {
    let (registry_origin, store) = (origin("m").await, Origin::start().await);
    store.serve_at("/presigned", &b"from the store"[..]);
    let to = format!("{}/presigned", store.url());
    registry_origin
        .when(Seen::manifests().and(|seen| seen.authorization().is_some()))
        .answer(Fault::Redirect(to));
    registry_origin
        .when(Seen::manifests())
        .answer(Fault::Challenge("Basic realm=\"x\"".into()));
    let ask = || with(tag("latest"), "Basic Y2Fyb2w6c2VjcmV0");

    // A private address that nobody named is refused.
    let closed = upstream(registry(&[&registry_origin]));
    let error = closed.ask(ask()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Refused { .. }), "{error:?}");
    assert_eq!(store.count(Seen::any()), 0);

    let open = upstream(RegistryConfig {
        allowed_hosts: vec![store.addr().to_string()],
        ..registry(&[&registry_origin])
    });
    assert_eq!(text(open.ask(ask()).await).await, "from the store");
    assert_eq!(store.seen(Seen::any())[0].authorization(), None);
}

#[tokio::test]
async fn an_expired_presigned_url_is_asked_for_again() {
    let (registry_origin, store) = (origin("m").await, Origin::start().await);
    store.serve_at("/fresh", &b"bytes"[..]);
    store
        .when(Seen::path("/stale"))
        .answer(Fault::Reply(Reply::new(403)));
    let url = |path: &str| Fault::Redirect(format!("{}{path}", store.url()));
    registry_origin
        .when(Seen::manifests())
        .once()
        .answer(url("/stale"));
    registry_origin
        .when(Seen::manifests())
        .answer(url("/fresh"));
    let upstream = upstream(RegistryConfig {
        allowed_hosts: vec![store.addr().to_string()],
        ..registry(&[&registry_origin])
    });
    assert_eq!(text(upstream.ask(tag("latest")).await).await, "bytes");

    // A store that keeps refusing says nothing about rights.
    registry_origin.behave();
    registry_origin
        .when(Seen::manifests())
        .answer(url("/stale"));
    let error = upstream.ask(tag("latest")).await.unwrap_err();
    assert!(
        matches!(error, UpstreamError::Status(s) if s == 403),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_error_s_text_that_never_comes_is_not_waited_for() {
    let origin = origin("m").await;
    let missing = Fault::Reply(Reply::new(404).body("{}"));
    origin
        .when(Seen::any())
        .answer_all([missing, Fault::StallAt(1)]);
    let error = upstream(registry(&[&origin])).ask(tag("latest")).await;
    let error = error.unwrap_err();
    assert!(matches!(error, UpstreamError::NotFound { .. }), "{error:?}");
}
