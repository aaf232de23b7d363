//! The bytes of a manifest: from memory, from the store, or by one GET that is verified.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use oci::manifest::{Children, Descriptor, ManifestError, children};
use oci::media_type::essence;
use oci::{Digest, Reference};

use super::Resolution;
use super::resolve::Failure;
use crate::catalog::{ManifestFact, MemberFact, Note};
use crate::front::{Front, Question, Reader, late, unix_now};
use crate::metrics::Source;
use crate::refusal::{Kind, Refusal};
use crate::upstream::What;
use crate::warnings;

/// The bytes of what was resolved; the reader's right was checked in doing so.
pub(super) async fn bytes(
    front: &Front,
    reader: &Reader,
    resolution: &Resolution,
) -> Result<(Bytes, Source), Refusal> {
    if let Some(whole) = &resolution.whole {
        return Ok(whole.clone());
    }
    // Only what was read in this place: a HEAD's word for a digest gives no right to bytes that are
    // held for another place.
    let known = front.catalog.manifest(&reader.place, &resolution.digest);
    if known.is_some()
        && let Some(bytes) = local(front, &resolution.digest).await
    {
        return Ok((bytes, Source::Store));
    }
    let reference = Reference::Digest(resolution.digest);
    let found = Box::pin(fetch(front, reader, &reference, front.limits.head)).await;
    let found = found.map_err(|failure| failure.into_refusal(front, reader))?;
    found.whole.ok_or_else(|| Refusal::unknown(Kind::Manifest))
}

/// The bytes if they are here. Those from disk are hashed again: it costs little, once, and no
/// client recovers from a wrong manifest.
pub(super) async fn local(front: &Front, digest: &Digest) -> Option<Bytes> {
    if let Some(bytes) = front.manifests.get(digest) {
        return Some(bytes);
    }
    let held = front.store.open(digest)?;
    if held.total() > front.limits.manifest_bytes {
        return None;
    }
    front.store.read_again(digest);
    let (store, wanted) = (front.store.clone(), *digest);
    // A file: reading it may wait for the disk.
    let read = tokio::task::spawn_blocking(move || {
        let bytes = held.read_all().ok()?;
        if Digest::of(wanted.algorithm(), &bytes) == wanted {
            return Some(bytes);
        }
        // Puts it aside and counts it, as any rotten blob.
        let found = store.examine(&held, &mut |_| true);
        tracing::warn!(digest = wanted.short(), ?found, "a held manifest is rotten");
        None
    });
    let bytes = read.await.ok()??;
    front.manifests.insert(*digest, bytes.clone());
    Some(bytes)
}

/// One GET for all who ask for the same at the same time: verified, kept and noted.
pub(super) async fn fetch(
    front: &Front,
    reader: &Reader,
    reference: &Reference,
    within: Duration,
) -> Result<Resolution, Failure> {
    let asked = reader.asked_manifest(reference);
    let ask = async || fetch_alone(front, reader, reference, within).await;
    front.fetching.run(asked, ask).await
}

async fn fetch_alone(
    front: &Front,
    reader: &Reader,
    reference: &Reference,
    within: Duration,
) -> Result<Resolution, Failure> {
    if let Reference::Digest(digest) = reference
        && let Some(found) = from_owner(front, reader, digest).await
    {
        return Ok(found);
    }
    let started = Instant::now();
    let question = Question::get(What::Manifest(reference.clone()));
    let answer = front.ask(reader, question, within).await;
    let answer = answer.map_err(Failure::upstream)?;
    let media_type = answer.headers.get(http::header::CONTENT_TYPE).cloned();
    let media_type =
        media_type.ok_or_else(|| Failure::wrong("the registry names no media type"))?;
    check_type(&media_type)?;
    let max = usize::try_from(front.limits.manifest_bytes).unwrap_or(usize::MAX);
    // The body has the time of the head once more: it is small.
    let left = within.saturating_sub(started.elapsed()) + within;
    let bytes = tokio::time::timeout(left, answer.body.collect(max)).await;
    let bytes = match bytes {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => return Err(Failure::wrong("the manifest is too large for clients")),
        Ok(Err(error)) => {
            tracing::debug!(%error, place = %reader.place, "a manifest's body failed");
            return Err(Failure::upstream(error));
        }
        Err(_) => return Err(Failure::upstream(late())),
    };
    let digest = verified(reference, &answer.headers, &bytes)?;
    let found = Resolution {
        digest,
        media_type,
        size: bytes.len() as u64,
        stale: None,
        warnings: warnings::of(&answer.headers).into(),
        whole: Some((bytes.clone(), Source::Upstream)),
        until: Instant::now() + front.trust.tag,
    };
    note(front, reader, &found, &bytes)?;
    keep(front, digest, bytes).await;
    Ok(found)
}

/// The manifest from the supernode that owns it, if this node is in a swarm and the place is public.
async fn from_owner(front: &Front, reader: &Reader, digest: &Digest) -> Option<Resolution> {
    let owners = front.owners.as_ref()?;
    if front.is_ahead_of_swarm(&reader.place) {
        return None;
    }
    let max = usize::try_from(front.limits.manifest_bytes).unwrap_or(usize::MAX);
    let owned = owners.get(reader, digest, max).await?;
    check_type(&owned.media_type).ok()?;
    let found = Resolution {
        digest: *digest,
        media_type: owned.media_type,
        size: owned.bytes.len() as u64,
        stale: None,
        warnings: Arc::default(),
        whole: Some((owned.bytes.clone(), Source::Supernode)),
        until: Instant::now() + front.trust.tag,
    };
    note(front, reader, &found, &owned.bytes).ok()?;
    front.is_served_to_anybody(&reader.place);
    keep(front, *digest, owned.bytes).await;
    Some(found)
}

/// Refuses what is no manifest by its type: a captive portal's page, an API's JSON.
pub(super) fn check_type(media_type: &HeaderValue) -> Result<(), Failure> {
    let text = media_type.to_str().unwrap_or_default();
    let essence = essence(text);
    let plausible = essence.starts_with("application/") && essence != "application/octet-stream";
    if plausible {
        Ok(())
    } else {
        Err(Failure::wrong("the registry's answer is not a manifest"))
    }
}

/// The digest of the body, which must be the one asked for and the one that upstream names.
fn verified(reference: &Reference, headers: &HeaderMap, bytes: &Bytes) -> Result<Digest, Failure> {
    let said = headers.get("docker-content-digest");
    let said: Option<Digest> = said.and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(said) = said
        && Digest::of(said.algorithm(), bytes) != said
    {
        return Err(Failure::wrong(
            "the manifest does not have the digest that the registry names",
        ));
    }
    match reference {
        Reference::Digest(asked) if Digest::of(asked.algorithm(), bytes) != *asked => {
            Err(Failure::wrong("the manifest does not have this digest"))
        }
        Reference::Digest(asked) => Ok(*asked),
        Reference::Tag(_) => Ok(said.unwrap_or_else(|| Digest::sha256(bytes))),
    }
}

/// Notes the manifest and the blobs that belong to the place because of it.
///
/// Not its `subject` and not an index's manifests: a registry takes those without having them, so
/// that naming one proves nothing. Nor layers that a registry never holds.
fn note(front: &Front, reader: &Reader, found: &Resolution, bytes: &Bytes) -> Result<(), Failure> {
    let media_type = found.media_type.to_str().unwrap_or_default();
    let seen = unix_now();
    let place = &reader.place;
    let children = match children(bytes, media_type) {
        Ok(children) => children,
        // Passed on as it is; what it names is asked for blob by blob.
        Err(ManifestError::Ambiguous(_) | ManifestError::Digest(_)) => Children::default(),
        Err(ManifestError::Type(_)) if calls_itself_manifest(bytes) => Children::default(),
        Err(ManifestError::Type(_) | ManifestError::Form(_)) => {
            return Err(Failure::wrong("the registry's answer is not a manifest"));
        }
    };
    let fact = ManifestFact {
        media_type: media_type.to_owned(),
        size: found.size,
        seen,
    };
    let mut notes = vec![Note::Manifest(place.clone(), found.digest, fact)];
    let blobs = children.config.iter().chain(&children.layers);
    for blob in blobs.filter(|blob| is_kept_by_registries(blob)) {
        let fact = MemberFact {
            size: Some(blob.size),
            seen,
        };
        notes.push(Note::Member(place.clone(), blob.digest, fact));
    }
    front.catalog.note(notes);
    // Noted first and looked at then, so that a write in between is not lost.
    if front.is_outdated(reader) {
        let gone = Note::ManifestGone(place.clone(), found.digest);
        let blobs = children.config.iter().chain(&children.layers);
        let blobs = blobs.map(|blob| Note::MemberGone(place.clone(), blob.digest));
        front
            .catalog
            .note(std::iter::once(gone).chain(blobs).collect());
    }
    Ok(())
}

/// Whether JSON of a type that we do not know says that it is a manifest.
fn calls_itself_manifest(bytes: &[u8]) -> bool {
    let fields = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes);
    fields.is_ok_and(|fields| {
        fields.contains_key("mediaType") || fields.contains_key("schemaVersion")
    })
}

pub(crate) fn is_kept_by_registries(blob: &Descriptor) -> bool {
    !blob.media_type.contains("nondistributable") && !blob.media_type.contains(".foreign.")
}

/// Keeps verified bytes. A store that cannot take them costs a GET later, nothing now.
async fn keep(front: &Front, digest: Digest, bytes: Bytes) {
    front.manifests.insert(digest, bytes.clone());
    let store = front.store.clone();
    let put = tokio::task::spawn_blocking(move || store.put(&digest, &bytes).map(drop));
    if let Ok(Err(error)) = put.await {
        tracing::debug!(%error, digest = digest.short(), "a manifest is not kept on disk");
    }
}
