//! Blobs that are taken from another repository.

use super::{begin, bytes, closing, expect, is_pullable, is_there, location, push};
use crate::check::{Finding, Stop, must, skip};
use crate::client::Response;
use crate::origin::{content, sha256};
use crate::stage::content::blob_path;
use crate::stage::user::{OTHER, READER};
use crate::stage::{Part, Stage};

pub(super) async fn mounted(stage: &Stage) -> Finding {
    stage.writable()?;
    let source = stage.repository();
    let part = push(stage, &source, &content(0xC050, 5000)).await?;
    let target = stage.repository();
    let query = format!("?mount={}&from={source}", part.digest);
    let answer = begin(stage, &target, &query).await?;
    ends_well(stage, &answer, &target, &part, "a mount").await?;
    let target = stage.repository();
    let query = format!("?mount={}", part.digest);
    let answer = begin(stage, &target, &query).await?;
    ends_well(stage, &answer, &target, &part, "a mount without a source").await?;
    // From where it is not: an upload begins.
    let bytes = content(0xC051, 5000);
    let absent = Part {
        digest: sha256(&bytes),
        bytes,
    };
    for from in [source, stage.repository()] {
        let target = stage.repository();
        let query = format!("?mount={}&from={from}", absent.digest);
        let answer = begin(stage, &target, &query).await?;
        let how = format!("a mount of what {from} has not");
        expect(&answer, &how, &[202])?;
        ends_well(stage, &answer, &target, &absent, &how).await?;
    }
    Ok(())
}

/// It is there, or it can be uploaded now.
async fn ends_well(
    stage: &Stage,
    answer: &Response,
    repository: &str,
    part: &Part,
    how: &str,
) -> Result<(), Stop> {
    expect(answer, how, &[201, 202])?;
    if answer.status == 201 {
        is_pullable(stage, answer, part, how).await?;
    } else {
        let place = location(answer, how)?;
        let closed = bytes(stage, "PUT", &closing(&place, &part.digest), &part.bytes);
        expect(
            &closed.send().await?,
            &format!("{how}, and its PUT"),
            &[201],
        )?;
    }
    is_there(stage, repository, part, how).await
}

pub(super) async fn without_right(stage: &Stage) -> Finding {
    stage.writable()?;
    let origin = stage.origin()?;
    let (private, own) = (stage.repository(), stage.repository());
    let secret = content(0xC052, 5000);
    let digest = stage.blob(&private, secret).await?;
    stage.blob(&own, content(0xC053, 100)).await?;
    READER.owns(stage, &private)?;
    OTHER.owns(stage, &own)?;
    origin.require_basic();
    let (reader, writer) = (READER.basic(), OTHER.basic());
    let path = blob_path(&private, &digest);
    let cached = stage
        .mirror
        .ask("GET", &path)
        .header("Authorization", &reader);
    let cached = cached.send().await?.status;
    if cached != 200 {
        skip!("private repositories cannot be had through it: {cached}");
    }
    let target = blob_path(&own, &digest);
    for query in [
        format!("?mount={digest}&from={private}"),
        format!("?mount={digest}"),
    ] {
        let post = format!("/v2/{own}/blobs/uploads/{query}");
        let answer = stage.mirror.ask("POST", &post);
        let answer = answer.header("Authorization", &writer).send().await?;
        if answer.status == 405 {
            skip!("it takes no writes");
        }
        must!(
            answer.status != 201,
            "a mount {query} of what the client cannot read is 201"
        );
        for method in ["HEAD", "GET"] {
            let read = stage.mirror.ask(method, &target);
            let read = read.header("Authorization", &writer).send().await?;
            must!(
                read.status >= 400,
                "after it {method} of the blob in the client's own repository is {}",
                read.status
            );
        }
    }
    must!(
        origin.blob(&own, &digest).is_none(),
        "the origin has the blob in the client's repository"
    );
    Ok(())
}
