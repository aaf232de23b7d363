//! From a reference to a digest, with the reader's rights.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use oci::media_type;
use oci::{Digest, Reference, Tag};

use super::{Resolution, read};
use crate::accept::AcceptClass;
use crate::catalog::Note;
use crate::front::{Front, Question, Reader, said, unix_now};
use crate::generations::Generation;
use crate::grants::{Decision, Said};
use crate::place::Place;
use crate::refusal::{Kind, Refusal};
use crate::upstream::{UpstreamError, What};
use crate::warnings;

/// Under what a meaning is kept.
type Key = (Place, Generation, Reference, AcceptClass);

/// Finds what `reference` means, asking upstream unless that is known and the reader may know it.
pub(super) async fn resolve(
    front: &Front,
    reader: &Reader,
    reference: &Reference,
    head: bool,
) -> Result<Resolution, Refusal> {
    if let Some(known) = believed(front, reader, reference) {
        return Ok(known);
    }
    let asked = reader.asked_manifest(reference);
    if let Some(refusal) = front.refused_before(&asked) {
        return Err(refusal);
    }
    let ask = async || {
        Asking {
            front,
            reader,
            reference,
        }
        .run(head)
        .await
    };
    // Boxed: what is known already is answered without moving the room for this around.
    Box::pin(front.resolving.run(asked, ask)).await
}

fn key(reader: &Reader, reference: &Reference) -> Key {
    (
        reader.place.clone(),
        reader.generation,
        reference.clone(),
        reader.class.clone(),
    )
}

/// What can be answered without asking: rights are live, and the meaning is fresh or fixed.
fn believed(front: &Front, reader: &Reader, reference: &Reference) -> Option<Resolution> {
    let may = || front.decide(reader, true, Said::Nothing) == Decision::Serve;
    if let Reference::Digest(digest) = reference
        && let Some(known) = known_digest(front, reader, digest)
        && reader
            .class
            .names(known.media_type.to_str().unwrap_or_default())
    {
        return may().then_some(known);
    }
    let known = front.resolutions.get(&key(reader, reference))?;
    // A stale answer was given by its own decision; it is given again while that is believed, and
    // only to whom that decision would be given.
    let allowed = match known.stale {
        None => may(),
        Some(_) => front.decide(reader, true, Said::Away) == Decision::Serve,
    };
    (Instant::now() < known.until && allowed).then_some(known)
}

/// A manifest that was read in this place, as the catalog has it.
fn known_digest(front: &Front, reader: &Reader, digest: &Digest) -> Option<Resolution> {
    let fact = front.catalog.manifest(&reader.place, digest)?;
    Some(Resolution {
        digest: *digest,
        media_type: HeaderValue::try_from(fact.media_type).ok()?,
        size: fact.size,
        stale: None,
        warnings: Arc::default(),
        whole: None,
        until: Instant::now() + front.trust.tag,
    })
}

/// One question about one reference.
struct Asking<'a> {
    front: &'a Front,
    reader: &'a Reader,
    reference: &'a Reference,
}

impl Asking<'_> {
    async fn run(&self, head: bool) -> Result<Resolution, Refusal> {
        let fallback = self.fallback();
        if let Some(fallback) = &fallback
            && self.front.is_away(&self.reader.place.registry)
        {
            return Ok(fallback.clone());
        }
        let within = match fallback {
            Some(_) => self.front.limits.revalidation,
            None => self.front.limits.head,
        };
        match self.ask(head, within).await {
            Ok(fresh) => {
                self.note(&fresh);
                Ok(fresh)
            }
            Err(failure) => self.fail(failure, fallback),
        }
    }

    /// HEAD where the bytes are held or not wanted, else GET.
    async fn ask(&self, head: bool, within: Duration) -> Result<Resolution, Failure> {
        if head || self.held().await || self.is_tag_of_a_swarm() {
            let what = What::Manifest(self.reference.clone());
            let question = Question::head(what);
            let answer = self.front.ask(self.reader, question, within).await;
            let answer = answer.map_err(Failure::upstream)?;
            if let Some(found) = self.head_says(&answer.headers)? {
                return Ok(found);
            }
        }
        read::fetch(self.front, self.reader, self.reference, within).await
    }

    /// Whether a supernode may give what the tag means: then upstream is only asked what that is.
    fn is_tag_of_a_swarm(&self) -> bool {
        let owners = self.front.owners.as_ref();
        let tag = matches!(self.reference, Reference::Tag(_));
        tag && owners.is_some_and(|owners| owners.may_have(&self.reader.place))
    }

    /// Whether a GET would bring nothing new unless the tag has moved.
    async fn held(&self) -> bool {
        let digest = match self.reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(tag) => {
                let fact = self
                    .front
                    .catalog
                    .tag(&self.reader.place, tag, &self.reader.class);
                fact.map(|fact| fact.digest)
            }
        };
        match digest {
            Some(digest) if known_digest(self.front, self.reader, &digest).is_some() => {
                read::local(self.front, &digest).await.is_some()
            }
            _ => false,
        }
    }

    /// The answer to a HEAD, if it says all that clients rely on.
    fn head_says(&self, headers: &HeaderMap) -> Result<Option<Resolution>, Failure> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let digest = text(header::HeaderName::from_static("docker-content-digest"));
        let digest: Option<Digest> = digest.and_then(|digest| digest.parse().ok());
        let size = text(header::CONTENT_LENGTH).and_then(|size| size.parse().ok());
        let media_type = headers.get(header::CONTENT_TYPE);
        let digest = match (self.reference, digest) {
            // Without that header it may be any page: then its type must be a manifest's.
            (Reference::Digest(asked), None) => {
                let kind = text(header::CONTENT_TYPE).map(media_type::kind);
                kind.is_some_and(|kind| kind != media_type::Kind::Other)
                    .then_some(*asked)
            }
            (Reference::Digest(asked), Some(said))
                if said != *asked && said.algorithm() == asked.algorithm() =>
            {
                return Err(Failure::wrong("the registry names another digest"));
            }
            (Reference::Digest(asked), Some(_)) => Some(*asked),
            (Reference::Tag(_), said) => said,
        };
        let (Some(digest), Some(size), Some(media_type)) = (digest, size, media_type) else {
            return Ok(None);
        };
        if size == 0 {
            return Ok(None);
        }
        if size > self.front.limits.manifest_bytes {
            return Err(Failure::wrong("the manifest is too large for clients"));
        }
        read::check_type(media_type)?;
        Ok(Some(Resolution {
            digest,
            media_type: media_type.clone(),
            size,
            stale: None,
            warnings: warnings::of(headers).into(),
            whole: None,
            until: Instant::now() + self.front.trust.tag,
        }))
    }

    fn note(&self, found: &Resolution) {
        let mut kept = found.clone();
        kept.whole = None;
        self.front
            .resolutions
            .insert(key(self.reader, self.reference), kept);
        if let Reference::Tag(tag) = self.reference {
            let (place, class) = (self.reader.place.clone(), self.reader.class.clone());
            let note = Note::Tag(place, tag.clone(), class, found.digest, unix_now());
            self.front.catalog.note(vec![note]);
            // Noted first and looked at then, so that a write in between is not lost.
            if self.front.is_outdated(self.reader) {
                let note = Note::TagGone(self.reader.place.clone(), tag.clone());
                self.front.catalog.note(vec![note]);
            }
        }
    }

    /// What is known from before and may be given to this reader while upstream is away.
    fn fallback(&self) -> Option<Resolution> {
        let may = self.front.decide(self.reader, true, Said::Away) == Decision::Serve;
        if !may {
            return None;
        }
        let mut known = match self.reference {
            Reference::Digest(digest) => known_digest(self.front, self.reader, digest)?,
            Reference::Tag(tag) => self.stale_tag(tag)?,
        };
        known.until = Instant::now() + self.front.trust.negative;
        Some(known)
    }

    fn stale_tag(&self, tag: &Tag) -> Option<Resolution> {
        let (catalog, place) = (&self.front.catalog, &self.reader.place);
        let exact = catalog.tag(place, tag, &self.reader.class);
        let others = || catalog.tag_for_all(place, tag);
        let candidates = exact.map_or_else(others, |fact| vec![fact]);
        candidates.into_iter().find_map(|fact| {
            let age = Duration::from_secs(unix_now().saturating_sub(fact.seen));
            if age >= self.front.trust.stale_tag {
                return None;
            }
            let mut known = known_digest(self.front, self.reader, &fact.digest)?;
            let media_type = known.media_type.to_str().unwrap_or_default();
            if !self.reader.class.takes(media_type) {
                return None;
            }
            known.stale = Some(age);
            Some(known)
        })
    }

    /// Upstream gave nothing: the fallback if it is away, else the truth, remembered for a moment.
    fn fail(&self, failure: Failure, fallback: Option<Resolution>) -> Result<Resolution, Refusal> {
        let error = match failure {
            Failure::Upstream(error) => error,
            Failure::Wrong(refusal) => return Err(refusal),
        };
        let refusal = self.front.told(self.reader, Kind::Manifest, &error);
        // A client that answers challenges wherever they come from can go on with its account.
        let limited = matches!(&*error, UpstreamError::Limited { .. });
        if limited && self.reader.by_ns && refusal.status() == StatusCode::UNAUTHORIZED {
            return Err(refusal);
        }
        match (said(&error), fallback) {
            (Said::Away, Some(fallback)) => {
                tracing::info!(place = %self.reader.place, reference = %self.reference, %error,
                    "upstream cannot be asked: answered from memory");
                self.front
                    .resolutions
                    .insert(key(self.reader, self.reference), fallback.clone());
                Ok(fallback)
            }
            (Said::Away, None) => Err(refusal),
            (Said::No | Said::Yes | Said::Nothing, _) => {
                self.forget(&error);
                let asked = self.reader.asked_manifest(self.reference);
                self.front.remember_refusal(asked, &refusal);
                Err(refusal)
            }
        }
    }

    /// A tag that is gone is not served stale later.
    fn forget(&self, error: &UpstreamError) {
        self.front
            .resolutions
            .remove(&key(self.reader, self.reference));
        if let Reference::Digest(digest) = self.reference {
            let place = &self.reader.place;
            self.front.forget_if_gone(place, digest, error);
        }
        if let (Reference::Tag(tag), UpstreamError::NotFound { .. }) = (self.reference, error) {
            let note = Note::TagGone(self.reader.place.clone(), tag.clone());
            self.front.catalog.note(vec![note]);
        }
    }
}

/// Why a question brought nothing.
#[derive(Clone)]
pub(crate) enum Failure {
    /// Upstream did not give it.
    Upstream(Arc<UpstreamError>),
    /// Upstream gave something that must not be passed on.
    Wrong(Refusal),
}

impl Failure {
    pub(super) fn upstream(error: UpstreamError) -> Self {
        Self::Upstream(Arc::new(error))
    }

    pub(super) fn into_refusal(self, front: &Front, reader: &Reader) -> Refusal {
        match self {
            Self::Upstream(error) => front.told(reader, Kind::Manifest, &error),
            Self::Wrong(refusal) => refusal,
        }
    }

    pub(super) fn wrong(message: &'static str) -> Self {
        Self::Wrong(Refusal::invalid(Kind::Manifest, message))
    }
}
