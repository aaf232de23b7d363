//! Uploads of blobs, from their beginning to their end.

use bytes::Bytes;

use super::{begin, bytes, closing, expect, is_ours, is_pullable, is_there, location, upload};
use crate::check::{Finding, Stop, must, skip};
use crate::client::Response;
use crate::origin::{Ask, Locations, content, sha256};
use crate::stage::user::READER;
use crate::stage::{Part, Stage};

fn part(seed: u64, length: usize) -> Part {
    let bytes = content(0xC000 + seed, length);
    Part {
        digest: sha256(&bytes),
        bytes,
    }
}

pub(super) async fn begins(stage: &Stage) -> Finding {
    stage.writable()?;
    let mut forms = vec![None];
    if let Ok(scripted) = stage.scripted() {
        let port = scripted.first.addr().port();
        forms = vec![
            Some(Locations::Relative),
            Some(Locations::Absolute),
            // The origin by another name: a host of its own to whoever compares names.
            Some(Locations::Storage(format!("http://localhost:{port}"))),
        ];
    }
    for (at, form) in forms.into_iter().enumerate() {
        let foreign = matches!(form, Some(Locations::Storage(_)));
        if let (Some(form), Ok(origin)) = (&form, stage.origin()) {
            let form = form.clone();
            origin.habits(|habits| habits.locations = form);
        }
        let how = format!("an upload whose Location is {form:?} at the origin");
        let repository = stage.repository();
        let part = part(at as u64, 3000);
        let answer = begin(stage, &repository, "").await?;
        if foreign && answer.status >= 400 {
            // It need not go to a host that only the origin vouches for.
            continue;
        }
        expect(&answer, &how, &[202])?;
        let place = location(&answer, &how)?;
        if stage.is_mirror() {
            is_ours(stage, &place, &how)?;
            let path = format!("/v2/{repository}/blobs/uploads/");
            must!(
                place.contains(&path),
                "{how}: the Location {place} is not under {path}"
            );
        }
        let closed = bytes(stage, "PUT", &closing(&place, &part.digest), &part.bytes);
        let closed = closed.send().await?;
        if foreign && closed.status >= 400 {
            continue;
        }
        expect(&closed, &format!("{how}: its PUT"), &[201])?;
        is_there(stage, &repository, &part, &how).await?;
    }
    credentials_stay(stage).await
}

/// A client's `Authorization` goes to the registry and not to the place where it keeps uploads.
async fn credentials_stay(stage: &Stage) -> Finding {
    let Ok(origin) = stage.origin() else {
        return Ok(());
    };
    let port = origin.addr().port();
    origin.require_basic();
    let storage = Locations::Storage(format!("http://localhost:{port}"));
    origin.habits(|habits| habits.locations = storage);
    let repository = stage.repository();
    READER.owns(stage, &repository)?;
    let basic = READER.basic();
    let part = part(9, 3000);
    let path = format!("/v2/{repository}/blobs/uploads/");
    let begun = stage.mirror.ask("POST", &path);
    let begun = begun.header("Authorization", &basic).send().await?;
    if let Some(place) = begun.header("location") {
        bytes(stage, "PUT", &closing(place, &part.digest), &part.bytes)
            .header("Authorization", &basic)
            .send()
            .await?;
    }
    let strayed = origin.seen(Ask::of(|seen| {
        let host = seen.header("host").unwrap_or_default();
        host.starts_with("localhost") && seen.authorization().is_some()
    }));
    must!(
        strayed.is_empty(),
        "the client's Authorization came to the storage host with {:?}",
        strayed.first().map(|seen| seen.path.clone())
    );
    Ok(())
}

pub(super) async fn monolithic(stage: &Stage) -> Finding {
    stage.writable()?;
    let repository = stage.repository();
    for (seed, length) in [(10, 0), (11, 1), (12, 3000), (13, 2 << 20)] {
        let part = part(seed, length);
        let how = format!("{length} bytes by POST and PUT");
        let place = upload(stage, &repository).await?;
        let closed = bytes(stage, "PUT", &closing(&place, &part.digest), &part.bytes);
        let closed = closed.send().await?;
        expect(&closed, &how, &[201])?;
        is_pullable(stage, &closed, &part, &how).await?;
        is_there(stage, &repository, &part, &how).await?;
    }
    for (seed, length) in [(14, 3000), (15, 2 << 20)] {
        let part = part(seed, length);
        let how = format!("{length} bytes by a single POST");
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", part.digest);
        let request = stage.mirror.ask("POST", &path);
        let mut answer = request
            .header("Content-Type", "application/octet-stream")
            .body(part.bytes.clone())
            .send()
            .await?;
        expect(&answer, &how, &[201, 202])?;
        if answer.status == 202 {
            // It does not do this, but begins an upload instead.
            let place = location(&answer, &how)?;
            let closed = bytes(stage, "PUT", &closing(&place, &part.digest), &part.bytes);
            answer = closed.send().await?;
            expect(&answer, &format!("{how}, and its PUT"), &[201])?;
        }
        is_pullable(stage, &answer, &part, &how).await?;
        is_there(stage, &repository, &part, &how).await?;
    }
    Ok(())
}

/// Sends one chunk by PATCH, and takes the next Location.
async fn chunk(
    stage: &Stage,
    place: &str,
    whole: &Bytes,
    from: usize,
    to: usize,
) -> Result<Response, Stop> {
    let request = bytes(stage, "PATCH", place, &whole.slice(from..to));
    let range = format!("{from}-{}", to - 1);
    Ok(request.header("Content-Range", &range).send().await?)
}

/// What every accepted chunk is answered.
fn accepted(answer: &Response, end: usize, how: &str) -> Result<String, Stop> {
    expect(answer, how, &[202])?;
    let range = answer.header("range");
    must!(
        range == Some(format!("0-{}", end - 1).as_str()),
        "{how}: Range is {range:?} after {end} bytes"
    );
    location(answer, how)
}

pub(super) async fn chunks(stage: &Stage) -> Finding {
    let repository = stage.repository();
    // All by PATCH; the last one in the PUT; streamed; streamed in one piece and then a chunk more.
    for (seed, last_in_put) in [(20, false), (21, true)] {
        let part = part(seed, 300_000);
        let how = format!("in chunks, the last one in the PUT: {last_in_put}");
        let mut place = upload(stage, &repository).await?;
        let cuts: &[usize] = if last_in_put {
            &[0, 100_000, 200_000]
        } else {
            &[0, 100_000, 200_000, 300_000]
        };
        for cut in cuts.windows(2) {
            let answer = chunk(stage, &place, &part.bytes, cut[0], cut[1]).await?;
            place = accepted(&answer, cut[1], &how)?;
            if stage.is_mirror() {
                is_ours(stage, &place, &how)?;
            }
        }
        let target = closing(&place, &part.digest);
        let request = if last_in_put {
            bytes(stage, "PUT", &target, &part.bytes.slice(200_000..))
                .header("Content-Range", "200000-299999")
        } else {
            stage.mirror.request("PUT", &target)
        };
        let closed = request.send().await?;
        expect(&closed, &format!("{how}: the PUT"), &[201])?;
        is_pullable(stage, &closed, &part, &how).await?;
        is_there(stage, &repository, &part, &how).await?;
    }
    streamed(stage, &repository).await
}

async fn streamed(stage: &Stage, repository: &str) -> Finding {
    for (seed, length) in [(22, 5000), (23, 1_500_000)] {
        let part = part(seed, length);
        let how = format!("{length} bytes streamed");
        let place = upload(stage, repository).await?;
        let pieces: Vec<Bytes> = (0..length)
            .step_by(40_000)
            .map(|at| part.bytes.slice(at..length.min(at + 40_000)))
            .collect();
        let request = stage.mirror.request("PATCH", &place);
        let answer = request
            .header("Content-Type", "application/octet-stream")
            .chunks(pieces)
            .send()
            .await?;
        let place = accepted(&answer, length, &how)?;
        let closed = stage.mirror.request("PUT", &closing(&place, &part.digest));
        let closed = closed.send().await?;
        expect(&closed, &format!("{how}: the PUT"), &[201])?;
        is_there(stage, repository, &part, &how).await?;
    }
    Ok(())
}

pub(super) async fn out_of_order(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let part = part(30, 9000);
    let place = upload(stage, &repository).await?;
    let early = chunk(stage, &place, &part.bytes, 3000, 6000).await?;
    expect(&early, "a second chunk before the first", &[416])?;
    let place = upload(stage, &repository).await?;
    let first = chunk(stage, &place, &part.bytes, 0, 3000).await?;
    let mut place = accepted(&first, 3000, "the first chunk")?;
    for (from, to) in [(6000, 9000), (0, 3000)] {
        let wrong = chunk(stage, &place, &part.bytes, from, to).await?;
        expect(&wrong, &format!("{from}-{to} after 3000 bytes"), &[416])?;
        let status = stage.mirror.request("GET", &place).send().await?;
        expect(&status, "the status of an upload", &[204])?;
        let range = status.header("range");
        must!(
            range == Some("0-2999"),
            "the status after 3000 bytes has Range {range:?}"
        );
        place = location(&status, "the status of an upload")?;
        if stage.is_mirror() {
            is_ours(stage, &place, "the status of an upload")?;
        }
    }
    let last = bytes(
        stage,
        "PUT",
        &closing(&place, &part.digest),
        &part.bytes.slice(6000..),
    );
    let last = last.header("Content-Range", "6000-8999").send().await?;
    expect(&last, "a last chunk out of order in the PUT", &[416])?;
    let next = chunk(stage, &place, &part.bytes, 3000, 6000).await?;
    let place = accepted(&next, 6000, "the chunk that was missing")?;
    let rest = bytes(
        stage,
        "PUT",
        &closing(&place, &part.digest),
        &part.bytes.slice(6000..),
    );
    let closed = rest.header("Content-Range", "6000-8999").send().await?;
    expect(&closed, "the last chunk in the PUT", &[201])?;
    is_there(stage, &repository, &part, "after all that").await
}

pub(super) async fn cancelled(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let part = part(40, 3000);
    let place = upload(stage, &repository).await?;
    let first = chunk(stage, &place, &part.bytes, 0, 1000).await?;
    let place = accepted(&first, 1000, "the first chunk")?;
    let cancelled = stage.mirror.request("DELETE", &place).send().await?;
    if matches!(cancelled.status, 400 | 404 | 405) {
        // No released text has it.
        let status = stage.mirror.request("GET", &place).send().await?;
        must!(
            status.status == 204,
            "cancelling is {}, and the upload is {} all the same",
            cancelled.status,
            status.status
        );
        skip!("it cancels no uploads: {}", cancelled.status);
    }
    expect(&cancelled, "DELETE of an upload", &[204])?;
    let status = stage.mirror.request("GET", &place).send().await?;
    expect(&status, "the status of a cancelled upload", &[404])?;
    let more = bytes(
        stage,
        "PUT",
        &closing(&place, &part.digest),
        &part.bytes.slice(1000..),
    );
    expect(&more.send().await?, "PUT to a cancelled upload", &[404])?;
    if let Ok(origin) = stage.origin() {
        must!(
            origin.blob(&repository, &part.digest).is_none(),
            "the blob of a cancelled upload is at the origin"
        );
    }
    Ok(())
}
