//! Uploads and manifests are taken, by a registry itself or through a mirror in front of it.
//!
//! The steps are those of a client: it goes where the last `Location` said, whatever that is, and
//! adds nothing but the digest. What went through a mirror is looked for at the origin too, where
//! that is the suite's own.

mod manifest;
mod mount;
mod refused;
mod upload;

use bytes::Bytes;

use crate::check::{Check, Stop, check, must, skip};
use crate::client::{Request, Response};
use crate::stage::content::{blob_path, manifest_path};
use crate::stage::{Part, Stage};

pub(super) const CHECKS: &[Check] = &[
    check!(Push 1 Must, "distribution-spec v1.1.1, POST then PUT", "an upload begins with 202 and a Location on the registry that was asked, with all that is needed to go on", upload::begins),
    check!(Push 2 Must, "distribution-spec v1.1.1, Pushing a blob monolithically", "a blob is taken by POST and PUT, and by a single POST", upload::monolithic),
    check!(Push 3 Must, "distribution-spec v1.1.1, Pushing a blob in chunks", "a blob is taken in chunks, the last one in the PUT too, and streamed without a length", upload::chunks),
    check!(Push 4 Must, "distribution-spec v1.1.1, Pushing a blob in chunks", "a chunk out of order is 416, the status says where to go on, and going on there works", upload::out_of_order),
    check!(Push 5 Should, "distribution-spec main, Cancel a blob upload", "a cancelled upload is 204 and then gone", upload::cancelled),
    check!(Push 6 Must, "distribution-spec v1.1.1, Mounting a blob from another repository", "a mount is 201 with a Location or 202 with an upload, with and without a source, and 202 for one that is not there", mount::mounted),
    check!(Push 7 Own, "own: CVE-2024-39897, a cache that gave any blob to whoever mounted it", "a mount from a repository that the client cannot read is not made from the cache", mount::without_right),
    check!(Push 8 Should, "distribution-spec v1.1.1, Pushing blobs", "a wrong digest is 400 by every way of upload and for manifests, and nothing is kept", refused::wrong_digest),
    check!(Push 9 Must, "distribution-spec v1.1.1, Pushing Manifests", "a manifest by tag and by digest is 201 with a pullable Location and the client's digest", manifest::taken),
    check!(Push 10 Must, "distribution-spec v1.1.1, Pushing Manifests with Subject; main, Pushing Manifests, Pushing a blob in chunks", "OCI-Subject, OCI-Tag and OCI-Chunk-Min-Length are said and passed on", manifest::headers),
    check!(Push 11 Should, "distribution-spec v1.1.1, Pushing Manifests", "a manifest of 4 MiB is taken, and one over the limit is 413", refused::too_large),
    check!(Push 12 Own, "own: who pushes pulls right after", "after a push what it changed is served at once, whatever was asked before", manifest::served_at_once),
    check!(Push 13 Own, "own: a client must learn at once that a mirror takes no writes", "a read-only mirror answers every write 405 UNSUPPORTED, before the end of its body", refused::read_only),
];

/// A registry that takes no writes says so with the first one.
///
/// # Errors
/// Skips the check where writes are not tried or not taken.
async fn begin(stage: &Stage, repository: &str, query: &str) -> Result<Response, Stop> {
    stage.writable()?;
    let target = format!("/v2/{repository}/blobs/uploads/{query}");
    let answer = stage.mirror.ask("POST", &target).send().await?;
    if answer.status == 405 {
        skip!("it takes no writes");
    }
    Ok(answer)
}

/// Where a running upload goes on, of a POST that must be 202.
async fn upload(stage: &Stage, repository: &str) -> Result<String, Stop> {
    let answer = begin(stage, repository, "").await?;
    expect(&answer, "POST of an upload", &[202])?;
    location(&answer, "POST of an upload")
}

fn expect(answer: &Response, what: &str, statuses: &[u16]) -> Result<(), Stop> {
    must!(
        statuses.contains(&answer.status),
        "{what} is {}, not one of {statuses:?}",
        answer.status
    );
    Ok(())
}

fn location(answer: &Response, what: &str) -> Result<String, Stop> {
    match answer.header("location") {
        Some(location) if !location.is_empty() => Ok(location.to_owned()),
        _ => Err(Stop::Fail(format!("{what} has no Location"))),
    }
}

/// The Location with the digest, as a client makes it.
fn closing(location: &str, digest: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}digest={digest}")
}

/// A write exactly there, of bytes.
fn bytes(stage: &Stage, method: &str, target: &str, body: &Bytes) -> Request {
    stage
        .mirror
        .request(method, target)
        .header("Content-Type", "application/octet-stream")
        .body(body.clone())
}

/// Pushes a blob by POST and PUT.
async fn push(stage: &Stage, repository: &str, body: &Bytes) -> Result<Part, Stop> {
    let digest = crate::origin::sha256(body);
    let location = upload(stage, repository).await?;
    let closed = bytes(stage, "PUT", &closing(&location, &digest), body);
    expect(&closed.send().await?, "PUT of a blob", &[201])?;
    Ok(Part {
        digest,
        bytes: body.clone(),
    })
}

/// PUT of a manifest.
async fn put(
    stage: &Stage,
    repository: &str,
    reference: &str,
    (media_type, body): (&str, &Bytes),
) -> Result<Response, Stop> {
    let request = stage
        .mirror
        .ask("PUT", &manifest_path(repository, reference))
        .header("Content-Type", media_type)
        .body(body.clone());
    Ok(request.send().await?)
}

/// A blob is there, whole, at the registry under test, and at the suite's own origin behind it.
async fn is_there(stage: &Stage, repository: &str, part: &Part, how: &str) -> Result<(), Stop> {
    let path = blob_path(repository, &part.digest);
    let answer = stage.mirror.ask("GET", &path).send().await?;
    must!(
        answer.status == 200 && answer.body == part.bytes,
        "{how}: then GET is {} with {} of {} bytes",
        answer.status,
        answer.body.len(),
        part.bytes.len()
    );
    if let Ok(origin) = stage.origin() {
        must!(
            origin.blob(repository, &part.digest).as_ref() == Some(&part.bytes),
            "{how}: the blob is not at the origin"
        );
    }
    Ok(())
}

/// The blob is at the place that the end of its upload names.
async fn is_pullable(stage: &Stage, closed: &Response, part: &Part, how: &str) -> Result<(), Stop> {
    let place = location(closed, how)?;
    if stage.is_mirror() {
        is_ours(stage, &place, how)?;
    }
    let answer = stage
        .mirror
        .request("GET", &named(stage, &place))
        .send()
        .await?;
    must!(
        matches!(answer.status, 200 | 307) && (answer.status != 200 || answer.body == part.bytes),
        "{how}: its Location {place} is {}",
        answer.status
    );
    Ok(())
}

/// A path with `ns`, as a client that pulls through a mirror adds it; a whole URL as it is.
fn named(stage: &Stage, place: &str) -> String {
    match stage.mirror.namespace() {
        Some(ns) if place.starts_with('/') && !place.contains("ns=") => {
            let sign = if place.contains('?') { '&' } else { '?' };
            format!("{place}{sign}ns={ns}")
        }
        _ => place.to_owned(),
    }
}

/// A mirror's Location leads to the mirror.
fn is_ours(stage: &Stage, place: &str, what: &str) -> Result<(), Stop> {
    let site = stage.mirror.site().to_string();
    let ours = place.starts_with('/') && !place.starts_with("//");
    must!(
        ours || place.starts_with(&format!("{site}/")),
        "{what}: its Location {place} leads past the mirror"
    );
    Ok(())
}
