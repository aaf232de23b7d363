//! Writes that are refused: for a wrong digest, for their size, or all of them.

use std::time::Duration;

use bytes::Bytes;

use super::{bytes, closing, expect, push, put, upload};
use crate::check::{Finding, Stop, must, skip};
use crate::client::{Response, Trouble};
use crate::origin::{content, sha256};
use crate::stage::Stage;
use crate::stage::content::{MANIFEST, blob_path, image_manifest, manifest_path};

pub(super) async fn wrong_digest(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let body = content(0xC200, 6000);
    let wrong = sha256(b"something else");
    let place = upload(stage, &repository).await?;
    let put_it = bytes(stage, "PUT", &closing(&place, &wrong), &body);
    refused(stage, put_it.send().await?, &repository, "POST and PUT").await?;

    let path = format!("/v2/{repository}/blobs/uploads/?digest={wrong}");
    let single = stage.mirror.ask("POST", &path).body(body.clone());
    let single = single
        .header("Content-Type", "application/octet-stream")
        .send()
        .await?;
    // 202: it does not do this, and the digest is judged at the end.
    if single.status != 202 {
        refused(stage, single, &repository, "a single POST").await?;
    }

    let place = upload(stage, &repository).await?;
    let first = bytes(stage, "PATCH", &place, &body.slice(..3000));
    let first = first.header("Content-Range", "0-2999").send().await?;
    expect(&first, "a chunk", &[202])?;
    let place = super::location(&first, "a chunk")?;
    let last = bytes(stage, "PUT", &closing(&place, &wrong), &body.slice(3000..));
    let last = last.header("Content-Range", "3000-5999").send().await?;
    refused(stage, last, &repository, "chunks").await?;

    let place = upload(stage, &repository).await?;
    let stream = stage.mirror.request("PATCH", &place);
    let stream = stream.chunks(vec![body.clone()]).send().await?;
    expect(&stream, "a streamed upload", &[202])?;
    let place = super::location(&stream, "a streamed upload")?;
    let last = stage.mirror.request("PUT", &closing(&place, &wrong));
    refused(stage, last.send().await?, &repository, "a stream").await?;

    for digest in ["sha256:short", "md5:d41d8cd98f00b204e9800998ecf8427e", "x"] {
        let place = upload(stage, &repository).await?;
        let put_it = bytes(stage, "PUT", &closing(&place, digest), &body);
        let how = format!("PUT with the digest {digest}");
        expect(&put_it.send().await?, &how, &[400])?;
    }
    manifest(stage, &repository, &wrong).await
}

async fn manifest(stage: &Stage, repository: &str, wrong: &str) -> Finding {
    let config = push(stage, repository, &Bytes::from_static(b"{}")).await?;
    let document = Bytes::from(image_manifest(&config, &[]).to_string());
    let answer = put(stage, repository, wrong, (MANIFEST, &document)).await?;
    expect(
        &answer,
        "a manifest by a digest that is not its own",
        &[400],
    )?;
    for reference in [wrong.to_owned(), sha256(&document)] {
        let path = manifest_path(repository, &reference);
        let read = stage.mirror.ask("GET", &path);
        expect(&read.send().await?, &format!("then {path}"), &[404])?;
    }
    Ok(())
}

/// 400, and neither the digest that was said nor the true one is there.
async fn refused(stage: &Stage, answer: Response, repository: &str, how: &str) -> Finding {
    expect(&answer, &format!("a wrong digest by {how}"), &[400])?;
    for digest in [sha256(b"something else"), sha256(&content(0xC200, 6000))] {
        let path = blob_path(repository, &digest);
        let read = stage.mirror.ask("GET", &path).send().await?;
        expect(
            &read,
            &format!("after a wrong digest by {how} {path}"),
            &[404],
        )?;
    }
    Ok(())
}

/// What the specification expects at least.
const EXPECTED: usize = 4 << 20;
/// More than any registry should take.
const TOO_MUCH: usize = 64 << 20;

pub(super) async fn too_large(stage: &Stage) -> Finding {
    let repository = stage.repository();
    upload(stage, &repository).await?;
    let config = push(stage, &repository, &Bytes::from_static(b"{}")).await?;
    let large = |size: usize| {
        let mut document = image_manifest(&config, &[]);
        document["annotations"] = serde_json::json!({"fill": ""});
        let missing = size - document.to_string().len();
        document["annotations"]["fill"] = "x".repeat(missing).into();
        Bytes::from(document.to_string())
    };
    let body = large(EXPECTED);
    let answer = put(stage, &repository, "large", (MANIFEST, &body)).await?;
    expect(&answer, "a manifest of 4 MiB", &[201])?;
    let path = manifest_path(&repository, "large");
    let read = stage.mirror.ask("GET", &path);
    let read = read.send().await?;
    must!(
        read.status == 200 && read.body == body,
        "a manifest of 4 MiB that was taken is {} with {} bytes",
        read.status,
        read.body.len()
    );
    let answer = put(stage, &repository, "huge", (MANIFEST, &large(TOO_MUCH))).await?;
    expect(&answer, "a manifest of 64 MiB", &[413])
}

/// Every write that the protocol has, of something that is not there.
fn writes(repository: &str) -> Vec<(&'static str, String)> {
    let digest = sha256(b"never pushed");
    let uploads = format!("/v2/{repository}/blobs/uploads/");
    let session = format!("{uploads}11111111-2222-3333-4444-555555555555");
    vec![
        ("POST", uploads.clone()),
        ("POST", format!("{uploads}?digest={digest}")),
        (
            "POST",
            format!("{uploads}?mount={digest}&from={repository}"),
        ),
        ("PATCH", session.clone()),
        ("PUT", format!("{session}?digest={digest}")),
        ("DELETE", session),
        ("PUT", manifest_path(repository, "pushed")),
        ("PUT", manifest_path(repository, &digest)),
        ("DELETE", manifest_path(repository, "pushed")),
        ("DELETE", manifest_path(repository, &digest)),
        ("DELETE", blob_path(repository, &digest)),
    ]
}

pub(super) async fn read_only(stage: &Stage) -> Finding {
    let repository = stage.image().await?.repository;
    // Where an upload must not even begin, a chunk for none leaves nothing, and is 404 if writes
    // are taken.
    let uploads = format!("/v2/{repository}/blobs/uploads/");
    let begins = stage.is_writable() || stage.origin().is_ok();
    let (method, probe) = match begins {
        true => ("POST", uploads),
        false => (
            "PATCH",
            format!("{uploads}00000000-1111-2222-3333-444444444444"),
        ),
    };
    let probe = stage.mirror.ask(method, &probe).send().await?;
    if matches!(probe.status, 202 | 400 | 401 | 404 | 416) {
        skip!("it is not read-only: {method} is {}", probe.status);
    }
    for (method, target) in writes(&repository) {
        let answer = stage.mirror.ask(method, &target).send().await?;
        unsupported(&answer, method, &target)?;
        if method != "DELETE" {
            endless(stage, method, &target).await?;
        }
    }
    Ok(())
}

fn unsupported(answer: &Response, method: &str, target: &str) -> Result<(), Stop> {
    let code = answer.json()["errors"][0]["code"].clone();
    must!(
        answer.status == 405 && code == "UNSUPPORTED",
        "{method} {target} is {} with code {code}, not 405 UNSUPPORTED",
        answer.status
    );
    // RFC 9110, 15.5.6: it must say what is allowed instead.
    let allow = answer.header("allow").unwrap_or_default();
    must!(
        allow.contains("GET") && !allow.contains(method),
        "{method} {target} is 405 with Allow `{allow}`"
    );
    Ok(())
}

/// A body that never ends is answered all the same, and not waited for.
async fn endless(stage: &Stage, method: &str, target: &str) -> Finding {
    let mut connection = stage.mirror.connect().await?;
    let host = stage.mirror.site().authority();
    let target = super::named(stage, target);
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {MANIFEST}\r\n\
         Content-Length: 1073741824\r\n\r\nthe beginning of a gigabyte"
    );
    match connection.begin(head.as_bytes(), false).await {
        Ok(()) => {}
        Err(Trouble::Late(_)) => {
            must!(
                false,
                "{method} {target} with a body that comes slowly is not answered before its end"
            );
        }
        Err(other) => return Err(other.into()),
    }
    let status = connection.head().status;
    must!(
        status == 405,
        "{method} {target} with a gigabyte to come is {status}"
    );
    connection.rest().await?;
    // It cannot know where the next request begins, so it must hang up instead of waiting.
    must!(
        connection.closes_within(Duration::from_secs(30)).await,
        "after 405 it waits for the rest of a gigabyte"
    );
    Ok(())
}
