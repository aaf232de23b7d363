//! What all requests share: the parts of the node, and what was learned of rights on the way.
//!
//! Every question to upstream goes through [`Front::ask`], so that each answer renews or revokes a
//! grant exactly once, and each failure is remembered. Not here: routes, headers, bodies.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use oci::{Digest, Reference, Registry};
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use swarm::{BlobStore, Engine, FetchRange};

use crate::accept::AcceptClass;
use crate::blobs::No;
use crate::catalog::{Catalog, Note, PublicFact, UnixSeconds};
use crate::coalesce::Coalesce;
use crate::config::{Limits, Trust};
use crate::generations::{Generation, Generations};
use crate::grants::{Decision, Facts, Grants, Said, decide};
use crate::manifests::{Failure, Owners, Resolution};
use crate::metrics::{Metrics, UpstreamKind};
use crate::peers::Giver;
use crate::ping::Ping;
use crate::place::Place;
use crate::refusal::{Kind, Refusal};
use crate::upstream::{
    Answer, Ask, Credential, CredentialKey, Identity, Upstream, UpstreamError, Upstreams, What,
};
use crate::writes::Seals;

/// Bytes of manifests kept in memory beside the store.
const MANIFEST_MEMORY_BYTES: u64 = 16 << 20;
/// Tags, and manifests asked with a vague Accept, whose meaning is remembered.
const RESOLUTIONS_MAX: usize = 8192;
/// Refusals remembered.
const REFUSALS_MAX: usize = 8192;
/// Registries whose absence is remembered: more than any table has.
const AWAY_MAX: usize = 256;
/// How old a note that a place is public may get before it is written again.
const PUBLIC_NOTE_EVERY: UnixSeconds = 60;

/// The parts of the node that requests use.
pub(crate) struct Front {
    pub(crate) upstreams: Upstreams,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trust: Trust,
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
    /// Manifests by digest, so that a small answer touches no file.
    pub(crate) manifests: Cache<Digest, Bytes, ByLength>,
    /// What references mean, for as long as it is believed.
    pub(crate) resolutions: Cache<(Place, Generation, Reference, AcceptClass), Resolution>,
    /// Questions about what manifests are, being asked.
    pub(crate) resolving: Coalesce<Asked, Result<Resolution, Refusal>>,
    /// Manifests on their way.
    pub(crate) fetching: Coalesce<Asked, Result<Resolution, Failure>>,
    /// Questions about blobs being asked: the size, when upstream says yes.
    pub(crate) confirming: Coalesce<Asked, Result<Option<u64>, No>>,
    refusals: Cache<Asked, (Refusal, Instant)>,
    /// What was believed of a place is no longer once it was written to.
    pub(crate) generations: Generations,
    /// What leads uploads back to where upstream wants them.
    pub(crate) seals: Seals,
    /// Whether every write is refused.
    pub(crate) read_only: bool,
    away: Cache<Registry, Instant>,
    pub(crate) ping: Ping,
    /// What gives to other nodes at this very door: a seed's.
    pub(crate) giver: Option<Arc<Giver>>,
    /// The supernodes as sources of manifests: in a swarm.
    pub(crate) owners: Option<Owners>,
}

/// One question of one credential, between two writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    place: Place,
    generation: Generation,
    credential: CredentialKey,
    what: AskedWhat,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum AskedWhat {
    Manifest(Reference, AcceptClass),
    Blob(Digest),
}

/// Who is asking, and where.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) place: Place,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) credential: Credential,
    pub(crate) accept: Vec<HeaderValue>,
    pub(crate) class: AcceptClass,
    /// Named by `ns`: a client that answers a challenge wherever it comes (containerd's resolver).
    pub(crate) by_ns: bool,
    /// In which the place was when the request came.
    pub(crate) generation: Generation,
}

impl Reader {
    pub(crate) fn asked_manifest(&self, reference: &Reference) -> Asked {
        self.asked(AskedWhat::Manifest(reference.clone(), self.class.clone()))
    }

    pub(crate) fn asked_blob(&self, digest: &Digest) -> Asked {
        self.asked(AskedWhat::Blob(*digest))
    }

    fn asked(&self, what: AskedWhat) -> Asked {
        Asked {
            place: self.place.clone(),
            generation: self.generation,
            credential: self.credential.key(),
            what,
        }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.credential, Credential::Anonymous)
    }
}

/// What a front is made of.
pub(crate) struct Parts {
    pub(crate) upstreams: Upstreams,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trust: Trust,
    pub(crate) limits: Limits,
    pub(crate) challenge_ping: bool,
    pub(crate) read_only: bool,
    pub(crate) giver: Option<Arc<Giver>>,
    /// The supernodes as sources of manifests: in a swarm.
    pub(crate) owners: Option<Owners>,
}

impl Front {
    pub(crate) fn new(parts: Parts) -> Self {
        // One shard: in several a manifest of 4 MiB would not fit its part.
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(2048)
            .weight_capacity(MANIFEST_MEMORY_BYTES)
            .build()
            .expect("all that the builder needs is given");
        Self {
            upstreams: parts.upstreams,
            engine: parts.engine,
            store: parts.store,
            catalog: parts.catalog,
            metrics: parts.metrics,
            trust: parts.trust,
            limits: parts.limits,
            grants: Grants::new(parts.trust.grant),
            manifests: Cache::with_options(
                options,
                ByLength,
                DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            resolutions: Cache::new(RESOLUTIONS_MAX),
            resolving: Coalesce::default(),
            fetching: Coalesce::default(),
            confirming: Coalesce::default(),
            refusals: Cache::new(REFUSALS_MAX),
            generations: Generations::default(),
            seals: Seals::new(),
            read_only: parts.read_only,
            away: Cache::new(AWAY_MAX),
            ping: Ping::new(parts.challenge_ping),
            giver: parts.giver,
            owners: parts.owners,
        }
    }

    /// Whether a request has been through this very node.
    pub(crate) fn is_own(&self, headers: &HeaderMap) -> bool {
        let own = self.upstreams.via();
        headers.get_all(header::VIA).iter().any(|line| line == own)
    }

    /// Asks upstream with the reader's credential and notes what its answer says about rights.
    pub(crate) async fn ask(
        &self,
        reader: &Reader,
        question: Question,
        within: Duration,
    ) -> Result<Answer, UpstreamError> {
        let kind = question.kind();
        let ask = Ask {
            method: question.method,
            repository: reader.place.repository.clone(),
            what: question.what,
            accept: reader.accept.clone(),
            range: question.range,
            credential: reader.credential.clone(),
        };
        let answer = tokio::time::timeout(within, reader.upstream.ask(ask)).await;
        let answer = answer.unwrap_or_else(|_| Err(late()));
        let status = match &answer {
            Ok(answer) => Some(answer.status),
            Err(error) => status_of(error),
        };
        let registry = reader.place.registry.as_str();
        self.metrics.upstream_request(registry, kind, status);
        match &answer {
            Ok(answer) => self.was_served(reader, answer.identity),
            Err(error) => self.was_refused(reader, error),
        }
        answer
    }

    /// Upstream served this place: renews the grant, and remembers what is public. An account of
    /// the operator reads for everybody who reaches the port, but does not make a place public.
    pub(crate) fn was_served(&self, reader: &Reader, identity: Identity) {
        let now = Instant::now();
        let place = &reader.place;
        self.away.remove(&place.registry);
        match identity {
            Identity::Client => self.grants.renew(place, reader.credential.key(), now),
            Identity::Account => self.grants.renew(place, CredentialKey::ANONYMOUS, now),
            Identity::Anonymous => self.is_served_to_anybody(place),
        }
    }

    /// Anybody may read this place: upstream has just said so, to us or to a supernode.
    pub(crate) fn is_served_to_anybody(&self, place: &Place) {
        let now = Instant::now();
        self.grants.renew(place, CredentialKey::ANONYMOUS, now);
        self.note_public(place);
    }

    fn note_public(&self, place: &Place) {
        let seen = unix_now();
        let noted = self.catalog.public(place).map_or(0, |fact| fact.seen);
        if seen.saturating_sub(noted) >= PUBLIC_NOTE_EVERY {
            let note = Note::Public(place.clone(), PublicFact { seen });
            self.catalog.note(vec![note]);
        }
    }

    /// Upstream refused or failed. Anonymous access was tried first, so a refusal is everybody's.
    pub(crate) fn was_refused(&self, reader: &Reader, error: &UpstreamError) {
        let place = &reader.place;
        // One repository's 5xx or one credential's 429 says nothing of the others.
        if matches!(
            error,
            UpstreamError::Unreachable { .. } | UpstreamError::Stalled { .. }
        ) {
            let until = Instant::now() + self.trust.negative;
            self.away.insert(place.registry.clone(), until);
        }
        if matches!(error, UpstreamError::Denied { .. }) {
            self.grants.revoke(place, reader.credential.key());
            self.grants.revoke(place, CredentialKey::ANONYMOUS);
            if self.catalog.public(place).is_some() {
                self.catalog.note(vec![Note::NotPublic(place.clone())]);
            }
        }
    }

    /// Upstream said 404 of a digest: where everybody was asked for, nobody gets it from memory
    /// later. In a private place it may have been said to this reader alone; there only a live
    /// grant reads without asking.
    pub(crate) fn forget_if_gone(&self, place: &Place, digest: &Digest, error: &UpstreamError) {
        let gone = matches!(error, UpstreamError::NotFound { .. });
        if gone && self.catalog.public(place).is_some() {
            self.catalog.note(vec![
                Note::ManifestGone(place.clone(), *digest),
                Note::MemberGone(place.clone(), *digest),
            ]);
        }
    }

    /// What the client is told of an error. Where anonymous requests are limited, a client that sent
    /// no credentials is challenged: it may have an account with a limit of its own.
    pub(crate) fn told(&self, reader: &Reader, kind: Kind, error: &UpstreamError) -> Refusal {
        match error {
            UpstreamError::Limited { challenge, .. }
                if reader.is_anonymous() && !challenge.is_empty() =>
            {
                Refusal::denied(StatusCode::UNAUTHORIZED, challenge)
            }
            error => Refusal::upstream(kind, error),
        }
    }

    /// Whether the place was written to since this reader's request came: what the reader learned
    /// may be of before.
    pub(crate) fn is_outdated(&self, reader: &Reader) -> bool {
        self.generations.of(&reader.place) != reader.generation
    }

    /// Whether supernodes may still believe what was before a write of this node.
    pub(crate) fn is_ahead_of_swarm(&self, place: &Place) -> bool {
        self.generations.is_fresh(place, self.trust.grant)
    }

    /// Whether the registry could not be reached a moment ago.
    pub(crate) fn is_away(&self, registry: &Registry) -> bool {
        let until = self.away.get(registry);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether upstream serves this place to anybody: it did so within a grant's life, or, while it
    /// is away, within the public memory. No account of the operator counts.
    pub(crate) fn is_public(&self, place: &Place, upstream: Said) -> bool {
        let life = match upstream {
            Said::Nothing => self.trust.grant,
            Said::Away => self.trust.public_memory,
            said => return said == Said::Yes,
        };
        let seen = self.catalog.public(place).map(|fact| fact.seen);
        seen.is_some_and(|seen| Duration::from_secs(unix_now().saturating_sub(seen)) < life)
    }

    /// Decides about held bytes of this place.
    pub(crate) fn decide(&self, reader: &Reader, belongs: bool, upstream: Said) -> Decision {
        let place = &reader.place;
        let public_age = (upstream == Said::Away)
            .then(|| self.catalog.public(place))
            .flatten()
            .map(|fact| Duration::from_secs(unix_now().saturating_sub(fact.seen)));
        let facts = Facts {
            belongs,
            granted_until: self.grants.until(place, reader.credential.key()),
            public_age,
            upstream,
        };
        decide(Instant::now(), &facts, self.trust.public_memory)
    }

    /// A refusal of this very question that is not older than allowed.
    pub(crate) fn refused_before(&self, asked: &Asked) -> Option<Refusal> {
        let (refusal, until) = self.refusals.get(asked)?;
        (Instant::now() < until).then_some(refusal)
    }

    /// Remembers a refusal for a short while, for this credential only.
    pub(crate) fn remember_refusal(&self, asked: Asked, refusal: &Refusal) {
        let until = Instant::now() + self.trust.negative;
        self.refusals.insert(asked, (refusal.clone(), until));
    }
}

/// One question to upstream.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) what: What,
    pub(crate) range: Option<FetchRange>,
}

impl Question {
    fn kind(&self) -> UpstreamKind {
        let head = self.method == Method::HEAD;
        match (&self.what, head) {
            (What::Manifest(_), false) => UpstreamKind::ManifestGet,
            (What::Manifest(_), true) => UpstreamKind::ManifestHead,
            (What::Blob(_), false) => UpstreamKind::BlobGet,
            (What::Blob(_), true) => UpstreamKind::BlobHead,
            (What::Tags { .. } | What::Referrers { .. }, _) => UpstreamKind::Other,
        }
    }

    pub(crate) fn head(what: What) -> Self {
        Self {
            method: Method::HEAD,
            what,
            range: None,
        }
    }

    pub(crate) fn get(what: What) -> Self {
        Self {
            method: Method::GET,
            what,
            range: None,
        }
    }
}

/// What an error says about the right to read.
pub(crate) fn said(error: &UpstreamError) -> Said {
    match error {
        UpstreamError::NotFound { .. } | UpstreamError::Denied { .. } => Said::No,
        // It has the blob, and shows it.
        UpstreamError::Unsatisfiable { .. } => Said::Yes,
        // Not the registry's own refusal, which is `Denied`, but that of a store it redirects to.
        UpstreamError::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Said::Away,
        UpstreamError::Status(status) if status.is_client_error() => Said::No,
        UpstreamError::Status(_)
        | UpstreamError::Limited { .. }
        | UpstreamError::Unreachable { .. }
        | UpstreamError::Stalled { .. }
        | UpstreamError::Refused { .. }
        | UpstreamError::Invalid { .. } => Said::Away,
    }
}

fn status_of(error: &UpstreamError) -> Option<StatusCode> {
    match error {
        UpstreamError::NotFound { .. } => Some(StatusCode::NOT_FOUND),
        UpstreamError::Denied { status, .. } | UpstreamError::Status(status) => Some(*status),
        UpstreamError::Limited { .. } => Some(StatusCode::TOO_MANY_REQUESTS),
        UpstreamError::Unsatisfiable { .. } => Some(StatusCode::RANGE_NOT_SATISFIABLE),
        UpstreamError::Unreachable { .. }
        | UpstreamError::Stalled { .. }
        | UpstreamError::Refused { .. }
        | UpstreamError::Invalid { .. } => None,
    }
}

/// Our own deadline has passed.
pub(crate) fn late() -> UpstreamError {
    UpstreamError::Stalled {
        why: "no answer in time".to_owned(),
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Weighs bytes by their length, with something for the entry itself.
#[derive(Clone)]
pub(crate) struct ByLength;

impl Weighter<Digest, Bytes> for ByLength {
    fn weight(&self, _: &Digest, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 200
    }
}
