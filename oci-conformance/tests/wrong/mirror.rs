//! A small pull-through mirror that can be wrong in one way.
//!
//! Without a flaw it does what the checks of auth, proxying, push and management ask: it asks
//! upstream about every request, with the client's credential or an anonymous token, and keeps bytes
//! by digest. It is no example of a good mirror: nothing is streamed and nothing ever forgotten.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oci_conformance::client::{Challenge, Client, Request, Response, Site, challenges};
use oci_conformance::origin::sha256;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::flaw::Flaw;
use crate::wire::{Asked, Reply, serve};

/// What it stands between.
pub struct Setting {
    pub first: SocketAddr,
    pub second: SocketAddr,
    pub names: [&'static str; 2],
    pub read_only: bool,
}

pub struct Mirror {
    pub(crate) flaw: Option<Flaw>,
    pub(crate) addr: SocketAddr,
    pub(crate) setting: Setting,
    pub(crate) bytes: Mutex<HashMap<String, Vec<u8>>>,
    /// What each path of a registry was last.
    known: Mutex<HashMap<String, (String, String)>>,
    tokens: tokio::sync::Mutex<HashMap<String, (String, Instant)>>,
    seen_credential: Mutex<Option<String>>,
    gone: Mutex<HashSet<String>>,
}

pub(crate) const VIA: &str = "1.1 wrong-mirror";

/// A request after its registry is known.
pub(crate) struct Meant<'a> {
    pub(crate) asked: &'a Asked,
    pub(crate) upstream: Client,
    pub(crate) registry: String,
    pub(crate) path: String,
    /// Without `ns`.
    pub(crate) query: String,
}

impl Mirror {
    pub async fn start(setting: Setting, flaw: Option<Flaw>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mirror = Arc::new(Self {
            flaw,
            addr: listener.local_addr().unwrap(),
            setting,
            bytes: Mutex::default(),
            known: Mutex::default(),
            tokens: tokio::sync::Mutex::default(),
            seen_credential: Mutex::default(),
            gone: Mutex::default(),
        });
        let own = mirror.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(own.clone(), stream));
            }
        });
        mirror
    }

    pub(crate) fn is(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(crate) async fn answer(&self, asked: &Asked) -> Reply {
        let own = asked.header("via").is_some_and(|via| via.contains(VIA));
        if own && !self.is(Flaw::NoVia) {
            return Reply::error(508, "UNSUPPORTED");
        }
        let meant = match self.meant(asked) {
            Ok(meant) => meant,
            Err(reply) => return reply,
        };
        let mut reply = match asked.method.as_str() {
            _ if meant.path == "/v2/" => Reply::new(200).body(b"{}".to_vec()),
            "GET" | "HEAD" if !meant.path.contains("/blobs/uploads/") => self.read(&meant).await,
            "PUT" if self.is(Flaw::ForbidsPuts) => Reply::error(403, "DENIED"),
            "DELETE" if self.is(Flaw::BreaksOnDeletes) => Reply::error(500, "UNSUPPORTED"),
            _ if self.setting.read_only => {
                Reply::error(405, "UNSUPPORTED").header("Allow", "GET, HEAD")
            }
            _ => self.write(&meant).await,
        };
        if let Some(ns) = asked
            .parameter("ns")
            .filter(|_| !self.is(Flaw::NeverConfirms))
        {
            reply = reply.header("OCI-Namespace", &ns);
        }
        reply
    }

    /// Which registry is meant, and where in it.
    fn meant<'a>(&self, asked: &'a Asked) -> Result<Meant<'a>, Reply> {
        let mut path = asked.path.clone();
        if self.is(Flaw::DecodesPath) {
            path = path
                .replace("%2F", "/")
                .replace("%2f", "/")
                .replace("//", "/");
        }
        let odd = |part: &str| matches!(part, "" | "." | "..");
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let last = parts.len().saturating_sub(1);
        let upload = path.ends_with("/blobs/uploads/");
        let odd = parts
            .iter()
            .enumerate()
            .any(|(at, part)| odd(part) && !(at == last && (upload || path == "/v2/")));
        if odd || path.contains(['%', '\\', '\0', ';']) || !path.starts_with("/v2/") {
            return Err(Reply::error(400, "NAME_INVALID"));
        }
        let named = asked.namespaces();
        let name = match named.as_slice() {
            [] => "docker.io".to_owned(),
            [name] => name.clone(),
            [name, ..] if self.is(Flaw::LenientNs) => name.clone(),
            _ => return Err(Reply::error(400, "NAME_INVALID")),
        };
        let mut registry = name.to_ascii_lowercase();
        if !self.is(Flaw::OneHubName) {
            registry = registry.trim_end_matches(":443").to_owned();
            if matches!(
                registry.as_str(),
                "index.docker.io" | "registry-1.docker.io"
            ) {
                registry = "docker.io".to_owned();
            }
        }
        if self.is(Flaw::LenientNs) {
            let end = registry.find(['/', '@', '?', '#', '\r', ' ', '\0']);
            registry.truncate(end.unwrap_or(registry.len()));
        }
        let [one, two] = self.setting.names;
        let at = match registry.as_str() {
            name if name == one || name == "docker.io" => Site::loopback(self.setting.first),
            name if name == two => Site::loopback(self.setting.second),
            name if self.is(Flaw::DialsNs) => Site::parse(name).unwrap(),
            _ => return Err(Reply::error(404, "NAME_UNKNOWN")),
        };
        let bare = path.trim_start_matches("/v2/").matches('/').count() == 2;
        if self.is(Flaw::LibraryForManifests) && registry == "docker.io" && bare {
            path = match path.contains("/manifests/") {
                true => path.replacen("/v2/", "/v2/library/", 1),
                false => path,
            };
        }
        if self.is(Flaw::MixesRegistries) {
            registry = "any".to_owned();
        }
        Ok(Meant {
            asked,
            upstream: Client::new(at),
            registry,
            path,
            query: match self.is(Flaw::PassesNs) {
                true => asked.query.clone(),
                false => asked.query_without_ns(),
            },
        })
    }

    async fn read(&self, meant: &Meant<'_>) -> Reply {
        let place = format!("{} {}", meant.registry, meant.path);
        let known = self.known.lock().unwrap().get(&place).cloned();
        let credential = meant.asked.header("authorization");
        let unasked = self.is(Flaw::ServesUnasked) || self.is(Flaw::MixesRegistries);
        let unasked = unasked
            || (self.is(Flaw::HeadIsOpen) && meant.asked.method == "HEAD")
            || (self.is(Flaw::AnyCredential) && credential.is_some());
        if let Some((digest, kind)) = known.clone().filter(|_| unasked) {
            return self.held(&digest, &kind, meant);
        }
        let list = meant.path.contains("/tags/") || meant.path.contains("/referrers/");
        let head = self.ask(meant, if list { "GET" } else { "HEAD" }).await;
        let failed = matches!(head.status, 429 | 500..=599);
        if let Some((digest, kind)) = known.filter(|_| failed && self.is(Flaw::FailsOpen)) {
            return self.held(&digest, &kind, meant);
        }
        if head.status == 404 {
            self.gone.lock().unwrap().insert(place.clone());
        }
        if self.is(Flaw::RemembersAbsence) && self.gone.lock().unwrap().contains(&place) {
            return Reply::error(404, "NAME_UNKNOWN");
        }
        if list || !matches!(head.status, 200 | 307) {
            return self.relay(meant, head);
        }
        let said = head.header("docker-content-digest").map(str::to_owned);
        let kind = head.header("content-type").unwrap_or_default().to_owned();
        if let Some(digest) = said {
            let there = self.bytes.lock().unwrap().contains_key(&digest);
            if there {
                self.known
                    .lock()
                    .unwrap()
                    .insert(place, (digest.clone(), kind.clone()));
                return self.held(&digest, &kind, meant);
            }
        }
        let got = self.ask(meant, "GET").await;
        if got.status != 200 {
            return self.relay(meant, got);
        }
        let (digest, body) = (sha256(&got.body), got.body);
        self.bytes.lock().unwrap().insert(digest.clone(), body);
        self.known
            .lock()
            .unwrap()
            .insert(place, (digest.clone(), kind.clone()));
        self.held(&digest, &kind, meant)
    }

    fn held(&self, digest: &str, kind: &str, meant: &Meant<'_>) -> Reply {
        let body = self.bytes.lock().unwrap().get(digest).cloned();
        let reply = Reply::new(200)
            .header("Content-Type", kind)
            .header("Docker-Content-Digest", digest);
        let reply = reply.body(body.unwrap_or_default());
        if self.is(Flaw::BelievesHost) && meant.path.contains("/tags/") {
            let host = meant.asked.header("x-forwarded-host").unwrap_or_default();
            return reply.header("Link", &format!("<http://{host}/>; rel=next"));
        }
        reply
    }

    /// Asks upstream, with the client's credential or an anonymous token.
    pub(crate) async fn ask(&self, meant: &Meant<'_>, method: &str) -> Response {
        let given = meant.asked.header("authorization").map(str::to_owned);
        let mut given =
            given.filter(|given| !(self.is(Flaw::DropsBasic) && given.starts_with("Basic")));
        if self.is(Flaw::UsesAnyToken) {
            let mut last = self.seen_credential.lock().unwrap();
            match &given {
                Some(given) if !given.contains("garbage") => *last = Some(given.clone()),
                _ => given = last.clone(),
            }
        }
        let first = self.send(meant, method, given.as_deref()).await;
        if first.status != 401 || given.is_some() {
            return first;
        }
        let mut refused = first;
        for _ in 0..2 {
            let Some(challenge) = self.bearer(&refused) else {
                return refused;
            };
            let Some(token) = self.token(meant, &challenge).await else {
                return refused;
            };
            let answer = self.send(meant, method, Some(&token)).await;
            let tries = if self.is(Flaw::RetriesForbidden) {
                3
            } else {
                0
            };
            for _ in 0..tries {
                if answer.status == 403 {
                    self.send(meant, method, Some(&token)).await;
                }
            }
            if answer.status != 401 {
                return answer;
            }
            let kept = self.is(Flaw::KeepsRejectedTokens);
            let mut tokens = self.tokens.lock().await;
            tokens.retain(|_, (known, _)| kept || *known != token);
            drop(tokens);
            if self.is(Flaw::IgnoresScopeErrors) {
                return answer;
            }
            // What it says of our own token is not for the client.
            let told = answer.header("www-authenticate") == refused.header("www-authenticate");
            if told {
                return refused;
            }
            refused = answer;
        }
        refused
    }

    fn bearer(&self, refused: &Response) -> Option<Challenge> {
        let mut all = challenges(refused);
        if self.is(Flaw::FirstChallengeOnly) {
            all.truncate(1);
        }
        all.into_iter()
            .find(|challenge| challenge.scheme == "bearer")
    }

    async fn token(&self, meant: &Meant<'_>, challenge: &Challenge) -> Option<String> {
        let realm = challenge.parameter("realm")?;
        let own = meant.upstream.site().to_string();
        if !realm.starts_with(&format!("{own}/")) && !self.is(Flaw::AnyRealm) {
            return None;
        }
        let mut target = format!("{realm}{}", if realm.contains('?') { '&' } else { '?' });
        if let Some(service) = challenge.parameter("service") {
            target += &format!("service={}&", escaped(service));
        }
        let scope = challenge.parameter("scope").unwrap_or_default();
        let scopes: Vec<&str> = match self.is(Flaw::JoinsScopes) {
            true => vec![scope],
            false => scope.split(' ').filter(|scope| !scope.is_empty()).collect(),
        };
        for scope in scopes {
            target += &format!("scope={}&", escaped(scope));
        }
        let mut tokens = self.tokens.lock().await;
        if let Some((token, until)) = tokens.get(&target)
            && Instant::now() < *until
            && !self.is(Flaw::TokenEachTime)
        {
            return Some(token.clone());
        }
        let mut answer = meant.upstream.request("GET", &target).send().await.ok()?;
        if let Some(place) = answer.header("location").map(str::to_owned)
            && self.is(Flaw::TokenRedirects)
        {
            answer = meant.upstream.request("GET", &place).send().await.ok()?;
        }
        let json = answer.json();
        let second = match self.is(Flaw::TokenFieldOnly) {
            true => None,
            false => json["access_token"].as_str(),
        };
        let token = format!("Bearer {}", json["token"].as_str().or(second)?);
        // Long before its end, so that a test need not wait for that.
        let life = json["expires_in"].as_u64().unwrap_or(60).clamp(60, 3600) / 12;
        let until = Instant::now() + Duration::from_secs(life);
        tokens.insert(target, (token.clone(), until));
        Some(token)
    }

    async fn send(&self, meant: &Meant<'_>, method: &str, credential: Option<&str>) -> Response {
        let query = match meant.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let target = format!("{}{query}", meant.path);
        let with = |mut request: Request| {
            for (name, value) in &meant.asked.headers {
                let kept = ["accept", "content-type", "content-range"].contains(&name.as_str());
                let host = name == "x-forwarded-host" && self.is(Flaw::BelievesHost);
                if kept || host {
                    request = request.header(name, value);
                }
            }
            if !self.is(Flaw::NoVia) {
                request = request.header("Via", VIA);
            }
            match method {
                "GET" | "HEAD" => request,
                _ if self.is(Flaw::LosesPostBody) && method == "POST" => request,
                _ => request.body(meant.asked.body.clone()),
            }
        };
        let mut request = with(meant.upstream.request(method, &target));
        if let Some(credential) = credential {
            request = request.header("Authorization", credential);
        }
        let failed = || unreachable(502);
        let answer = request.send().await.unwrap_or_else(|_| failed());
        let place = answer.header("location").map(str::to_owned);
        let Some(place) = place.filter(|_| answer.status == 307) else {
            return answer;
        };
        let mut request = with(meant.upstream.request(method, &place));
        if let Some(credential) = credential.filter(|_| self.is(Flaw::CredentialsFollow)) {
            request = request.header("Authorization", credential);
        }
        request.send().await.unwrap_or_else(|_| failed())
    }

    /// Upstream's answer, as far as it is the client's.
    pub(crate) fn relay(&self, meant: &Meant<'_>, answer: Response) -> Reply {
        let status = if answer.status >= 500 {
            502
        } else {
            answer.status
        };
        let mut reply = Reply::new(status);
        for (name, value) in &answer.headers {
            let dropped = (name == "oci-subject" && self.is(Flaw::DropsSubject))
                || (name == "oci-tag" && self.is(Flaw::DropsTags));
            let oci = name.starts_with("oci-") && !dropped && !self.is(Flaw::DropsOciHeaders);
            let digest = name == "docker-content-digest" && !self.is(Flaw::NoDigest);
            let range = name == "range" && !self.is(Flaw::NoRange);
            let told = ["content-type", "www-authenticate", "allow"].contains(&name.as_str());
            if !(oci || digest || range || told) {
                continue;
            }
            let value = match self.is(Flaw::ChangesRealm) {
                true => value.replace("/token", "/other"),
                false => value.clone(),
            };
            reply = reply.header(name, &value);
        }
        if self.is(Flaw::BelievesHost)
            && let Some(host) = meant.asked.header("x-forwarded-host")
        {
            reply = reply.header("Link", &format!("<http://{host}/>; rel=next"));
        }
        match status {
            502 => Reply::error(502, "UNSUPPORTED"),
            _ => reply.body(answer.body),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25")
        .replace(' ', "%20")
        .replace('"', "%22")
        .replace('&', "%26")
}

fn unreachable(status: u16) -> Response {
    let json = Value::Null.to_string();
    Response {
        status,
        headers: Vec::new(),
        body: json.into_bytes(),
        ending: oci_conformance::client::Ending::Complete,
    }
}
