//! Manifests put, and manifests, tags and blobs deleted (distribution-spec, "Pushing manifests",
//! "Content Management").

use super::answer::error;
use super::content::{Shelf, fits, sha256};
use super::fault::Reply;
use super::habits::Habits;
use super::record::{Seen, parameters};

/// Answers PUT of a manifest.
pub(super) fn put(shelf: &mut Shelf, habits: &Habits, seen: &Seen, reference: &str) -> Reply {
    let bytes = seen.whole_body();
    if bytes.len() > habits.manifest_max {
        return error(413, "SIZE_INVALID");
    }
    let document = serde_json::from_slice::<serde_json::Value>(&bytes);
    let Some(document) = document.ok().filter(serde_json::Value::is_object) else {
        return error(400, "MANIFEST_INVALID");
    };
    let said = document["mediaType"].as_str();
    let media_type = match (seen.header("content-type"), said) {
        (Some(sent), Some(said)) if sent != said => return error(400, "MANIFEST_INVALID"),
        (Some(media_type), _) | (None, Some(media_type)) => media_type.to_owned(),
        (None, None) => return error(400, "MANIFEST_INVALID"),
    };
    let by_digest = reference.contains(':');
    if by_digest && !fits(reference, &bytes) {
        return error(400, "DIGEST_INVALID");
    }
    if !has_all(shelf, &seen.repository, &document) {
        return error(404, "MANIFEST_BLOB_UNKNOWN");
    }
    let digest = match by_digest {
        true => reference.to_owned(),
        false => sha256(&bytes),
    };
    shelf.manifest(&seen.repository, &digest, &media_type, bytes);
    let mut reply = Reply::new(201)
        .header(
            "Location",
            &format!("/v2/{}/manifests/{digest}", seen.repository),
        )
        .header("Docker-Content-Digest", &digest);
    if !by_digest {
        shelf.tag(&seen.repository, reference, &digest);
    }
    let tags = parameters(&seen.query).filter(|(key, _)| by_digest && key == "tag");
    for (_, tag) in tags.filter(|(_, tag)| is_tag(tag)) {
        shelf.tag(&seen.repository, &tag, &digest);
        reply = reply.header("OCI-Tag", &tag);
    }
    match document["subject"]["digest"].as_str() {
        Some(subject) if habits.referrers => reply.header("OCI-Subject", subject),
        _ => reply,
    }
}

/// Whether all that a manifest consists of is there; its subject need not be.
fn has_all(shelf: &Shelf, repository: &str, document: &serde_json::Value) -> bool {
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    let digest = |part: &serde_json::Value| part["digest"].as_str().unwrap_or_default().to_owned();
    let kept = |part: &serde_json::Value| {
        let kind = part["mediaType"].as_str().unwrap_or_default();
        !kind.contains("nondistributable") && !kind.contains(".foreign.")
    };
    let config = document["config"]
        .is_object()
        .then(|| document["config"].clone());
    let mut blobs = config.into_iter().chain(list("layers")).filter(kept);
    blobs.all(|part| shelf.find_blob(repository, &digest(&part)).is_some())
        && list("manifests")
            .iter()
            .all(|part| shelf.find_manifest(repository, &digest(part)).is_some())
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128
        && text.starts_with(word)
        && text.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// Answers DELETE of a manifest or tag.
pub(super) fn delete_manifest(
    shelf: &mut Shelf,
    habits: &Habits,
    seen: &Seen,
    reference: &str,
) -> Reply {
    if !habits.deletes {
        return error(405, "UNSUPPORTED");
    }
    match shelf.delete_manifest(&seen.repository, reference) {
        true => Reply::new(202),
        false => error(404, "MANIFEST_UNKNOWN"),
    }
}

/// Answers DELETE of a blob.
pub(super) fn delete_blob(shelf: &mut Shelf, habits: &Habits, seen: &Seen, digest: &str) -> Reply {
    if !habits.deletes {
        return error(405, "UNSUPPORTED");
    }
    match shelf.delete_blob(&seen.repository, digest) {
        true => Reply::new(202),
        false => error(404, "BLOB_UNKNOWN"),
    }
}
