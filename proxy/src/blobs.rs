//! Blobs: rights first, then the bytes through the engine, the same answer cold, warm and half way.
//!
//! A blob that is not held and may not yet be read is asked for by GET: the answer's head is both
//! the confirmation and the beginning of the bytes, so a cold read costs one request. Concurrent
//! first readers with one credential wait for that head. A blob that another reader's flight brings
//! in is confirmed by HEAD for everybody else. What cannot be had is a quick 404.

mod body;

use http::{HeaderMap, StatusCode, header};
use oci::Digest;
use oci::range::{ContentRange, RangeHeader, Spec};
use swarm::{BlobReader, FetchRange, FlightScope, How, ReadError, Want};

use crate::access::Answered;
use crate::catalog::{MemberFact, Note};
use crate::front::{Front, Question, Reader, said, unix_now};
use crate::grants::{Decision, Said};
use crate::refusal::{Kind, Refusal, upstream_cause};
use crate::upstream::{Answer, Identity, UpstreamError, What};

/// Answers GET of a blob.
pub(crate) async fn get(
    front: &Front,
    reader: &Reader,
    digest: &Digest,
    headers: &HeaderMap,
) -> Result<Answered, Refusal> {
    let ranges = body::ranges(headers, digest);
    let read = Read {
        front,
        reader,
        digest,
        first: first_of(&ranges),
    };
    let within = front.limits.head;
    let blob = tokio::time::timeout(within, read.open()).await;
    let blob = blob.unwrap_or_else(|_| {
        tracing::info!(place = %reader.place, digest = digest.short(), "no source answers in time");
        Err(Refusal::invalid(Kind::Blob, "no source answers in time"))
    })?;
    body::answer(&blob, digest, &ranges).await
}

/// Answers HEAD of a blob: the size, without fetching it.
pub(crate) async fn head(
    front: &Front,
    reader: &Reader,
    digest: &Digest,
) -> Result<Answered, Refusal> {
    let read = Read {
        front,
        reader,
        digest,
        first: FetchRange::All,
    };
    let held = front.engine.held(digest);
    if let Some(held) = &held
        && read.may(Said::Nothing)
    {
        return Ok(body::head(held.total(), digest));
    }
    let size = read.confirm_by_head(held.is_some()).await?;
    let size = held.map(|held| held.total()).or(size);
    size.map(|size| body::head(size, digest))
        .ok_or_else(|| Refusal::invalid(Kind::Blob, "the registry does not tell the blob's size"))
}

/// What the first range means for the engine: where to begin.
fn first_of(ranges: &RangeHeader) -> FetchRange {
    match ranges {
        RangeHeader::Ranges(specs) => match specs.as_slice() {
            [Spec::FromTo(first, last)] if first <= last => {
                FetchRange::Span(*first..last.saturating_add(1))
            }
            [Spec::From(first)] => FetchRange::From(*first),
            [Spec::Last(count)] if *count > 0 => FetchRange::Last(*count),
            _ => FetchRange::All,
        },
        RangeHeader::None | RangeHeader::Ignored => FetchRange::All,
    }
}

/// One reader's way to one blob.
struct Read<'a> {
    front: &'a Front,
    reader: &'a Reader,
    digest: &'a Digest,
    first: FetchRange,
}

impl Read<'_> {
    async fn open(&self) -> Result<BlobReader, Refusal> {
        if self.may(Said::Nothing) {
            return match self.front.engine.held(self.digest) {
                Some(held) => Ok(held),
                None => self.read().await.map_err(|error| self.refusal(&error)),
            };
        }
        let asked = self.reader.asked_blob(self.digest);
        if let Some(refusal) = self.front.refused_before(&asked) {
            return Err(refusal);
        }
        let held = self.front.engine.held(self.digest);
        if held.is_some() {
            self.confirm_by_head(true).await?;
        }
        if let Some(held) = held {
            return Ok(held);
        }
        let mut own = None;
        let ask = async || {
            let (blob, confirmed) = self.confirm_by_read().await?;
            own = blob;
            Ok(confirmed)
        };
        self.front.confirming.run(asked, ask).await?;
        match own {
            Some(blob) => Ok(blob),
            None => self.read().await.map_err(|error| self.refusal(&error)),
        }
    }

    /// Whether this reader may read this blob, as far as is known.
    fn may(&self, upstream: Said) -> bool {
        let place = &self.reader.place;
        let catalog = &self.front.catalog;
        let belongs = catalog.member(place, self.digest).is_some()
            || catalog.manifest(place, self.digest).is_some();
        self.front.decide(self.reader, belongs, upstream) == Decision::Serve
    }

    /// Starts or joins the flight.
    async fn read(&self) -> Result<BlobReader, ReadError> {
        let place = &self.reader.place;
        let want = Want {
            digest: *self.digest,
            scope: FlightScope::new(place.registry.as_str()),
            first: self.first.clone(),
            source: self
                .reader
                .upstream
                .blob_source(place.repository.clone(), self.reader.credential.clone()),
        };
        let blob = self.front.engine.read(want).await?;
        let named = self.front.catalog.member(place, self.digest);
        if let Some(MemberFact {
            size: Some(size), ..
        }) = named
            && blob.how() != How::Held
            && size != blob.total()
        {
            tracing::warn!(%place, digest = self.digest.short(), named = size, told = blob.total(),
                "the registry's size of a blob is not the one its manifest names");
            let wrong = swarm::SourceError::wrong("another size than the manifest names");
            return Err(ReadError::Source(wrong));
        }
        Ok(blob)
    }

    /// Reads with this reader's own rights: when its source has answered, that is upstream's yes.
    async fn confirm_by_read(&self) -> Result<(Option<BlobReader>, Option<u64>), Refusal> {
        let blob = match self.read().await {
            Ok(blob) => blob,
            // Beyond the end of what another reader brings in: the size is not for everybody.
            Err(ReadError::Unsatisfiable { .. }) => {
                return Ok((None, self.ask_head().await?));
            }
            Err(error) => return Err(self.refusal(&error)),
        };
        match blob.how() {
            How::Started => {
                // Whose rights the source has used is not known: it counts for this reader alone.
                self.front.was_served(self.reader, Identity::Client);
                self.belongs();
            }
            How::Joined | How::Held => {
                self.ask_head().await?;
            }
        }
        let total = blob.total();
        Ok((Some(blob), Some(total)))
    }

    /// Upstream's yes or no, and the size if it tells it. Held bytes are also given while it is
    /// away, to whom they may be.
    async fn confirm_by_head(&self, held: bool) -> Result<Option<u64>, Refusal> {
        let asked = self.reader.asked_blob(self.digest);
        if let Some(refusal) = self.front.refused_before(&asked) {
            return Err(refusal);
        }
        let even_alone = held && self.may(Said::Away);
        if even_alone && self.front.is_away(&self.reader.place.registry) {
            return Ok(None);
        }
        let ask = async || self.ask_head().await;
        let answer = self.front.confirming.run(asked, ask).await;
        match answer {
            Err(_) if even_alone && self.may(Said::Away) => Ok(None),
            answer => answer,
        }
    }

    async fn ask_head(&self) -> Result<Option<u64>, Refusal> {
        let held = self.front.engine.held(self.digest).is_some();
        let within = if held && self.may(Said::Away) {
            self.front.limits.revalidation
        } else {
            self.front.limits.head
        };
        let head = Question::head(What::Blob(*self.digest));
        let mut answer = self.front.ask(self.reader, head, within).await;
        if matches!(answer, Err(UpstreamError::Denied { .. })) {
            // Some registries deny HEAD of a blob to those who may GET it.
            let first_byte = Question {
                range: Some(FetchRange::Span(0..1)),
                ..Question::get(What::Blob(*self.digest))
            };
            answer = self.front.ask(self.reader, first_byte, within).await;
        }
        match answer {
            Ok(answer) => {
                self.belongs();
                Ok(size_of(&answer))
            }
            Err(error) => {
                let refusal = self.front.told(self.reader, Kind::Blob, &error);
                self.remember(&error, &refusal);
                Err(refusal)
            }
        }
    }

    /// Notes that upstream has confirmed the blob here; a size that a manifest named is kept.
    fn belongs(&self) {
        let place = &self.reader.place;
        if self.front.catalog.member(place, self.digest).is_none() {
            let fact = MemberFact {
                size: None,
                seen: unix_now(),
            };
            let note = Note::Member(place.clone(), *self.digest, fact);
            self.front.catalog.note(vec![note]);
        }
    }

    /// The client's answer to a failed read; what it says of rights is noted.
    fn refusal(&self, error: &ReadError) -> Refusal {
        let cause = match error {
            ReadError::Source(error) => upstream_cause(error),
            _ => None,
        };
        let refusal = match cause {
            Some(cause) => self.front.told(self.reader, Kind::Blob, cause),
            None => Refusal::blob(error),
        };
        tracing::debug!(place = %self.reader.place, digest = self.digest.short(), %error,
            status = refusal.status().as_u16(), "blob cannot be read");
        if let Some(cause) = cause {
            self.front.was_refused(self.reader, cause);
            self.remember(cause, &refusal);
        }
        refusal
    }

    fn remember(&self, error: &UpstreamError, refusal: &Refusal) {
        if said(error) == Said::No {
            let asked = self.reader.asked_blob(self.digest);
            self.front.remember_refusal(asked, refusal);
        }
    }
}

/// The whole blob's size.
fn size_of(answer: &Answer) -> Option<u64> {
    let text = |name| answer.headers.get(name)?.to_str().ok();
    if answer.status == StatusCode::PARTIAL_CONTENT {
        return match ContentRange::parse(text(header::CONTENT_RANGE)?)? {
            ContentRange::Part { total, .. } => total,
            ContentRange::Unsatisfied { total } => Some(total),
        };
    }
    text(header::CONTENT_LENGTH)?.parse().ok()
}
