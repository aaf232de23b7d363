//! Answers to challenges, for registries that are not ours to script.
//!
//! One token for each scope, by GET, as the token protocol of docker-registry has it; Basic where
//! that is asked. A token goes only to the registry that asked for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Client;
use super::wire::{Response, Trouble};

/// A login, or none, and the answers it got.
#[derive(Clone)]
pub(super) struct Account {
    login: Option<(String, String)>,
    known: Arc<Mutex<HashMap<String, String>>>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").finish_non_exhaustive()
    }
}

impl Account {
    pub(super) fn new(login: Option<(String, String)>) -> Self {
        Self {
            login,
            known: Arc::default(),
        }
    }

    /// The `Authorization` that last worked for this repository and kind of access.
    pub(super) fn known(&self, client: &Client, method: &str, target: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&place(client, method, target)).cloned()
    }

    /// The `Authorization` that answers this 401; `None` if it asks nothing that can be answered.
    pub(super) async fn answer(
        &self,
        client: &Client,
        refused: &Response,
    ) -> Result<Option<String>, Trouble> {
        for challenge in refused.headers("www-authenticate") {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("basic") && self.login.is_some() {
                return Ok(self.basic());
            }
            if scheme.eq_ignore_ascii_case("bearer") {
                return self.token(client, &parameters(rest)).await;
            }
        }
        Ok(None)
    }

    fn basic(&self) -> Option<String> {
        let (user, password) = self.login.as_ref()?;
        let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Some(format!("Basic {pair}"))
    }

    async fn token(
        &self,
        client: &Client,
        asked: &HashMap<String, String>,
    ) -> Result<Option<String>, Trouble> {
        let Some(realm) = asked.get("realm") else {
            return Ok(None);
        };
        let scope = asked.get("scope").cloned().unwrap_or_default();
        let key = format!("{} {scope}", client.site());
        let sign = if realm.contains('?') { '&' } else { '?' };
        let mut target = realm.clone();
        target.push(sign);
        for name in ["service", "scope"] {
            if let Some(value) = asked.get(name) {
                target.push_str(&format!("{name}={}&", value.replace(' ', "%20")));
            }
        }
        let mut request = client
            .recording()
            .request("GET", target.trim_end_matches(['&', '?']))
            .plain();
        if let Some(basic) = self.basic() {
            request = request.header("Authorization", &basic);
        }
        let answer = Box::pin(request.send()).await?.json();
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let Some(bearer) = token.map(|token| format!("Bearer {token}")) else {
            return Ok(None);
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, bearer.clone());
        Ok(Some(bearer))
    }
}

fn place(client: &Client, method: &str, target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let path = path.trim_start_matches("/v2/");
    let end = ["/blobs/", "/manifests/", "/tags/", "/referrers/"]
        .iter()
        .filter_map(|part| path.find(part))
        .min();
    let repository = &path[..end.unwrap_or(0)];
    let access = if matches!(method, "GET" | "HEAD") {
        "pull"
    } else {
        "pull,push"
    };
    format!("{} repository:{repository}:{access}", client.site())
}

/// The parameters of a challenge, quoted or not.
fn parameters(text: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name, value.trim().to_owned());
        rest = left;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let read =
            parameters(r#"realm="https://a/token",service=b, scope="repository:c:pull,push""#);
        assert_eq!(read["realm"], "https://a/token");
        assert_eq!(read["service"], "b");
        assert_eq!(read["scope"], "repository:c:pull,push");
    }
}
