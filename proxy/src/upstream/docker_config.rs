//! Docker's `config.json` and its credential helpers, as `docker login` leaves them.
//!
//! Order as docker's: `credHelpers` of the registry, `credsStore`, `auths`. Nothing is cached here.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use oci::Registry;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::account::AccountError;
use super::credential::Secret;
use super::token::Login;

/// Some helpers ask a cloud.
const HELPER_DEADLINE: Duration = Duration::from_secs(10);
/// Longest file or answer.
const TEXT_MAX: u64 = 1024 * 1024;
/// What docker calls Docker Hub in its files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: HashMap<String, AuthEntry>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: HashMap<String, String>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct AuthEntry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

#[derive(Deserialize)]
struct HelperAnswer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: Secret,
}

/// The login for a registry that `config.json` holds or leads to.
pub(super) async fn login(path: &Path, registry: &Registry) -> Result<Login, AccountError> {
    let name = path.display().to_string();
    let text = read(path).await?;
    // The parser's message could quote a secret; its place is enough.
    let config: ConfigJson = serde_json::from_str(&text).map_err(|e| AccountError::Form {
        path: name.clone(),
        why: format!("line {}, column {}", e.line(), e.column()),
    })?;
    let of_registry = |key: &&String| names(key, registry);
    let helper = config
        .cred_helpers
        .keys()
        .find(of_registry)
        .and_then(|key| config.cred_helpers.get(key))
        .or(config.creds_store.as_ref());
    if let Some(helper) = helper {
        if is_helper_name(helper) {
            return ask_helper(helper, registry).await;
        }
        return Err(AccountError::Form {
            path: name,
            why: "a helper's name holds odd characters".into(),
        });
    }
    let key = config.auths.keys().find(of_registry).cloned();
    key.and_then(|key| config.auths.get(&key)?.login())
        .ok_or_else(|| AccountError::Missing {
            path: name,
            registry: registry.to_string(),
        })
}

/// Asks `docker-credential-<helper> get`.
pub(super) async fn ask_helper(helper: &str, registry: &Registry) -> Result<Login, AccountError> {
    let command = Command::new(format!("docker-credential-{helper}"));
    run_helper(command, registry)
        .await
        .map_err(|why| AccountError::Helper {
            helper: helper.to_owned(),
            why,
        })
}

async fn run_helper(mut command: Command, registry: &Registry) -> Result<Login, String> {
    let run = async {
        let mut child = command
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that knows the registry without being told may have closed it: its answer counts.
            drop(stdin.write_all(server_key(registry).as_bytes()).await);
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(TEXT_MAX).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    let (status, answer) = tokio::time::timeout(HELPER_DEADLINE, run)
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("it failed ({status}) for {registry}"));
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&answer).map_err(|_| "its answer is not JSON".to_owned())?;
    Ok(if answer.username == "<token>" {
        Login::Refresh(answer.secret)
    } else {
        Login::Password {
            username: answer.username,
            password: answer.secret,
        }
    })
}

/// Whether a text can be the X of `docker-credential-X` without leading elsewhere.
pub(super) fn is_helper_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty() && text.bytes().all(word)
}

/// A small file's text.
pub(super) async fn read(path: &Path) -> Result<String, AccountError> {
    let failed = |e: std::io::Error| AccountError::File {
        path: path.display().to_string(),
        why: e.to_string(),
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut text = String::new();
    let read = file.take(TEXT_MAX).read_to_string(&mut text).await;
    read.map_err(failed)?;
    Ok(text)
}

impl AuthEntry {
    fn login(&self) -> Option<Login> {
        let filled = |secret: &&Secret| !secret.expose().is_empty();
        if let Some(token) = self.identitytoken.as_ref().filter(filled) {
            return Some(Login::Refresh(token.clone()));
        }
        if let Some(auth) = self.auth.as_ref().filter(filled) {
            let pair = BASE64.decode(auth.expose().trim()).ok()?;
            let pair = String::from_utf8(pair).ok()?;
            let (username, password) = pair.trim_end_matches('\0').split_once(':')?;
            return Some(Login::Password {
                username: username.to_owned(),
                password: Secret::new(password),
            });
        }
        Some(Login::Password {
            username: self.username.clone()?,
            password: self.password.clone()?,
        })
    }
}

/// Whether a key of the file means this registry: a host, or a URL of one.
fn names(key: &str, registry: &Registry) -> bool {
    let host = key.trim_start_matches("https://");
    let host = host.trim_start_matches("http://").trim_end_matches('/');
    let host = host.trim_end_matches("/v1").trim_end_matches("/v2");
    host.parse::<Registry>()
        .is_ok_and(|named| named == *registry)
}

fn server_key(registry: &Registry) -> &str {
    if *registry == Registry::docker_hub() {
        HUB_KEY
    } else {
        registry.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let hub = Registry::docker_hub();
        for key in [
            HUB_KEY,
            "docker.io",
            "index.docker.io",
            "https://registry-1.docker.io/v2/",
        ] {
            assert!(names(key, &hub), "{key}");
        }
        let other: Registry = "r.example:5000".parse().unwrap();
        assert!(names("https://r.example:5000", &other));
        assert!(names("r.example:5000", &other));
        assert!(!names("r.example", &other));
        assert!(!names("r.example:5000/team", &other));
    }

    #[tokio::test]
    async fn config_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "Y2Fyb2w6c2VjOnJldA=="},
            "r.example": {"identitytoken": "refresh"}}, "HttpHeaders": {}}"#;
        std::fs::write(&path, text).unwrap();
        let hub = login(&path, &Registry::docker_hub()).await.unwrap();
        let expected = Login::Password {
            username: "carol".into(),
            password: Secret::new("sec:ret"),
        };
        assert_eq!(hub, expected);
        let other = login(&path, &"r.example".parse().unwrap()).await.unwrap();
        assert_eq!(other, Login::Refresh(Secret::new("refresh")));
        let missing = login(&path, &"x.example".parse().unwrap()).await;
        assert!(matches!(missing, Err(AccountError::Missing { .. })));
    }

    #[tokio::test]
    async fn helpers() {
        // The helper is told docker's name of Docker Hub, and gives it back as the user.
        let script = |text: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", text, "helper"]);
            command
        };
        let echo = r#"read key; printf '{"Username":"%s of %s","Secret":"s"}' "$1" "$key""#;
        let login = run_helper(script(echo), &Registry::docker_hub()).await;
        let expected = Login::Password {
            username: format!("get of {HUB_KEY}"),
            password: Secret::new("s"),
        };
        assert_eq!(login, Ok(expected));
        let token = r#"printf '{"Username":"<token>","Secret":"r"}'"#;
        let login = run_helper(script(token), &Registry::docker_hub()).await;
        assert_eq!(login, Ok(Login::Refresh(Secret::new("r"))));
        for bad in ["echo secret; exit 1", "echo secret"] {
            let why = run_helper(script(bad), &Registry::docker_hub()).await;
            assert!(!why.unwrap_err().contains("secret"));
        }
    }

    #[test]
    fn helper_names() {
        for (name, fits) in [
            ("ecr-login", true),
            ("", false),
            ("../x", false),
            ("a b", false),
        ] {
            assert_eq!(is_helper_name(name), fits, "{name}");
        }
    }
}
