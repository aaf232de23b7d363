//! One endpoint of a registry: whose rights are tried there, and what its answers mean.
//!
//! Order: the operator's account where its patterns cover the repository, nobody's, the client's own.
//! Invariant: credentials reach this endpoint only if it may have them (the last one, or trusted),
//! and a client's are never kept.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, VIA};
use http::{HeaderValue, Method, StatusCode};
use oci::Repository;
use oci::client::{Client, ClientError, Endpoint, Redirects, Request, Response};
use quick_cache::sync::Cache;
use swarm::FetchRange;

use super::account::Account;
use super::ask::{Answer, Ask, Identity, What};
use super::auth::{Auth, Proof};
use super::body::Body;
use super::credential::{Credential, CredentialKey, Secret};
use super::error::UpstreamError;
use super::gate::{Gate, Kind};
use super::realm::Realms;
use super::request;
use super::token::{Login, Tokens};

/// Longest error body that is kept for relaying.
const ERROR_BODY_MAX: usize = 64 * 1024;
/// How long it may take.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);
/// For how long a client's credential is used at once where nobody's rights did not suffice.
const CLOSED_TTL: Duration = Duration::from_secs(60);
/// Repositories of which that is remembered.
const CLOSED_MAX: usize = 1024;
/// How many proofs may be rejected before that is the answer.
const PROOFS_MAX: usize = 2;

/// What an endpoint is made of.
pub(super) struct SiteOptions {
    pub(super) index: usize,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) client: Arc<Client>,
    pub(super) realms: Arc<Realms>,
    pub(super) lends_credentials: bool,
    pub(super) blob_head: bool,
    pub(super) via: HeaderValue,
}

/// One endpoint with what was learnt about it.
pub(super) struct Site {
    index: usize,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) client: Arc<Client>,
    lends_credentials: bool,
    blob_head: bool,
    pub(super) via: HeaderValue,
    auth: Auth,
    gate: Gate,
    /// Repositories that nobody's rights could not read, and since when.
    closed: Cache<Repository, Instant>,
    down_until: Mutex<Option<Instant>>,
}

/// With whose rights one try is made.
enum Who<'a> {
    Own(Identity, &'a Login),
    Client(&'a Secret),
}

impl Who<'_> {
    fn identity(&self) -> Identity {
        match self {
            Self::Own(identity, _) => *identity,
            Self::Client(_) => Identity::Client,
        }
    }

    fn key(&self) -> CredentialKey {
        match self {
            Self::Own(_, login) => login.key(),
            Self::Client(secret) => CredentialKey::of(secret.expose()),
        }
    }
}

impl Site {
    pub(super) fn new(options: SiteOptions) -> Self {
        let SiteOptions {
            index,
            endpoint,
            client,
            realms,
            lends_credentials,
            blob_head,
            via,
        } = options;
        Self {
            auth: Auth::new(Tokens::new(client.clone(), endpoint.clone(), realms)),
            gate: Gate::default(),
            closed: Cache::new(CLOSED_MAX),
            down_until: Mutex::default(),
            index,
            endpoint,
            client,
            lends_credentials,
            blob_head,
            via,
        }
    }

    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Whether it could not be reached a moment ago.
    pub(super) fn is_down(&self, now: Instant) -> bool {
        let down = self.down_until.lock();
        let until = *down.unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| now < until)
    }

    /// Notes what an answer says about that; after a failure it counts as down `until` then.
    pub(super) fn note_reached(&self, answer: &Result<Answer, UpstreamError>, until: Instant) {
        let unreached = matches!(
            answer,
            Err(UpstreamError::Unreachable { .. } | UpstreamError::Stalled { .. })
        );
        let mut down = self
            .down_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *down = unreached.then_some(until);
    }

    /// Asks this endpoint. A HEAD that it will not answer is asked as a GET whose body is not read.
    pub(super) async fn ask(
        &self,
        ask: &Ask,
        account: Option<&Account>,
    ) -> Result<Answer, UpstreamError> {
        if ask.method != Method::HEAD {
            return self.ask_with_rights(ask, account).await;
        }
        let blob = matches!(ask.what, What::Blob(_));
        if self.blob_head || !blob {
            match self.ask_with_rights(ask, account).await {
                // 405, or 403 from a blob store whose presigned URL is for GET only.
                Err(UpstreamError::Status(StatusCode::METHOD_NOT_ALLOWED))
                | Err(UpstreamError::Status(StatusCode::FORBIDDEN)) => {}
                answer => return answer,
            }
        }
        let get = Ask {
            method: Method::GET,
            range: blob.then_some(FetchRange::Span(0..1)),
            ..ask.clone()
        };
        self.ask_with_rights(&get, account)
            .await
            .map(request::as_head)
    }

    async fn ask_with_rights(
        &self,
        ask: &Ask,
        account: Option<&Account>,
    ) -> Result<Answer, UpstreamError> {
        let lends = self.lends_credentials && ask.credential != Credential::Nobody;
        if let Some(account) = account.filter(|_| lends)
            && let Ok(login) = account.login().await
        {
            match self.ask_as(ask, Who::Own(Identity::Account, &login)).await {
                Err(UpstreamError::NotFound { body }) => {
                    return Err(UpstreamError::NotFound { body });
                }
                Err(error) if is_about_rights(&error) => {
                    tracing::warn!(
                        endpoint = ?self.endpoint, repository = %ask.repository, %error,
                        "own account was refused"
                    );
                    account.doubt().await;
                }
                answer => return answer,
            }
        }
        let client = match &ask.credential {
            Credential::Client(secret) if self.lends_credentials => Some(secret),
            _ => None,
        };
        if client.is_none() || !self.is_closed(&ask.repository) {
            let nobody = Who::Own(Identity::Anonymous, &Login::Anonymous);
            match (self.ask_as(ask, nobody).await, client) {
                (Err(error), Some(_)) if is_about_rights(&error) => {
                    if matches!(error, UpstreamError::Denied { .. }) {
                        self.closed.insert(ask.repository.clone(), Instant::now());
                    }
                }
                (answer, _) => return answer,
            }
        }
        match client {
            Some(secret) => self.ask_as(ask, Who::Client(secret)).await,
            None => Err(UpstreamError::Unreachable {
                why: "nobody's rights were tried".into(),
            }),
        }
    }

    fn is_closed(&self, repository: &Repository) -> bool {
        let since = self.closed.get(repository);
        since.is_some_and(|since| since.elapsed() < CLOSED_TTL)
    }

    /// One try with one identity, behind its gate.
    async fn ask_as(&self, ask: &Ask, who: Who<'_>) -> Result<Answer, UpstreamError> {
        let counted = ask.method == Method::GET && matches!(ask.what, What::Manifest(_));
        let kind = if counted {
            Kind::ManifestGet
        } else {
            Kind::Any
        };
        let (key, identity) = (who.key(), who.identity());
        if let Some(wait) = self.gate.wait(key, kind, Instant::now()) {
            return Err(self.limited(ask, identity, Some(wait)));
        }
        let answer = match who {
            Who::Own(_, login) => self.ask_with_proof(ask, login, identity).await,
            Who::Client(secret) => match self.send(ask, secret.header()).await {
                Ok(response) => self.judge(response, identity).await,
                Err(error) => Err(error.into()),
            },
        };
        match answer {
            Err(UpstreamError::Limited { retry_after, .. }) => {
                let wait = self.gate.close(key, kind, retry_after, Instant::now());
                Err(self.limited(ask, identity, Some(wait)))
            }
            Ok(answer) => {
                self.gate.open(key, kind);
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }

    /// One try with rights of our own: a token ahead, else the answer to the challenge.
    async fn ask_with_proof(
        &self,
        ask: &Ask,
        login: &Login,
        identity: Identity,
    ) -> Result<Answer, UpstreamError> {
        let repository = self.repository(ask);
        let (mut proof, mut unproven) = match self.auth.ahead(&repository, login).await {
            Ok(proof) => (proof, None),
            // It may not want a token here at all.
            Err(error) => (None, Some(error)),
        };
        let mut rejected = 0;
        loop {
            let header = proof.as_ref().map(|proof| proof.header.clone());
            let response = self.send(ask, header).await?;
            if response.status != StatusCode::UNAUTHORIZED || response.moved {
                return self.judge(response, identity).await;
            }
            let mut lines = request::challenge_lines(&response.headers);
            let body = text_of(response.body).await;
            if proof.is_none() {
                if lines.is_empty() {
                    lines = self.challenge_of_ping().await;
                }
                self.auth.learn(&lines, &repository);
            } else {
                rejected += 1;
            }
            let next = match unproven.take() {
                Some(error) => Err(error),
                None if rejected >= PROOFS_MAX => Ok(None),
                None => {
                    let rejected = proof.as_ref();
                    self.auth.answer(&lines, &repository, login, rejected).await
                }
            };
            match next {
                Ok(Some(next)) => proof = Some(next),
                Ok(None) | Err(UpstreamError::Denied { .. }) => {
                    return Err(self.denied(&repository, proof, lines, body));
                }
                // We do not go there; whether the client does is for the client to decide.
                Err(error @ UpstreamError::Refused { .. }) => {
                    tracing::warn!(endpoint = ?self.endpoint, repository, %error,
                        "challenge left to the client");
                    return Err(self.denied(&repository, proof, lines, body));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The denial as a client without credentials would have got it: what it says about our own
    /// token is not the client's affair.
    fn denied(
        &self,
        repository: &str,
        proof: Option<Proof>,
        lines: Vec<HeaderValue>,
        body: Bytes,
    ) -> UpstreamError {
        let remembered = match proof {
            Some(_) => self.auth.challenge_for(repository),
            None => Vec::new(),
        };
        UpstreamError::Denied {
            status: StatusCode::UNAUTHORIZED,
            challenge: if remembered.is_empty() {
                lines
            } else {
                remembered
            },
            body,
        }
    }

    fn limited(&self, ask: &Ask, who: Identity, retry_after: Option<Duration>) -> UpstreamError {
        let challenge = match who {
            Identity::Client => Vec::new(),
            _ => self.auth.challenge_for(&self.repository(ask)),
        };
        UpstreamError::Limited {
            retry_after,
            challenge,
        }
    }

    /// Some registries (GCR) challenge at `/v2/` only.
    pub(super) async fn challenge_of_ping(&self) -> Vec<HeaderValue> {
        let Ok(url) = self.endpoint.url("/v2/") else {
            return Vec::new();
        };
        let request = Request {
            endpoint: &self.endpoint,
            method: Method::GET,
            url,
            headers: http::HeaderMap::new(),
            body: Bytes::new(),
            also_allowed: None,
            redirects: Redirects::Follow,
        };
        match self.client.send(request).await {
            Ok(response) if response.status == StatusCode::UNAUTHORIZED && !response.moved => {
                request::challenge_lines(&response.headers)
            }
            _ => Vec::new(),
        }
    }

    async fn send(
        &self,
        ask: &Ask,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, ClientError> {
        let mut headers = request::headers(ask);
        headers.insert(VIA, self.via.clone());
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        let path = request::path(&ask.what, &self.repository(ask));
        let request = Request {
            endpoint: &self.endpoint,
            method: ask.method.clone(),
            url: self.endpoint.url(&path)?,
            headers,
            body: Bytes::new(),
            also_allowed: None,
            redirects: Redirects::Follow,
        };
        self.client.send(request).await
    }

    fn repository(&self, ask: &Ask) -> String {
        self.named(&ask.repository)
    }

    /// The repository as this endpoint names it: behind the path of its URL, if that has one.
    pub(super) fn named(&self, repository: &Repository) -> String {
        let prefix = self.endpoint.path().trim_matches('/');
        if prefix.is_empty() {
            repository.to_string()
        } else {
            format!("{prefix}/{repository}")
        }
    }

    async fn judge(&self, response: Response, identity: Identity) -> Result<Answer, UpstreamError> {
        let status = response.status;
        let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        Err(match status {
            status if status.is_success() => {
                return Ok(Answer {
                    status,
                    headers: response.headers,
                    body: Body::new(response.body),
                    endpoint: self.index,
                    anonymous: identity != Identity::Client,
                    identity,
                });
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => UpstreamError::NotFound {
                body: text_of(response.body).await,
            },
            // A blob store that refuses a presigned URL says nothing about the reader's rights.
            _ if refused && !response.moved => UpstreamError::Denied {
                status,
                challenge: request::challenge_lines(&response.headers),
                body: text_of(response.body).await,
            },
            StatusCode::RANGE_NOT_SATISFIABLE => UpstreamError::Unsatisfiable {
                total: request::unsatisfied_total(&response.headers),
            },
            StatusCode::TOO_MANY_REQUESTS => UpstreamError::Limited {
                retry_after: request::retry_after(&response.headers),
                challenge: Vec::new(),
            },
            status => UpstreamError::Status(status),
        })
    }
}

/// Whether somebody else's rights could change the answer.
fn is_about_rights(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Denied { .. }
            | UpstreamError::Limited { .. }
            | UpstreamError::NotFound { .. }
            | UpstreamError::Refused { .. }
    )
}

/// An error's text, as far as it comes soon: the status is what counts.
pub(super) async fn text_of(body: oci::client::Body) -> Bytes {
    let read = tokio::time::timeout(ERROR_BODY_WAIT, body.collect(ERROR_BODY_MAX)).await;
    read.ok().and_then(Result::ok).flatten().unwrap_or_default()
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}
