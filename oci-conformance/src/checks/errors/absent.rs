//! What is not there.

use super::expect;
use crate::check::{Finding, Stop, must, skip};
use crate::client::{Request, Response};
use crate::origin::sha256;
use crate::stage::Stage;
use crate::stage::content::{blob_path, manifest_path};

/// Something that nobody has: how it is called, where it would be, the codes that name it.
struct Missing {
    what: &'static str,
    path: String,
    codes: &'static [&'static str],
}

const MANIFEST_CODES: &[&str] = &["MANIFEST_UNKNOWN"];
const ANY_CODES: &[&str] = &["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "BLOB_UNKNOWN"];

/// Blob, manifest and tag that a repository does not have, and a repository that is none.
async fn missing(stage: &Stage) -> Result<Vec<Missing>, Stop> {
    let image = stage.image().await?;
    let digest = sha256(&stage.fresh(100));
    let (here, nowhere) = (image.repository, stage.repository());
    let one = |what, path, codes| Missing { what, path, codes };
    Ok(vec![
        one("blob", blob_path(&here, &digest), &["BLOB_UNKNOWN"]),
        one(
            "manifest by digest",
            manifest_path(&here, &digest),
            MANIFEST_CODES,
        ),
        one("tag", manifest_path(&here, "no-such-tag"), MANIFEST_CODES),
        one(
            "tag of an unknown repository",
            manifest_path(&nowhere, "latest"),
            ANY_CODES,
        ),
        one(
            "manifest of an unknown repository",
            manifest_path(&nowhere, &digest),
            ANY_CODES,
        ),
        one(
            "blob of an unknown repository",
            blob_path(&nowhere, &digest),
            ANY_CODES,
        ),
        one(
            "tag list of an unknown repository",
            format!("/v2/{nowhere}/tags/list"),
            &["NAME_UNKNOWN"],
        ),
    ])
}

pub(super) async fn not_found(stage: &Stage) -> Finding {
    for missing in missing(stage).await? {
        for method in ["GET", "HEAD"] {
            if method == "HEAD" && missing.path.ends_with("/tags/list") {
                continue;
            }
            for turn in expect::TURNS {
                let answer = expect::manifest(stage, method, &missing.path);
                let answer = answer.follow().await?;
                let what = format!("{method} of an unknown {}, {turn}", missing.what);
                expect::status(&answer, 404, &what)?;
            }
        }
    }
    Ok(())
}

pub(super) async fn form(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let mut json = 0;
    for missing in missing(stage).await? {
        let answer = expect::manifest(stage, "GET", &missing.path).send().await?;
        json += formed(&answer, &format!("unknown {}", missing.what))?;
        let request = expect::manifest(stage, "HEAD", &missing.path);
        without_body(request, &format!("unknown {}", missing.what)).await?;
    }
    let odd: [(&str, Request); 5] = [
        (
            "malformed digest",
            stage
                .mirror
                .get(&blob_path(&image.repository, "sha256:odd")),
        ),
        (
            "malformed tag",
            stage.mirror.get(&manifest_path(&image.repository, "-odd")),
        ),
        (
            "malformed name",
            stage.mirror.get("/v2/UPPER/manifests/latest"),
        ),
        (
            "method that is not served",
            stage.mirror.request("PROPFIND", &image.by_tag()),
        ),
        (
            "range beyond the end",
            stage
                .mirror
                .get(&image.layer_path())
                .range("bytes=999999999-"),
        ),
    ];
    for (what, request) in odd {
        json += formed(&request.follow().await?, what)?;
    }
    for path in ["/v2/UPPER/manifests/latest", "/v2/no/such/path"] {
        json += formed(&stage.mirror.get(path).send().await?, path)?;
        without_body(stage.mirror.head(path), path).await?;
    }
    if json == 0 {
        skip!("no error has a JSON body, which the specification allows");
    }
    Ok(())
}

/// One if the error is JSON, which must be of the right form; none if it is something else.
fn formed(answer: &Response, what: &str) -> Result<usize, Stop> {
    let kind = answer.header("content-type").unwrap_or_default();
    let says_json = kind.to_ascii_lowercase().contains("json");
    let is_json = serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok();
    if !(400..500).contains(&answer.status) || !(says_json || is_json) {
        return Ok(0);
    }
    expect::error_form(answer, what)?;
    Ok(1)
}

async fn without_body(request: Request, what: &str) -> Finding {
    let (answer, extra) = expect::with_rest(request).await?;
    let status = answer.status;
    must!(
        extra == 0,
        "HEAD of {what}: {status} with {extra} bytes of body"
    );
    Ok(())
}

pub(super) async fn matching_code(stage: &Stage) -> Finding {
    let mut json = 0;
    for missing in missing(stage).await? {
        let answer = expect::manifest(stage, "GET", &missing.path).send().await?;
        let what = format!("unknown {}", missing.what);
        if expect::codes(&answer).is_some() {
            expect::code(&answer, missing.codes, &what)?;
            json += 1;
        }
    }
    if json == 0 {
        skip!("no error has a JSON body, which the specification allows");
    }
    Ok(())
}
