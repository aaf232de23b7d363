//! The operator's own accounts.

use oci_conformance::{Ask as Seen, Origin};
use proxy::upstream::{
    AccountConfig, Identity, RegistryConfig, Secret, UpstreamError, Upstreams, UpstreamsConfig,
};

use super::rig::{REPOSITORY, registry, tag, upstream};

fn inline(repositories: &[&str]) -> AccountConfig {
    AccountConfig {
        repositories: repositories.iter().map(|&r| r.to_owned()).collect(),
        username: Some("carol".into()),
        password: Some(Secret::new("secret")),
        ..AccountConfig::default()
    }
}

async fn private_origin() -> Origin {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    origin.private(REPOSITORY, "carol", "secret");
    origin
}

fn with_account(origin: &Origin, account: AccountConfig) -> RegistryConfig {
    RegistryConfig {
        accounts: vec![account],
        ..registry(&[origin])
    }
}

#[tokio::test]
async fn reads_what_its_patterns_cover_and_nothing_else() {
    for tokens in [true, false] {
        let origin = private_origin().await;
        if tokens {
            origin.require_tokens();
        } else {
            origin.require_basic();
        }
        let ours = upstream(with_account(&origin, inline(&["library/*"])));
        let answer = ours.ask(tag("latest")).await.unwrap();
        assert_eq!(answer.identity, Identity::Account);
        ours.ask(tag("latest")).await.unwrap();
        assert_eq!(origin.count(Seen::token()), usize::from(tokens));

        let other = upstream(with_account(&origin, inline(&["team/**"])));
        let error = other.ask(tag("latest")).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Denied { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_still_leaves_what_is_public() {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    origin.require_tokens();
    origin.private("other/app", "carol", "secret");
    let account = AccountConfig {
        password: Some(Secret::new("wrong")),
        ..inline(&["**"])
    };
    let upstream = upstream(with_account(&origin, account));
    let answer = upstream.ask(tag("latest")).await.unwrap();
    assert_eq!(answer.identity, Identity::Anonymous);
}

#[tokio::test]
async fn from_files() {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "secret\n").unwrap();
    let docker_config = folder.path().join("config.json");
    std::fs::write(
        &docker_config,
        r#"{"auths": {"r.test": {"auth": "Y2Fyb2w6c2VjcmV0"}}}"#,
    )
    .unwrap();
    let accounts = [
        AccountConfig {
            password: None,
            password_file: Some(password_file),
            ..inline(&["**"])
        },
        AccountConfig {
            repositories: vec!["**".into()],
            docker_config: Some(docker_config),
            ..AccountConfig::default()
        },
    ];
    for account in accounts {
        let origin = private_origin().await;
        origin.require_tokens();
        let upstream = upstream(with_account(&origin, account));
        let answer = upstream.ask(tag("latest")).await.unwrap();
        assert_eq!(answer.identity, Identity::Account);
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let json = r#"{"auths": {"r.test": {"identitytoken": "refresh-carol"}}}"#;
    std::fs::write(&path, json).unwrap();
    let origin = private_origin().await;
    origin.require_tokens();
    let account = AccountConfig {
        repositories: vec!["**".into()],
        docker_config: Some(path),
        ..AccountConfig::default()
    };
    let upstream = upstream(with_account(&origin, account));
    let answer = upstream.ask(tag("latest")).await.unwrap();
    assert_eq!(answer.identity, Identity::Account);
    let asked = origin.seen(Seen::token());
    assert!(asked.iter().all(|seen| seen.method == "POST"));
}

#[tokio::test]
async fn a_missing_helper_leaves_what_is_public() {
    let origin = Origin::start().await;
    origin.push_image(REPOSITORY, "latest", &[b"layer"]);
    let account = AccountConfig {
        repositories: vec!["**".into()],
        credential_helper: Some("darner-test-has-no-such-helper".into()),
        ..AccountConfig::default()
    };
    let upstream = upstream(with_account(&origin, account));
    let answer = upstream.ask(tag("latest")).await.unwrap();
    assert_eq!(answer.identity, Identity::Anonymous);
}

#[test]
fn unusable_entries_are_refused_with_a_reason() {
    let account = |change: fn(&mut AccountConfig)| {
        let mut account = inline(&["**"]);
        change(&mut account);
        let config = UpstreamsConfig {
            registries: vec![RegistryConfig {
                name: "r.test".into(),
                accounts: vec![account],
                ..RegistryConfig::default()
            }],
            ..UpstreamsConfig::default()
        };
        Upstreams::build(&config).err().map(|e| e.to_string())
    };
    assert_eq!(account(|_| {}), None);
    for change in [
        (|a| a.repositories.clear()) as fn(&mut AccountConfig),
        |a| a.password = None,
        |a| a.password_file = Some("x".into()),
        |a| a.credential_helper = Some("ecr".into()),
        |a| a.username = None,
        |a| {
            a.username = None;
            a.credential_helper = Some("../../bin/sh".into());
        },
    ] {
        let error = account(change).expect("an error");
        assert!(error.starts_with("registry r.test: "), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
