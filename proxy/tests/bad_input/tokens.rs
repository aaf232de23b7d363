//! The node's own tokens, and what it makes of token servers.

use oci_conformance::origin::{Post, Reply, TokenAnswer, TokenField, content};
use oci_conformance::raw;
use oci_conformance::{Ask, Fault, Origin};
use tokio::task::JoinSet;

use crate::rig::{Node, REPOSITORY, is_error, manifest_path, registry};

async fn guarded() -> Origin {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "1", &[b"layer"]);
    origin.require_tokens();
    origin
}

#[tokio::test]
async fn a_public_image_needs_nothing_from_the_client_and_one_token() {
    let origin = guarded().await;
    let node = Node::of(&origin);
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        clients.spawn(raw::get(node.addr, &manifest_path("1")).send());
    }
    for answer in clients.join_all().await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let tokens = origin.seen(Ask::token());
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].authorization(), None);
    assert_eq!(tokens[0].parameter("service").as_deref(), Some("test"));
    let scope = format!("repository:{REPOSITORY}:pull");
    assert_eq!(tokens[0].parameter("scope"), Some(scope));
    node.stop().await;
}

#[tokio::test]
async fn token_answers_of_every_form() {
    for (field, expires_in, issued_at) in [
        (TokenField::Token, None, None),
        (TokenField::AccessToken, Some(0), None),
        (TokenField::Both, Some(30), Some("2001-01-01T00:00:00Z")),
        (TokenField::Token, Some(-5), Some("2999-01-01T00:00:00Z")),
        (TokenField::Token, Some(i64::MAX), Some("not a time")),
    ] {
        println!("{field:?} {expires_in:?} {issued_at:?}");
        let origin = guarded().await;
        origin.answer_tokens(TokenAnswer {
            field,
            expires_in,
            issued_at: issued_at.map(str::to_owned),
            post: Post::Refused(405),
        });
        let node = Node::of(&origin);
        for _ in 0..2 {
            assert_eq!(node.get(&manifest_path("1")).await.status, 200);
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_became_invalid_is_replaced_once() {
    let origin = guarded().await;
    let node = Node::with(vec![registry("docker.io", &[&origin])], |config| {
        config.trust.tag = std::time::Duration::ZERO;
    });
    assert_eq!(node.get(&manifest_path("1")).await.status, 200);
    origin.expire_tokens();
    assert_eq!(node.get(&manifest_path("1")).await.status, 200);
    assert_eq!(origin.count(Ask::token()), 2);
    node.stop().await;
}

#[tokio::test]
async fn token_servers_that_fail_or_lie() {
    let huge = Reply::new(200)
        .header("Content-Type", "application/json")
        .body(content(1, 64 << 20));
    for fault in [
        Fault::Status(500),
        Fault::Status(404),
        Fault::Status(403),
        Fault::Html,
        Fault::HangUp,
        Fault::Redirect("http://169.254.169.254/".to_owned()),
        Fault::Reply(Reply::new(200).body("{}")),
        Fault::Reply(Reply::new(200).body(r#"{"token":"a\r\nX-Evil: 1"}"#)),
        Fault::Reply(Reply::new(200).body(r#"{"token":7}"#)),
        Fault::Reply(huge),
    ] {
        let shown = format!("{fault:?}");
        let shown = &shown[..shown.len().min(60)];
        let origin = guarded().await;
        origin.when(Ask::token()).answer(fault);
        let node = Node::of(&origin);
        let answer = node.get(&manifest_path("1")).await;
        assert!(
            matches!(answer.status, 401 | 403 | 502 | 504),
            "{shown}: {}",
            answer.status
        );
        assert!(!answer.code().is_empty(), "{shown}");
        let tokens = origin.count(Ask::token());
        assert!(tokens <= 4, "{shown}: {tokens} token requests");
        assert!(origin.body_bytes(Ask::token()) < 32 << 20, "{shown}");
        origin.behave();
        assert_eq!(node.get(&manifest_path("1")).await.status, 200, "{shown}");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_realm_elsewhere_gets_nothing() {
    let (origin, stranger) = (guarded().await, Origin::start().await);
    let node = Node::of(&origin);
    let port = stranger.addr().port();
    for realm in [
        format!("http://localhost:{port}/token"),
        "http://169.254.169.254/token".to_owned(),
        "http://10.0.0.1/token".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/token".to_owned(),
        String::new(),
    ] {
        println!("{realm}");
        origin.set_realm(&realm);
        for authorization in ["", "Basic YW5uOnB3"] {
            let answer = match authorization {
                "" => node.get(&manifest_path("1")).await,
                value => node.get_as(&manifest_path("1"), value).await,
            };
            is_error(&answer, 401, "UNAUTHORIZED");
            let told = answer.header("www-authenticate").unwrap();
            assert!(told.contains(&format!("realm=\"{realm}\"")), "{told}");
        }
    }
    assert_eq!(stranger.count(Ask::any()), 0);
    node.stop().await;
}

#[tokio::test]
async fn no_token_and_no_password_in_any_answer() {
    let origin = guarded().await;
    origin.private("team/secret", "ann", "pw");
    origin.push_image("team/secret", "1", &[b"layer"]);
    let node = Node::of(&origin);
    for fault in [
        None,
        Some(Fault::Status(500)),
        Some(Fault::Status(403)),
        Some(Fault::HangUp),
    ] {
        origin.behave();
        if let Some(fault) = fault {
            origin.when(Ask::manifests()).answer(fault);
        }
        let answer = node
            .get_as("/v2/team/secret/manifests/1", "Bearer hidden-hunter2")
            .await;
        assert!(answer.status >= 400);
        let all = format!("{:?} {}", answer.headers, answer.text());
        for secret in ["hunter2", "token-", "127.0.0.1:1"] {
            let realm = origin.url();
            assert!(!all.replace(&realm, "").contains(secret), "{all}");
        }
    }
    node.stop().await;
}
