//! Who may read what: Basic authentication, or Bearer tokens with a token server.
//!
//! Follows distribution's token protocol. Tokens never end by time; the test ends them.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::fault::Reply;
use super::record::{Kind, Seen, parameters};

/// How the token server words its answers.
#[derive(Clone, Debug, Default)]
pub struct TokenAnswer {
    /// Which field holds the token.
    pub field: TokenField,
    /// `expires_in` in seconds.
    pub expires_in: Option<i64>,
    /// `issued_at`.
    pub issued_at: Option<String>,
    /// What a POST is answered.
    pub post: Post,
}

/// Which field holds the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenField {
    /// Both, equal.
    #[default]
    Both,
    /// `token`
    Token,
    /// `access_token`
    AccessToken,
}

/// What the token server makes of a POST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Post {
    /// Answers it.
    #[default]
    Taken,
    /// Refuses it with this status, as many registries do.
    Refused(u16),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scheme {
    #[default]
    Open,
    Bearer,
    Basic,
}

#[derive(Default)]
pub(super) struct Guard {
    scheme: Scheme,
    pub(super) realm: String,
    pub(super) answer: TokenAnswer,
    passwords: HashMap<String, String>,
    /// Readers of each private repository; any other repository is public.
    private: HashMap<String, HashSet<String>>,
    /// Each token's owner, and the repositories it was given for.
    tokens: HashMap<String, (String, Vec<String>)>,
    issued: usize,
}

impl Guard {
    pub(super) fn require_tokens(&mut self, url: String) {
        self.scheme = Scheme::Bearer;
        self.realm = format!("{url}/token");
    }

    pub(super) fn require_basic(&mut self) {
        self.scheme = Scheme::Basic;
    }

    pub(super) fn private(&mut self, repository: &str, user: &str, password: &str) {
        self.passwords.insert(user.to_owned(), password.to_owned());
        self.private
            .entry(repository.to_owned())
            .or_default()
            .insert(user.to_owned());
    }

    pub(super) fn revoke(&mut self, repository: &str) {
        self.private.insert(repository.to_owned(), HashSet::new());
    }

    pub(super) fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    /// The refusal, if this request is refused.
    pub(super) fn refuses(&self, seen: &Seen) -> Option<Reply> {
        let ping = seen.kind == Kind::Ping;
        match self.scheme {
            Scheme::Open => None,
            _ if seen.kind == Kind::Other => None,
            Scheme::Basic => {
                let open = !ping && !self.private.contains_key(&seen.repository);
                let user = seen
                    .authorization()
                    .and_then(|value| self.basic_user(value));
                let reads = user.is_some_and(|user| ping || self.may_read(&user, &seen.repository));
                (!open && !reads).then(|| refusal(r#"Basic realm="test origin",service="test""#))
            }
            Scheme::Bearer => {
                let token = seen
                    .authorization()
                    .and_then(|value| value.strip_prefix("Bearer "));
                let known = token.map(|token| self.tokens.get(token));
                let fault = match known {
                    None => "",
                    Some(None) => r#",error="invalid_token""#,
                    Some(Some(_)) if ping => return None,
                    Some(Some((user, repositories))) => {
                        let given = repositories.contains(&seen.repository);
                        if given && self.may_read(user, &seen.repository) {
                            return None;
                        }
                        r#",error="insufficient_scope""#
                    }
                };
                let scope = match ping {
                    true => String::new(),
                    false => format!(r#",scope="repository:{}:pull""#, seen.repository),
                };
                Some(refusal(&format!(
                    r#"Bearer realm="{}",service="test"{scope}{fault}"#,
                    self.realm
                )))
            }
        }
    }

    /// The token server.
    pub(super) fn token(&mut self, seen: &Seen) -> Reply {
        let user = match (seen.method.as_str(), self.answer.post) {
            ("POST", Post::Refused(status)) => return Reply::new(status),
            ("POST", Post::Taken) => self.form_user(seen),
            _ => match seen.authorization() {
                None => Some(String::new()),
                Some(value) => self.basic_user(value),
            },
        };
        let Some(user) = user else {
            return refusal(r#"Basic realm="test token server""#);
        };
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        let asked = parameters(if seen.method == "POST" {
            &form
        } else {
            &seen.query
        });
        let asked: Vec<(String, String)> = asked.collect();
        let scopes = asked
            .iter()
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' '));
        let repositories =
            scopes.filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'));
        let given: Vec<String> = repositories
            .filter(|(name, actions)| {
                actions.split(',').any(|a| a == "pull") && self.may_read(&user, name)
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        self.issued += 1;
        let owner = if user.is_empty() { "anonymous" } else { &user };
        let token = format!("token-{}-{owner}", self.issued);
        self.tokens.insert(token.clone(), (user.clone(), given));
        let offline = asked
            .iter()
            .any(|(key, value)| key == "offline_token" || value == "offline");
        self.word(
            &token,
            (offline && !user.is_empty()).then(|| format!("refresh-{user}")),
        )
    }

    fn word(&self, token: &str, refresh: Option<String>) -> Reply {
        let mut body = serde_json::Map::new();
        let mut put = |key: &str, value: serde_json::Value| body.insert(key.to_owned(), value);
        if self.answer.field != TokenField::AccessToken {
            put("token", json!(token));
        }
        if self.answer.field != TokenField::Token {
            put("access_token", json!(token));
        }
        if let Some(seconds) = self.answer.expires_in {
            put("expires_in", json!(seconds));
        }
        if let Some(time) = &self.answer.issued_at {
            put("issued_at", json!(time));
        }
        if let Some(refresh) = refresh {
            put("refresh_token", json!(refresh));
        }
        let body = serde_json::Value::Object(body).to_string();
        Reply::new(200)
            .header("Content-Type", "application/json")
            .body(body)
    }

    fn form_user(&self, seen: &Seen) -> Option<String> {
        let form = String::from_utf8_lossy(&seen.body).into_owned();
        let form: HashMap<String, String> = parameters(&form).collect();
        match form.get("grant_type")?.as_str() {
            "password" => {
                let user = form.get("username")?;
                (self.passwords.get(user)? == form.get("password")?).then(|| user.clone())
            }
            "refresh_token" => {
                let user = form.get("refresh_token")?.strip_prefix("refresh-")?;
                self.passwords.contains_key(user).then(|| user.to_owned())
            }
            _ => None,
        }
    }

    fn basic_user(&self, value: &str) -> Option<String> {
        let decoded = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        (self.passwords.get(user)? == password).then(|| user.to_owned())
    }

    fn may_read(&self, user: &str, repository: &str) -> bool {
        self.private
            .get(repository)
            .is_none_or(|readers| readers.contains(user))
    }
}

fn refusal(challenge: &str) -> Reply {
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    Reply::new(401)
        .header("WWW-Authenticate", challenge)
        .header("Content-Type", "application/json")
        .body(body)
}
