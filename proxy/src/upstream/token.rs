//! Tokens: fetched from a realm, kept until shortly before they end, one fetch for all who wait.
//!
//! Follows the distribution project's token and OAuth2 pages. A token proves nothing about access:
//! only the registry's answer to it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use oci::client::{Client, Endpoint, Redirects, Request, Response};
use serde::Deserialize;

use super::credential::{CredentialKey, Secret};
use super::error::UpstreamError;
use super::gate;
use super::realm::{Realm, Realms};

/// A token server that says less, or nothing, means this much.
const LIFETIME_MIN: Duration = Duration::from_secs(60);
/// Longest lifetime believed.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// A token is renewed this long before its end, or at nine tenths of its life if that is earlier.
const RENEW_BEFORE: Duration = Duration::from_secs(10);
/// Longest answer of a token server.
const ANSWER_MAX: usize = 1024 * 1024;
/// Tokens kept per endpoint.
const TOKENS_MAX: usize = 1024;
const CLIENT_ID: &str = "darner";

/// What to show a token server, or a registry that wants Basic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// Nothing: an anonymous token.
    Anonymous,
    /// A name and a password.
    Password { username: String, password: Secret },
    /// A refresh token (docker's `identitytoken`).
    Refresh(Secret),
}

impl Login {
    pub(super) fn key(&self) -> CredentialKey {
        match self {
            Self::Anonymous => CredentialKey::ANONYMOUS,
            Self::Password { username, password } => {
                CredentialKey::of(&format!("password\n{username}\n{}", password.expose()))
            }
            Self::Refresh(token) => CredentialKey::of(&format!("refresh\n{}", token.expose())),
        }
    }

    /// `Authorization: Basic`, if there is a password.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self::Password { username, password } = self else {
            return None;
        };
        let pair = format!("{username}:{}", password.expose());
        Secret::new(format!("Basic {}", BASE64.encode(pair))).header()
    }
}

/// For what a token is wanted; equal ones share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: String,
    pub(super) login: CredentialKey,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    renew_at: Instant,
}

type Fetching = BoxFuture<'static, Result<Token, UpstreamError>>;

enum Slot {
    Ready(Token),
    /// Weak, so that a fetch whose waiters have all gone away is dropped.
    Coming(WeakShared<Fetching>),
}

/// The tokens of one endpoint.
pub(super) struct Tokens {
    client: Arc<Client>,
    endpoint: Arc<Endpoint>,
    realms: Arc<Realms>,
    slots: Arc<Mutex<HashMap<Grant, Slot>>>,
}

impl Tokens {
    pub(super) fn new(client: Arc<Client>, endpoint: Arc<Endpoint>, realms: Arc<Realms>) -> Self {
        Self {
            client,
            endpoint,
            realms,
            slots: Arc::default(),
        }
    }

    /// A header with a token for `grant`, and whether it is fresh: kept, or fetched once for all who
    /// ask meanwhile.
    pub(super) async fn get(
        &self,
        grant: &Grant,
        login: &Login,
    ) -> Result<(HeaderValue, bool), UpstreamError> {
        let fetching = {
            let mut slots = self.lock();
            let coming = match slots.get(grant) {
                Some(Slot::Ready(token)) if token.renew_at > Instant::now() => {
                    return Ok((token.header.clone(), false));
                }
                Some(Slot::Coming(weak)) => weak.upgrade(),
                _ => None,
            };
            match coming {
                Some(coming) => coming,
                None => {
                    let fetching = self.fetching(grant, login)?;
                    make_room(&mut slots);
                    if let Some(weak) = fetching.downgrade() {
                        slots.insert(grant.clone(), Slot::Coming(weak));
                    }
                    fetching
                }
            }
        };
        fetching.await.map(|token| (token.header, true))
    }

    /// Drops a token that the registry rejected, unless it has been replaced meanwhile.
    pub(super) fn forget(&self, grant: &Grant, rejected: &HeaderValue) {
        let mut slots = self.lock();
        if let Some(Slot::Ready(token)) = slots.get(grant)
            && token.header == *rejected
        {
            slots.remove(grant);
        }
    }

    fn fetching(&self, grant: &Grant, login: &Login) -> Result<Shared<Fetching>, UpstreamError> {
        let fetch = Fetch {
            realm: self.realms.check(&self.endpoint, &grant.realm)?,
            realms: self.realms.clone(),
            client: self.client.clone(),
            endpoint: self.endpoint.clone(),
            grant: grant.clone(),
            login: login.clone(),
        };
        let slots = self.slots.clone();
        let fetching: Fetching = Box::pin(async move {
            let fetched = fetch.run().await;
            let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
            match &fetched {
                Ok(token) => slots.insert(fetch.grant, Slot::Ready(token.clone())),
                Err(_) => slots.remove(&fetch.grant),
            };
            fetched
        });
        Ok(fetching.shared())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Grant, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(slots: &mut HashMap<Grant, Slot>) {
    if slots.len() < TOKENS_MAX {
        return;
    }
    let now = Instant::now();
    slots.retain(|_, slot| match slot {
        Slot::Ready(token) => token.renew_at > now,
        Slot::Coming(weak) => weak.upgrade().is_some(),
    });
    if slots.len() >= TOKENS_MAX {
        slots.clear();
    }
}

/// One fetch, owning what it needs.
struct Fetch {
    client: Arc<Client>,
    endpoint: Arc<Endpoint>,
    realms: Arc<Realms>,
    realm: Realm,
    grant: Grant,
    login: Login,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl Fetch {
    async fn run(&self) -> Result<Token, UpstreamError> {
        let response = match &self.login {
            Login::Refresh(token) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.expose()),
                ];
                self.post(&form).await?
            }
            Login::Anonymous => self.get().await?,
            Login::Password { username, password } => {
                let response = self.get().await?;
                // A server that only knows the OAuth2 form.
                if matches!(response.status.as_u16(), 404 | 405) {
                    let form = [
                        ("grant_type", "password"),
                        ("username", username),
                        ("password", password.expose()),
                    ];
                    self.post(&form).await?
                } else {
                    response
                }
            }
        };
        self.read(response).await
    }

    async fn get(&self) -> Result<Response, UpstreamError> {
        let mut query = form_urlencoded(&self.parameters());
        if let Login::Password { username, .. } = &self.login {
            query = format!("{query}&{}", form_urlencoded(&[("account", username)]));
        }
        let mut headers = HeaderMap::new();
        if let Some(basic) = self.login.basic() {
            headers.insert(AUTHORIZATION, basic);
        }
        let url = with_query(&self.realm.url, query.trim_matches('&'))?;
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    async fn post(&self, form: &[(&str, &str)]) -> Result<Response, UpstreamError> {
        let mut fields = self.parameters();
        if self.grant.service.is_none() {
            fields.push(("service", ""));
        }
        fields.push(("client_id", CLIENT_ID));
        fields.extend_from_slice(form);
        // The form takes all scopes in one field.
        fields.retain(|(name, _)| *name != "scope");
        fields.push(("scope", &self.grant.scope));
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        let body = form_urlencoded(&fields).into();
        self.send(Method::POST, self.realm.url.clone(), headers, body)
            .await
    }

    fn parameters(&self) -> Vec<(&str, &str)> {
        let mut fields = Vec::new();
        if let Some(service) = &self.grant.service {
            fields.push(("service", service.as_str()));
        }
        fields.extend(self.grant.scope.split_whitespace().map(|s| ("scope", s)));
        fields
    }

    async fn send(
        &self,
        method: Method,
        url: Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, UpstreamError> {
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let passes = |url: &Uri| self.realms.check(&self.endpoint, &url.to_string()).is_ok();
        let request = Request {
            endpoint: &self.endpoint,
            method,
            url,
            headers,
            body,
            also_allowed: self.realm.vouched.clone(),
            redirects: Redirects::Passing(&passes),
        };
        Ok(self.client.send(request).await?)
    }

    async fn read(&self, response: Response) -> Result<Token, UpstreamError> {
        let wrong = |why: &str| UpstreamError::invalid(format!("token server: {why}"));
        match response.status {
            StatusCode::OK | StatusCode::CREATED => {}
            StatusCode::TOO_MANY_REQUESTS => {
                let value = response.headers.get(RETRY_AFTER);
                let value = value.and_then(|value| value.to_str().ok());
                return Err(UpstreamError::Limited {
                    retry_after: value
                        .and_then(|v| gate::retry_after(v, std::time::SystemTime::now())),
                    challenge: Vec::new(),
                });
            }
            status if status.is_client_error() => {
                return Err(UpstreamError::Denied {
                    status,
                    challenge: Vec::new(),
                    body: Bytes::new(),
                });
            }
            status => return Err(UpstreamError::Status(status)),
        }
        let body = response.body.collect(ANSWER_MAX).await?;
        let body = body.ok_or_else(|| wrong("its answer is too long"))?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| wrong("its answer is not JSON"))?;
        let token = [answer.access_token, answer.token]
            .into_iter()
            .flatten()
            .find(|token| !token.expose().is_empty())
            .ok_or_else(|| wrong("its answer holds no token"))?;
        let header = Secret::new(format!("Bearer {}", token.expose())).header();
        Ok(Token {
            header: header.ok_or_else(|| wrong("its token fits no header"))?,
            renew_at: Instant::now() + useful_life(answer.expires_in),
        })
    }
}

/// How long a token is used. `issued_at` is left out: it is the server's clock, not ours.
fn useful_life(expires_in: Option<f64>) -> Duration {
    let said = expires_in.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    let lifetime = said
        .map_or(LIFETIME_MIN, |seconds| {
            Duration::from_secs_f64(seconds.min(LIFETIME_MAX.as_secs_f64()))
        })
        .max(LIFETIME_MIN);
    (lifetime - RENEW_BEFORE).min(lifetime.mul_f64(0.9))
}

fn with_query(url: &Uri, query: &str) -> Result<Uri, UpstreamError> {
    let text = url.to_string();
    let separator = match url.query() {
        None => "?",
        Some("") => "",
        Some(_) => "&",
    };
    let text = if query.is_empty() {
        text
    } else {
        format!("{text}{separator}{query}")
    };
    text.parse()
        .map_err(|_| UpstreamError::invalid("the realm of the challenge is not a URL"))
}

/// `application/x-www-form-urlencoded`, which is also a fine query string.
fn form_urlencoded(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(byte as char);
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes() {
        let life = |seconds: Option<f64>| useful_life(seconds).as_secs();
        assert_eq!(life(None), 50);
        assert_eq!(life(Some(0.0)), 50);
        assert_eq!(life(Some(-1.0)), 50);
        assert_eq!(life(Some(30.0)), 50);
        assert_eq!(life(Some(300.0)), 270);
        assert_eq!(life(Some(f64::INFINITY)), 50);
        assert_eq!(life(Some(1e300)), 77760);
    }

    #[test]
    fn queries() {
        let query = form_urlencoded(&[("service", "a b"), ("scope", "repository:x/y:pull")]);
        assert_eq!(query, "service=a%20b&scope=repository%3Ax%2Fy%3Apull");
        let with = |url: &str| {
            with_query(&url.parse().unwrap(), "a=b")
                .unwrap()
                .to_string()
        };
        assert_eq!(
            with("https://r.example/token"),
            "https://r.example/token?a=b"
        );
        assert_eq!(
            with("https://r.example/token?x=y"),
            "https://r.example/token?x=y&a=b"
        );
    }
}
