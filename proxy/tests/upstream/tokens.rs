//! The token protocol: anonymous tokens of our own, challenges, the client's own credential.

use std::sync::Arc;

use http::{Method, StatusCode};
use oci_conformance::origin::{Kind, Reply, TokenAnswer, TokenField};
use oci_conformance::{Ask as Seen, Fault, Origin};
use proxy::upstream::{Identity, UpstreamError, What};
use swarm::FetchRange;

use super::rig::{REPOSITORY, ask, fetch, registry, tag, text, upstream, with};

async fn origin() -> Origin {
    let origin = open_origin().await;
    origin.behave();
    origin.require_tokens();
    origin
}

/// One that asks for nothing: its challenges are the test's.
async fn open_origin() -> Origin {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    origin
        .when(Seen::token())
        .answer(Fault::Reply(Reply::new(200).body(r#"{"token":"t"}"#)));
    origin
}

/// A client's own way to a token.
fn token_of(origin: &Origin) -> String {
    let seen = origin.seen(Seen::manifests());
    let last = seen.last().and_then(|seen| seen.authorization());
    last.expect("a request with a token").to_owned()
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_and_sent_ahead() {
    let origin = origin().await;
    let upstream = upstream(registry(&[&origin]));
    let answer = upstream.ask(tag("latest")).await.unwrap();
    assert_eq!(answer.identity, Identity::Anonymous);
    assert!(answer.anonymous);
    assert_eq!(origin.count(Seen::manifests()), 2);
    for _ in 0..5 {
        upstream.ask(tag("latest")).await.unwrap();
    }
    assert_eq!(origin.count(Seen::token()), 1);
    assert_eq!(origin.count(Seen::manifests()), 7);
    let asked = &origin.seen(Seen::token())[0];
    let scope = format!("repository:{REPOSITORY}:pull");
    assert_eq!(asked.parameter("scope").as_deref(), Some(scope.as_str()));
}

#[tokio::test]
async fn fifty_at_once_cost_one_token() {
    let origin = origin().await;
    let upstream = upstream(registry(&[&origin]));
    upstream.ask(tag("latest")).await.unwrap();
    origin.expire_tokens();
    origin.forget_requests();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let upstream = Arc::clone(&upstream);
        tasks.spawn(async move { upstream.ask(tag("latest")).await.map(drop) });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(origin.count(Seen::token()), 1);
}

#[tokio::test]
async fn either_field_and_any_lifetime() {
    for field in [TokenField::Both, TokenField::Token, TokenField::AccessToken] {
        for expires_in in [None, Some(0), Some(30), Some(300)] {
            let origin = origin().await;
            origin.answer_tokens(TokenAnswer {
                field,
                expires_in,
                ..TokenAnswer::default()
            });
            let upstream = upstream(registry(&[&origin]));
            upstream.ask(tag("latest")).await.unwrap();
            upstream.ask(tag("latest")).await.unwrap();
            // Even "30 seconds" is raised to the protocol's minimum of 60.
            assert_eq!(origin.count(Seen::token()), 1, "{expires_in:?}");
        }
    }
}

#[tokio::test]
async fn a_private_repository_is_denied_with_upstream_s_own_challenge() {
    let origin = origin().await;
    origin.private(REPOSITORY, "carol", "secret");
    let upstream = upstream(registry(&[&origin]));
    let first = upstream.ask(tag("latest")).await.unwrap_err();
    // The second one was asked with a token ahead; the client must not see what that brought.
    let second = upstream.ask(tag("latest")).await.unwrap_err();
    for error in [first, second] {
        let UpstreamError::Denied {
            status, challenge, ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(challenge.len(), 1);
        let line = challenge[0].to_str().unwrap();
        let realm = format!("Bearer realm=\"{}/token\"", origin.url());
        assert!(line.starts_with(&realm), "{line}");
        assert!(
            line.contains(&format!("scope=\"repository:{REPOSITORY}:pull\"")),
            "{line}"
        );
        assert!(!line.contains("error="), "{line}");
    }
}

#[tokio::test]
async fn the_client_s_own_credential_opens_what_nobody_s_does_not() {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    origin.require_basic();
    origin.private(REPOSITORY, "carol", "secret");
    let upstream = upstream(registry(&[&origin]));
    let basic = "Basic Y2Fyb2w6c2VjcmV0";
    let answer = upstream.ask(with(tag("latest"), basic)).await.unwrap();
    assert_eq!(answer.identity, Identity::Client);
    assert!(!answer.anonymous);
    origin.forget_requests();
    // What is known to be closed to nobody is not tried again for every request.
    upstream.ask(with(tag("latest"), basic)).await.unwrap();
    assert_eq!(origin.count(Seen::manifests()), 1);
    // And one client's credential is not another's.
    let nobody = upstream.ask(tag("latest")).await.unwrap_err();
    assert!(matches!(nobody, UpstreamError::Denied { .. }));
    let wrong = upstream
        .ask(with(tag("latest"), "Basic eDp5"))
        .await
        .unwrap_err();
    assert!(matches!(wrong, UpstreamError::Denied { .. }));
}

#[tokio::test]
async fn a_public_repository_never_sees_the_client_s_credential() {
    let origin = origin().await;
    let upstream = upstream(registry(&[&origin]));
    let answer = upstream
        .ask(with(tag("latest"), "Bearer of-the-client"))
        .await
        .unwrap();
    assert!(answer.anonymous);
    let token = token_of(&origin);
    assert_ne!(token, "Bearer of-the-client");
}

#[tokio::test]
async fn one_new_token_for_a_rejected_one_and_then_the_error() {
    let origin = origin().await;
    let upstream = upstream(registry(&[&origin]));
    upstream.ask(tag("latest")).await.unwrap();
    origin.forget_requests();
    let insufficient = format!(
        "Bearer realm=\"{}/token\",service=\"x\",scope=\"repository:{REPOSITORY}:pull\",error=\"insufficient_scope\"",
        origin.url()
    );
    origin
        .when(Seen::manifests())
        .answer(Fault::Challenge(insufficient));
    let error = upstream.ask(tag("latest")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Denied { .. }), "{error:?}");
    assert_eq!(origin.count(Seen::token()), 1);
    assert_eq!(origin.count(Seen::manifests()), 2);
}

#[tokio::test]
async fn forbidden_is_not_retried() {
    let origin = open_origin().await;
    let upstream = upstream(registry(&[&origin]));
    origin.when(Seen::manifests()).answer(Fault::Status(403));
    let error = upstream.ask(tag("latest")).await.unwrap_err();
    assert!(
        matches!(
            error,
            UpstreamError::Denied {
                status: StatusCode::FORBIDDEN,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(origin.count(Seen::manifests()), 1);
    assert_eq!(origin.count(Seen::token()), 0);
}

#[tokio::test]
async fn a_foreign_realm_is_not_asked() {
    let origin = origin().await;
    for realm in [
        "https://evil.test/token",
        "http://127.0.0.2:1/token",
        "http://169.254.169.254/latest",
        "gopher://127.0.0.1/token",
        "/token",
    ] {
        origin.set_realm(realm);
        let upstream = upstream(registry(&[&origin]));
        let error = upstream.ask(tag("latest")).await.unwrap_err();
        assert!(
            matches!(error, UpstreamError::Denied { .. }),
            "{realm}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_token_server_that_redirects_to_a_foreign_host_is_not_followed() {
    let origin = origin().await;
    let other = Origin::start().await;
    let foreign = other.url().replace("127.0.0.1", "localhost");
    let elsewhere = Fault::Redirect(format!("{foreign}/token"));
    origin.when(Seen::token()).answer(elsewhere);
    let upstream = upstream(registry(&[&origin]));
    let error = upstream.ask(tag("latest")).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Denied { .. }), "{error:?}");
    assert_eq!(other.count(Seen::any()), 0);
}

#[tokio::test]
async fn the_bare_scope_of_public_ecr() {
    let origin = open_origin().await;
    let challenge = format!(
        "Bearer realm=\"{}/token\",service=\"public.ecr.aws\",scope=\"aws\"",
        origin.url()
    );
    origin
        .when(Seen::manifests())
        .once()
        .answer(Fault::Challenge(challenge));
    origin
        .when(Seen::manifests())
        .answer(Fault::Reply(Reply::new(200).body("m")));
    let upstream = upstream(registry(&[&origin]));
    assert_eq!(text(upstream.ask(tag("latest")).await).await, "m");
    assert_eq!(text(upstream.ask(tag("latest")).await).await, "m");
    let tokens = origin.seen(Seen::token());
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].parameter("scope").as_deref(), Some("aws"));
}

#[tokio::test]
async fn a_401_without_a_challenge_is_answered_with_the_ping_s() {
    let origin = open_origin().await;
    let bare = Seen::any().and(|seen| seen.authorization().is_none());
    let challenge = format!("Bearer realm={}/token,service=gcr.io", origin.url());
    origin
        .when(Seen::kind(Kind::Ping))
        .answer(Fault::Challenge(challenge));
    origin
        .when(bare.and(|seen| seen.path != "/token"))
        .answer(Fault::Status(401));
    let upstream = upstream(registry(&[&origin]));
    upstream.ask(tag("latest")).await.unwrap();
    assert_eq!(origin.count(Seen::token()), 1);
    let service = origin.seen(Seen::token())[0].parameter("service");
    assert_eq!(service.as_deref(), Some("gcr.io"));
}

#[tokio::test]
async fn a_head_that_is_refused_is_asked_as_a_get() {
    let origin = Origin::start().await;
    let digest = origin.push_blob(REPOSITORY, &b"0123456789"[..]);
    origin.push_manifest(REPOSITORY, Some("latest"), "application/json", &b"{}"[..]);
    origin.when(Seen::any().head()).answer(Fault::Status(405));
    let upstream = upstream(registry(&[&origin]));
    let blob = ask(Method::HEAD, What::Blob(digest.parse().unwrap()));
    let head = upstream.ask(blob).await.unwrap();
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.headers["content-length"], "10");
    assert!(head.headers.get("content-range").is_none());
    assert_eq!(origin.body_bytes(Seen::blobs()), 1);
    let mut manifest = tag("latest");
    manifest.method = Method::HEAD;
    let head = upstream.ask(manifest).await.unwrap();
    assert_eq!(head.headers["content-length"], "2");
    assert_eq!(head.body.length(), Some(0));
}

#[tokio::test]
async fn blobs_come_with_a_token_too() {
    let origin = origin().await;
    let digest = origin.push_blob(REPOSITORY, &b"blob"[..]);
    let upstream = upstream(registry(&[&origin]));
    let got = fetch(&upstream, &digest, FetchRange::Span(1..3))
        .await
        .unwrap();
    assert_eq!(got, (1, 4, b"lo".to_vec()));
}

#[tokio::test]
async fn a_dead_token_is_replaced_even_if_the_challenge_says_basic() {
    let origin = origin().await;
    let upstream = upstream(registry(&[&origin]));
    upstream.ask(tag("latest")).await.unwrap();
    let with_token = Seen::manifests().and(|seen| seen.authorization().is_some());
    let basic = Fault::Challenge("Basic realm=\"harbor\"".into());
    origin.when(with_token).once().answer(basic);
    upstream.ask(tag("latest")).await.unwrap();
    assert_eq!(origin.count(Seen::token()), 2);
}
