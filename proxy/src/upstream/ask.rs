//! Asking a registry: over its endpoints in order, within its caps.
//!
//! An endpoint that cannot or will not answer is followed by the next one; the answer of the last
//! one is the registry's word. Whose rights are used at one endpoint is `site`'s affair.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use oci::{Digest, Reference, Registry, Repository};
use quick_cache::sync::Cache;
use swarm::{FetchRange, PieceSource};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::account::Account;
use super::blob::RegistrySource;
use super::body::Body;
use super::credential::Credential;
use super::error::UpstreamError;
use super::site::Site;
use crate::ratelimit::Bucket;

/// For how long an endpoint that gave wrong bytes of a blob is asked for it only after the others.
const DOUBTED_TTL: Duration = Duration::from_secs(600);
/// Blobs of which that is remembered.
const DOUBTED_MAX: usize = 256;
/// Longest wait for a free place among the requests or downloads of an upstream.
const PLACE_WAIT: Duration = Duration::from_secs(30);
/// How long an endpoint may take to the head of its answer while there is another one to ask.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an endpoint that could not be reached is asked only after all others.
const DOWN_FOR: Duration = Duration::from_secs(30);

/// What is wanted of a registry, and with whose rights.
#[derive(Clone, Debug)]
pub struct Ask {
    /// GET or HEAD.
    pub method: Method,
    /// In which repository, as the client names it.
    pub repository: Repository,
    /// What of it.
    pub what: What,
    /// `Accept` lines, sent as they are.
    pub accept: Vec<HeaderValue>,
    /// Only these bytes.
    pub range: Option<FetchRange>,
    /// What the client sent; anonymous access is tried first.
    pub credential: Credential,
}

/// The readable things of a repository.
#[derive(Clone, Debug)]
pub enum What {
    /// A manifest or index.
    Manifest(Reference),
    /// A blob.
    Blob(Digest),
    /// The list of tags.
    Tags {
        /// The query string without `?`, relayed.
        query: String,
    },
    /// What refers to a digest.
    Referrers {
        /// The subject.
        digest: Digest,
        /// The query string without `?`, relayed.
        query: String,
    },
}

/// Whose rights were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody's: what was given is public.
    Anonymous,
    /// The operator's account.
    Account,
    /// The client's own.
    Client,
}

/// A 2xx answer.
#[derive(Debug)]
pub struct Answer {
    /// 200, or 206 to a range.
    pub status: StatusCode,
    /// Upstream's headers.
    pub headers: HeaderMap,
    /// Upstream's bytes; nothing for HEAD.
    pub body: Body,
    /// Which endpoint answered, in the order of the configuration.
    pub endpoint: usize,
    /// It was given without the client's credential (see `identity` for whether it is public).
    pub anonymous: bool,
    /// Whose rights were used.
    pub identity: Identity,
}

/// One registry behind its name.
pub struct Upstream {
    registry: Registry,
    sites: Vec<Site>,
    accounts: Vec<Account>,
    /// Requests on their way to the head of their answer.
    asking: Arc<Semaphore>,
    /// Blobs being read; apart from `asking`, so that manifests do not wait behind layers.
    reading: Arc<Semaphore>,
    /// Writes, which take as long as their client does.
    writing: Arc<Semaphore>,
    ratelimit: Option<Arc<Bucket>>,
    /// Which endpoints (as bits) gave wrong bytes for a digest, and when.
    doubted: Cache<Digest, (u64, Instant)>,
}

impl Upstream {
    pub(super) fn new(
        registry: Registry,
        sites: Vec<Site>,
        accounts: Vec<Account>,
        max_in_flight: usize,
        ratelimit: Option<Arc<Bucket>>,
    ) -> Self {
        Self {
            registry,
            sites,
            accounts,
            asking: Arc::new(Semaphore::new(max_in_flight)),
            reading: Arc::new(Semaphore::new(max_in_flight)),
            writing: Arc::new(Semaphore::new(max_in_flight)),
            ratelimit,
            doubted: Cache::new(DOUBTED_MAX),
        }
    }

    /// The registry's name.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Asks the endpoints in order, with tokens and retries inside; resolves with the first 2xx
    /// answer's head, or with the error of the last endpoint.
    ///
    /// Every step has a deadline. Dropping the future or the body ends the request.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, UpstreamError> {
        self.ask_avoiding(&ask, Avoid::default()).await
    }

    /// The challenge at `/v2/` of the endpoint that takes credentials; nothing if it has none or
    /// cannot be asked.
    pub async fn challenge(&self) -> Vec<HeaderValue> {
        match self.official() {
            Some(site) => site.challenge_of_ping().await,
            None => Vec::new(),
        }
    }

    /// A blob's bytes for a transfer, with this reader's rights.
    pub fn blob_source(
        self: &Arc<Self>,
        repository: Repository,
        credential: Credential,
    ) -> Arc<dyn PieceSource> {
        Arc::new(RegistrySource::new(self.clone(), repository, credential))
    }

    /// The endpoint that takes credentials and writes.
    pub(super) fn official(&self) -> Option<&Site> {
        self.sites.last()
    }

    /// A repository as the endpoint that is written to names it.
    pub fn official_name(&self, repository: &Repository) -> String {
        let named = self.official().map(|site| site.named(repository));
        named.unwrap_or_else(|| repository.to_string())
    }

    pub(super) fn writing(&self) -> &Arc<Semaphore> {
        &self.writing
    }

    /// These endpoints (as bits) gave wrong bytes for `digest`: they are asked last for a while. Says
    /// nothing of other endpoints doubted before, so that of two that mixed their bytes one is found.
    pub(super) fn doubt(&self, digest: &Digest, endpoints: u64) {
        self.doubted.insert(*digest, (endpoints, Instant::now()));
    }

    pub(super) fn doubted(&self, digest: &Digest) -> u64 {
        let doubted = self.doubted.get(digest);
        let doubted = doubted.filter(|(_, since)| since.elapsed() < DOUBTED_TTL);
        doubted.map_or(0, |(endpoints, _)| endpoints)
    }

    /// The same as `ask`, with some endpoints only after all others.
    pub(super) async fn ask_avoiding(
        &self,
        ask: &Ask,
        avoid: Avoid,
    ) -> Result<Answer, UpstreamError> {
        let reads_blob = ask.method == Method::GET && matches!(ask.what, What::Blob(_));
        let reading = match reads_blob {
            true => Some(place(&self.reading).await?),
            false => None,
        };
        let _asking = place(&self.asking).await?;
        let account = self.accounts.iter().find(|a| a.covers(&ask.repository));
        let now = Instant::now();
        let (mut order, then): (Vec<_>, Vec<_>) = self
            .sites
            .iter()
            .partition(|site| !avoid.has(site.index()) && !site.is_down(now));
        order.extend(then);
        let mut word: Option<(usize, UpstreamError)> = None;
        while !order.is_empty() {
            let site = order.remove(0);
            let asking = site.ask(ask, account);
            let answer = if order.is_empty() {
                asking.await
            } else {
                let patient = tokio::time::timeout(PATIENCE, asking).await;
                patient.unwrap_or_else(|_| Err(impatient()))
            };
            site.note_reached(&answer, Instant::now() + DOWN_FOR);
            match answer {
                Ok(mut answer) => {
                    answer.body = answer.body.capped(self.ratelimit.clone());
                    if let Some(permit) = reading {
                        answer.body = answer.body.holding(permit);
                    }
                    return Ok(answer);
                }
                Err(error @ UpstreamError::Unsatisfiable { .. }) => return Err(error),
                Err(error) => {
                    tracing::debug!(
                        registry = %self.registry, endpoint = site.index(), %error,
                        "endpoint gave no answer"
                    );
                    if word.as_ref().is_none_or(|(index, _)| *index < site.index()) {
                        word = Some((site.index(), error));
                    }
                }
            }
        }
        Err(word.map_or_else(
            || UpstreamError::Unreachable {
                why: format!("registry {} has no endpoint", self.registry),
            },
            |(_, error)| error,
        ))
    }
}

fn impatient() -> UpstreamError {
    UpstreamError::Stalled {
        why: "the endpoint took longer than the next one is made to wait".into(),
    }
}

pub(super) async fn place(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, UpstreamError> {
    let waited = tokio::time::timeout(PLACE_WAIT, of.clone().acquire_owned()).await;
    // The semaphores are never closed, so the only failure is the deadline.
    waited
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| UpstreamError::Stalled {
            why: "too many requests to this registry are on their way".into(),
        })
}

/// Endpoints (by index) that broke off or lied, and are asked last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Avoid(pub(super) u64);

impl Avoid {
    pub(super) fn bit(index: usize) -> u64 {
        1 << index.min(63)
    }

    fn has(self, index: usize) -> bool {
        self.0 & Self::bit(index) != 0
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("registry", &self.registry)
            .field("sites", &self.sites)
            .finish_non_exhaustive()
    }
}
