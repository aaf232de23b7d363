//! Who may read and write what: Basic authentication, or Bearer tokens with a token server.
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

/// The repositories that a token was given for.
#[derive(Default)]
struct Given {
    pull: Vec<String>,
    push: Vec<String>,
}

#[derive(Default)]
pub(super) struct Guard {
    scheme: Scheme,
    pub(super) realm: String,
    pub(super) answer: TokenAnswer,
    passwords: HashMap<String, String>,
    /// Readers of each private repository; any other repository is public.
    private: HashMap<String, HashSet<String>>,
    /// Who may write to a repository, where not everybody with a name who may read it.
    writers: HashMap<String, HashSet<String>>,
    /// Each token's owner, and what it was given for.
    tokens: HashMap<String, (String, Given)>,
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

    pub(super) fn writer(&mut self, repository: &str, user: &str, password: &str) {
        self.passwords.insert(user.to_owned(), password.to_owned());
        let writers = self.writers.entry(repository.to_owned()).or_default();
        writers.insert(user.to_owned());
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
            // A storage host asks for the signature in the query instead.
            _ if matches!(seen.kind, Kind::Other | Kind::Storage(_)) => None,
            Scheme::Basic => self.refuses_basic(seen, ping),
            Scheme::Bearer => self.refuses_bearer(seen, ping),
        }
    }

    fn refuses_basic(&self, seen: &Seen, ping: bool) -> Option<Reply> {
        let sent = seen.authorization();
        let user = sent.and_then(|value| self.basic_user(value));
        let challenge = || Some(refusal(r#"Basic realm="test origin",service="test""#));
        if writes(seen) {
            return match user {
                Some(user) if self.may_write(&user, &seen.repository) => None,
                Some(_) => Some(denial()),
                None => challenge(),
            };
        }
        let open = !ping && !self.private.contains_key(&seen.repository);
        let reads = user.is_some_and(|user| ping || self.may_read(&user, &seen.repository));
        if open || reads { None } else { challenge() }
    }

    fn refuses_bearer(&self, seen: &Seen, ping: bool) -> Option<Reply> {
        let sent = seen.authorization();
        let token = sent.and_then(|value| value.strip_prefix("Bearer "));
        let known = token.map(|token| self.tokens.get(token));
        let repository = &seen.repository;
        let fault = match known {
            None => "",
            Some(None) => r#",error="invalid_token""#,
            Some(Some(_)) if ping => return None,
            Some(Some((user, given))) => {
                let may = match writes(seen) {
                    true => given.push.contains(repository) && self.may_write(user, repository),
                    false => given.pull.contains(repository) && self.may_read(user, repository),
                };
                if may {
                    return None;
                }
                r#",error="insufficient_scope""#
            }
        };
        let scope = match (ping, writes(seen)) {
            (true, _) => String::new(),
            (false, false) => format!(r#",scope="repository:{repository}:pull""#),
            (false, true) => format!(r#",scope="repository:{repository}:pull,push""#),
        };
        Some(refusal(&format!(
            r#"Bearer realm="{}",service="test"{scope}{fault}"#,
            self.realm
        )))
    }

    /// Whether the client may read the repository that it wants to mount from.
    pub(super) fn may_mount(&self, seen: &Seen) -> bool {
        let Some(from) = seen.parameter("from") else {
            return self.scheme == Scheme::Open;
        };
        let sent = seen.authorization().unwrap_or_default();
        match self.scheme {
            Scheme::Open => true,
            Scheme::Basic => {
                let user = self.basic_user(sent).unwrap_or_default();
                self.may_read(&user, &from)
            }
            Scheme::Bearer => {
                let token = sent.strip_prefix("Bearer ").unwrap_or_default();
                let known = self.tokens.get(token);
                known.is_some_and(|(user, given)| {
                    given.pull.contains(&from) && self.may_read(user, &from)
                })
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
        let mut given = Given::default();
        for (name, actions) in repositories {
            let wants = |action| actions.split(',').any(|wanted| wanted == action);
            if wants("pull") && self.may_read(&user, name) {
                given.pull.push(name.to_owned());
            }
            if wants("push") && self.may_write(&user, name) {
                given.push.push(name.to_owned());
            }
        }
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

    /// Writing takes a name.
    fn may_write(&self, user: &str, repository: &str) -> bool {
        let writers = self.writers.get(repository);
        !user.is_empty()
            && self.may_read(user, repository)
            && writers.is_none_or(|writers| writers.contains(user))
    }
}

fn writes(seen: &Seen) -> bool {
    !matches!(seen.method.as_str(), "GET" | "HEAD") || matches!(seen.kind, Kind::Upload(_))
}

fn denial() -> Reply {
    let body = r#"{"errors":[{"code":"DENIED","message":"no right to write here"}]}"#;
    Reply::new(403)
        .header("Content-Type", "application/json")
        .body(body)
}

fn refusal(challenge: &str) -> Reply {
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    Reply::new(401)
        .header("WWW-Authenticate", challenge)
        .header("Content-Type", "application/json")
        .body(body)
}
