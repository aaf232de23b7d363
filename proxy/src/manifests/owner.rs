//! Manifests by digest through the supernode that owns them, so that a cluster asks a registry once.
//!
//! Invariants: no credential goes there; what it gives is believed only when it has the digest, and
//! counts as public only when the supernode says that upstream serves the place to anybody. Anything
//! else, and anything slow, is as if there were no supernode.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use oci::Digest;
use oci::client::{
    Client, ClientConfig, ClientError, Endpoint, EndpointOptions, Redirects, Request, Timeouts,
};
use quick_cache::sync::Cache;

use crate::front::Reader;
use crate::place::Place;

/// A supernode's mark on an answer: upstream serves the place to anybody.
pub(crate) const PUBLIC: HeaderName = HeaderName::from_static("darner-public");

/// A supernode is near.
const CONNECT: Duration = Duration::from_secs(1);
/// The whole question: upstream's answer to the supernode, with its token, and some to spare.
const WHOLE: Duration = Duration::from_secs(5);
/// For how long a place that the owner did not give as public is asked of upstream at once.
const CLOSED: Duration = Duration::from_secs(60);
/// For how long an owner that was slow or away is left alone.
const RESTS: Duration = Duration::from_secs(5);
/// Places of which that is remembered.
const CLOSED_MAX: usize = 1024;

/// Says at which `host:port` the owner of a digest has its front door; `None` when none lives.
pub(crate) type FindOwner = Box<dyn Fn(&Digest) -> Option<String> + Send + Sync>;

/// The supernodes as sources of manifests.
pub(crate) struct Owners {
    find: FindOwner,
    client: Client,
    seeds: Mutex<HashMap<String, Seed>>,
    closed: Cache<Place, Instant>,
}

struct Seed {
    endpoint: Arc<Endpoint>,
    rests_until: Option<Instant>,
}

/// A manifest that anybody may read.
pub(super) struct Owned {
    pub(super) media_type: HeaderValue,
    pub(super) bytes: Bytes,
}

/// Why the owner does not give it.
enum No {
    /// It does not serve the place to anybody.
    Closed,
    /// It is away, slow or wrong.
    Away(String),
}

impl From<ClientError> for No {
    fn from(error: ClientError) -> Self {
        Self::Away(error.to_string())
    }
}

impl Owners {
    pub(crate) fn new(find: FindOwner) -> Self {
        // Bare: forward proxies do not apply within the cluster.
        let client = Client::new(ClientConfig {
            timeouts: Timeouts {
                connect: CONNECT,
                head: WHOLE,
                body_idle: WHOLE,
            },
            ..ClientConfig::bare()
        });
        Self {
            find,
            client,
            seeds: Mutex::default(),
            closed: Cache::new(CLOSED_MAX),
        }
    }

    /// Whether asking is worth while for this place; which manifest, is not known yet.
    pub(super) fn may_have(&self, place: &Place) -> bool {
        self.is_open(place) && self.seed(&Digest::sha256(b"")).is_some()
    }

    fn is_open(&self, place: &Place) -> bool {
        let closed = self.closed.get(place);
        closed.is_none_or(|since| since.elapsed() >= CLOSED)
    }

    /// The manifest, from its owner.
    pub(super) async fn get(&self, reader: &Reader, digest: &Digest, max: usize) -> Option<Owned> {
        if !self.is_open(&reader.place) {
            return None;
        }
        let (at, endpoint) = self.seed(digest)?;
        let asking = self.ask(&endpoint, reader, digest, max);
        let answer = tokio::time::timeout(WHOLE, asking).await;
        let late = |_| Err(No::Away("no answer in time".to_owned()));
        match answer.unwrap_or_else(late) {
            Ok(owned) => Some(owned),
            Err(No::Closed) => {
                self.closed.insert(reader.place.clone(), Instant::now());
                None
            }
            Err(No::Away(why)) => {
                tracing::info!(owner = at, place = %reader.place, digest = digest.short(), why,
                    "a manifest's owner does not give it: upstream is asked");
                if let Some(seed) = self.lock().get_mut(&at) {
                    seed.rests_until = Some(Instant::now() + RESTS);
                }
                None
            }
        }
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        reader: &Reader,
        digest: &Digest,
        max: usize,
    ) -> Result<Owned, No> {
        let place = &reader.place;
        let path = format!(
            "/v2/{}/manifests/{digest}?ns={}",
            place.repository, place.registry
        );
        let mut headers = HeaderMap::new();
        for accept in &reader.accept {
            headers.append(header::ACCEPT, accept.clone());
        }
        let request = Request {
            endpoint,
            method: Method::GET,
            url: endpoint.url(&path)?,
            headers,
            body: Bytes::new(),
            also_allowed: None,
            redirects: Redirects::Passing(&|_| false),
        };
        let response = self.client.send(request).await?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                return Err(No::Closed);
            }
            status => return Err(No::Away(format!("it answered {}", status.as_u16()))),
        }
        if !response.headers.contains_key(PUBLIC) {
            return Err(No::Closed);
        }
        let wrong = |why: &str| No::Away(why.to_owned());
        let media_type = response.headers.get(header::CONTENT_TYPE).cloned();
        let media_type = media_type.ok_or_else(|| wrong("it names no media type"))?;
        let bytes = response.body.collect(max).await?;
        let bytes = bytes.ok_or_else(|| wrong("its answer is too large"))?;
        if Digest::of(digest.algorithm(), &bytes) != *digest {
            return Err(wrong("its answer does not have the digest"));
        }
        Ok(Owned { media_type, bytes })
    }

    /// Where the owner of a digest is, unless it rests.
    fn seed(&self, digest: &Digest) -> Option<(String, Arc<Endpoint>)> {
        let at = (self.find)(digest)?;
        let mut seeds = self.lock();
        if let Some(seed) = seeds.get(&at) {
            let rests = seed.rests_until.is_some_and(|until| Instant::now() < until);
            return (!rests).then(|| (at, seed.endpoint.clone()));
        }
        // The supernode is one that the operator named, so its address may be a private one.
        let options = EndpointOptions {
            named: true,
            ..EndpointOptions::default()
        };
        let endpoint = self.client.endpoint(&format!("http://{at}"), options);
        let endpoint = match endpoint {
            Ok(endpoint) => Arc::new(endpoint),
            Err(error) => {
                tracing::debug!(%error, "a supernode's address cannot be asked");
                return None;
            }
        };
        let seed = Seed {
            endpoint: endpoint.clone(),
            rests_until: None,
        };
        seeds.insert(at.clone(), seed);
        Some((at, endpoint))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seed>> {
        self.seeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owners").finish_non_exhaustive()
    }
}
