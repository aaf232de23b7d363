//! Blobs: rights first, then the bytes through the engine, the same answer cold, warm and half way.
//!
//! A blob that is not held and may not yet be read is asked for by GET: the answer's head is both
//! the confirmation and the beginning of the bytes, so a cold read costs one request. Concurrent
//! first readers with one credential wait for that head. A blob that another reader's flight brings
//! in is confirmed by HEAD for everybody else. What cannot be had is a quick 404.

mod body;

use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use oci::Digest;
use oci::range::{ContentRange, RangeHeader, Spec};
use swarm::{BlobReader, FetchRange, FlightScope, How, ReadError, Want};

use crate::access::Answered;
use crate::catalog::{MemberFact, Note};
use crate::front::{Front, Question, Reader, said, unix_now};
use crate::grants::{Decision, Said};
use crate::refusal::{Kind, Refusal, upstream_cause};
use crate::upstream::{Answer, Credential, Identity, UpstreamError, What};

/// An offset that lies beyond any blob and that registries can read: the greatest of a signed number.
const FAR: u64 = i64::MAX as u64;

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
    let blob = read.open_in_time().await?;
    let answer = body::answer(&blob, digest, &ranges).await;
    // Found rotten before anything of it left: another source, in this same request.
    if answer.is_err() && blob.how() == How::Held && front.engine.held(digest).is_none() {
        let blob = read.open_in_time().await?;
        return body::answer(&blob, digest, &ranges).await;
    }
    answer
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
    let size = read.confirm(held.is_some()).await?;
    let size = size.filter(|size| *size > 0 || digest.is_of_nothing());
    let size = held.map(|held| held.total()).or(size);
    size.map(|size| body::head(size, digest))
        .ok_or_else(|| Refusal::invalid(Kind::Blob, "the registry does not tell the blob's size"))
}

/// What the first range means for the engine: where to begin.
fn first_of(ranges: &RangeHeader) -> FetchRange {
    match ranges {
        RangeHeader::Ranges(specs) => match specs.as_slice() {
            [Spec::FromTo(first, last)] if first <= last => {
                let first = (*first).min(FAR);
                FetchRange::Span(first..last.saturating_add(1).max(first + 1))
            }
            [Spec::From(first)] => FetchRange::From((*first).min(FAR)),
            [Spec::Last(count)] if *count > 0 => FetchRange::Last(*count),
            _ => FetchRange::All,
        },
        RangeHeader::None | RangeHeader::Ignored => FetchRange::All,
    }
}

/// Reads a whole blob that upstream gives to anybody, with nobody's rights.
///
/// The outer error is upstream's no, or that it cannot be asked.
pub(crate) async fn read_public(
    front: &Front,
    reader: &Reader,
    digest: &Digest,
) -> Result<BlobReader, NotPublic> {
    let read = Read {
        front,
        reader,
        digest,
        first: FetchRange::All,
    };
    if let Some(held) = front.engine.held(digest) {
        read.confirm_public().await?;
        return Ok(held);
    }
    if read.may(Said::Nothing) {
        return read.read().await.map_err(|error| read.no(&error).into());
    }
    match read.confirm_by_read().await {
        Ok((Some(blob), _)) => Ok(blob),
        Ok((None, _)) => Err(NotPublic::Unknown),
        Err(no) => Err(no.into()),
    }
}

/// Whether upstream gives the blob to anybody, without reading it.
pub(crate) async fn confirm_public(
    front: &Front,
    reader: &Reader,
    digest: &Digest,
) -> Result<(), NotPublic> {
    let read = Read {
        front,
        reader,
        digest,
        first: FetchRange::All,
    };
    read.confirm_public().await
}

/// Why a blob is not shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotPublic {
    /// Upstream does not give it to anybody.
    Denied,
    /// It cannot be asked now, or something failed here.
    Unknown,
}

impl From<No> for NotPublic {
    fn from(no: No) -> Self {
        match no.said {
            Said::No => Self::Denied,
            Said::Yes | Said::Away | Said::Nothing => Self::Unknown,
        }
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
    async fn open_in_time(&self) -> Result<BlobReader, Refusal> {
        let blob = tokio::time::timeout(self.front.limits.head, self.open()).await;
        blob.unwrap_or_else(|_| {
            let (place, digest) = (&self.reader.place, self.digest.short());
            tracing::info!(%place, digest, "no source answers in time");
            Err(Refusal::invalid(Kind::Blob, "no source answers in time"))
        })
    }

    async fn open(&self) -> Result<BlobReader, Refusal> {
        let held = self.front.engine.held(self.digest);
        if self.may(Said::Nothing) {
            return match held {
                Some(held) => Ok(held),
                None => self.read().await.map_err(|error| self.no(&error).refusal),
            };
        }
        if let Some(held) = held {
            self.confirm(true).await?;
            return Ok(held);
        }
        let asked = self.reader.asked_blob(self.digest);
        if let Some(refusal) = self.front.refused_before(&asked) {
            return Err(refusal);
        }
        let mut own = None;
        let ask = async || {
            let (blob, size) = self.confirm_by_read().await?;
            own = blob;
            Ok(size)
        };
        let confirmed = self.front.confirming.run(asked, ask).await;
        confirmed.map_err(|no: No| no.refusal)?;
        match own {
            Some(blob) => Ok(blob),
            None => self.read().await.map_err(|error| self.no(&error).refusal),
        }
    }

    /// Whether this reader may read this blob, as far as is known.
    fn may(&self, upstream: Said) -> bool {
        let place = &self.reader.place;
        let catalog = &self.front.catalog;
        let belongs = catalog.member(place, self.digest).is_some()
            || catalog.manifest(place, self.digest).is_some();
        match self.reader.credential {
            Credential::Nobody => belongs && self.front.is_public(place, upstream),
            _ => self.front.decide(self.reader, belongs, upstream) == Decision::Serve,
        }
    }

    /// Starts or joins the flight.
    async fn read(&self) -> Result<BlobReader, ReadError> {
        let place = &self.reader.place;
        let want = Want {
            digest: *self.digest,
            scope: FlightScope::new(place.registry.as_str()),
            first: self.first.clone(),
            repository: (!self.front.is_ahead_of_swarm(place))
                .then(|| Arc::from(place.repository.to_string())),
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
    async fn confirm_by_read(&self) -> Result<(Option<BlobReader>, Option<u64>), No> {
        let blob = match self.read().await {
            Ok(blob) => blob,
            // Beyond the end of what another reader brings in: the size is not for everybody.
            Err(ReadError::Unsatisfiable { .. }) => return Ok((None, self.ask().await?)),
            Err(error) => return Err(self.no(&error)),
        };
        match blob.how() {
            How::Started => {
                // Unless it could use nobody's, whose rights the source has used is not known: it
                // counts for this reader alone.
                let identity = match self.reader.credential {
                    Credential::Nobody => Identity::Anonymous,
                    _ => Identity::Client,
                };
                self.front.was_served(self.reader, identity);
                self.belongs();
            }
            How::Shared => {
                // The leader of the swarm has asked upstream with nobody's rights.
                self.front.was_served(self.reader, Identity::Anonymous);
                self.belongs();
            }
            How::Joined | How::Held if self.may_while_away() => {}
            How::Joined | How::Held => match self.ask().await {
                Err(no) if !no.may_serve(self) => return Err(no),
                _ => {}
            },
        }
        let total = blob.total();
        Ok((Some(blob), Some(total)))
    }

    /// Upstream's yes, and the size if it tells it. Bytes that are here are also given while it is
    /// away, to whom they may be.
    async fn confirm(&self, here: bool) -> Result<Option<u64>, Refusal> {
        let asked = self.reader.asked_blob(self.digest);
        if let Some(refusal) = self.front.refused_before(&asked) {
            return Err(refusal);
        }
        if here && self.may_while_away() {
            return Ok(None);
        }
        let ask = async || self.ask().await;
        match self.front.confirming.run(asked, ask).await {
            Err(no) if here && no.may_serve(self) => Ok(None),
            answer => answer.map_err(|no| no.refusal),
        }
    }

    /// Upstream's yes to everybody, or its word of a short while ago.
    async fn confirm_public(&self) -> Result<(), NotPublic> {
        if self.may(Said::Nothing) || self.may_while_away() {
            return Ok(());
        }
        match self.ask().await {
            Err(no) if !no.may_serve(self) => Err(no.into()),
            _ => Ok(()),
        }
    }

    /// Whether upstream was away a moment ago and this reader may read what is here without it.
    fn may_while_away(&self) -> bool {
        self.front.is_away(&self.reader.place.registry) && self.may(Said::Away)
    }

    /// Asks upstream by HEAD.
    async fn ask(&self) -> Result<Option<u64>, No> {
        let within = if self.may(Said::Away) {
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
            Err(error) => Err(self.no_of_upstream(&error)),
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
            // Noted first and looked at then, so that a write in between is not lost.
            if self.front.is_outdated(self.reader) {
                let note = Note::MemberGone(place.clone(), *self.digest);
                self.front.catalog.note(vec![note]);
            }
        }
    }

    /// What a failed read means for the client; what it says of rights is noted.
    fn no(&self, error: &ReadError) -> No {
        tracing::debug!(place = %self.reader.place, digest = self.digest.short(), %error,
            "blob cannot be read");
        let cause = match error {
            ReadError::Source(error) => upstream_cause(error),
            _ => None,
        };
        match cause {
            Some(cause) => {
                self.front.was_refused(self.reader, cause);
                self.no_of_upstream(cause)
            }
            None => No {
                refusal: Refusal::blob(error),
                said: Said::Nothing,
            },
        }
    }

    fn no_of_upstream(&self, error: &UpstreamError) -> No {
        let place = &self.reader.place;
        self.front.forget_if_gone(place, self.digest, error);
        let refusal = self.front.told(self.reader, Kind::Blob, error);
        let said = said(error);
        if said == Said::No {
            let asked = self.reader.asked_blob(self.digest);
            self.front.remember_refusal(asked, &refusal);
        }
        No { refusal, said }
    }
}

/// Why upstream has not confirmed a read.
#[derive(Clone)]
pub(crate) struct No {
    refusal: Refusal,
    /// What upstream says about rights; nothing: it was not upstream that failed.
    said: Said,
}

impl No {
    /// Whether bytes that are here may be given all the same.
    fn may_serve(&self, read: &Read<'_>) -> bool {
        self.said == Said::Away && read.may(Said::Away)
    }
}

/// The whole blob's size, from the answer to HEAD or to a request for its first byte.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_beyond_all_blobs_is_still_a_question() {
        for text in [
            "bytes=18446744073709551615-",
            "bytes=18446744073709551615-18446744073709551615",
        ] {
            let first = first_of(&oci::range::parse(Some(text)));
            assert!(
                first.resolve(u64::MAX).is_some(),
                "{text}: {first:?} is empty"
            );
            assert_eq!(first.resolve(1 << 40), None, "{text}");
        }
    }
}
