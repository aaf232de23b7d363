//! What checks of pulls have in common: how they ask, and what an answer must be.
//!
//! Every word of a failure names the request as the check calls it, what was wanted and what came.

use std::time::Duration;

use serde_json::Value;

use crate::check::{Finding, Stop, must};
use crate::client::{Request, Response};
use crate::origin::{Reply, sha256, sha512};
use crate::stage::Stage;
use crate::stage::content::ANY_MANIFEST;

/// The first request for something, and the one after it: a mirror answers the second from memory.
pub(super) const TURNS: [&str; 2] = ["cold", "warm"];

/// The codes of the specification; there are no others ("Error Codes").
pub(super) const CODES: [&str; 14] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
];

/// How long a side that was asked to close may take; after it what has come has come.
const CLOSING: Duration = Duration::from_secs(5);

/// GET or HEAD of a manifest of any type.
pub(super) fn manifest(stage: &Stage, method: &str, path: &str) -> Request {
    ask(stage, method, path).header("Accept", ANY_MANIFEST)
}

/// GET or HEAD as clients pull.
pub(super) fn ask(stage: &Stage, method: &str, path: &str) -> Request {
    match method {
        "HEAD" => stage.mirror.head(path),
        _ => stage.mirror.get(path),
    }
}

/// Sends a request whose answer has no body, and takes all that comes on the connection: the
/// answer, and how many bytes follow its head.
pub(super) async fn with_rest(request: Request) -> Result<(Response, usize), Stop> {
    let mut connection = request.open().await?;
    let answer = connection.rest().await?;
    connection.closes_within(CLOSING).await;
    let extra = connection.at_least(0).await.len();
    Ok((answer, extra))
}

/// The status is this one.
pub(super) fn status(answer: &Response, wanted: u16, what: &str) -> Finding {
    let came = answer.status;
    must!(came == wanted, "{what}: {came}, not {wanted}");
    Ok(())
}

/// 200 with exactly these bytes.
pub(super) fn whole(answer: &Response, wanted: &[u8], what: &str) -> Finding {
    status(answer, 200, what)?;
    body(answer, wanted, what)
}

/// Exactly these bytes, whatever the status.
pub(super) fn body(answer: &Response, wanted: &[u8], what: &str) -> Finding {
    let (came, length) = (answer.body.len(), wanted.len());
    must!(
        answer.complete(),
        "{what}: the body ends early ({:?}) after {came} bytes of {length}",
        answer.ending
    );
    must!(came == length, "{what}: {came} bytes, not {length}");
    let wrong = answer.body.iter().zip(wanted).position(|(a, b)| a != b);
    must!(
        wrong.is_none(),
        "{what}: the bytes differ from offset {} on",
        wrong.unwrap_or_default()
    );
    Ok(())
}

/// The header has this value.
pub(super) fn header(answer: &Response, name: &str, wanted: &str, what: &str) -> Finding {
    let came = answer.header(name);
    must!(
        came == Some(wanted),
        "{what}: {name} is {}, not `{wanted}`",
        shown(came)
    );
    Ok(())
}

/// `Docker-Content-Digest` is there and is a digest of these bytes.
pub(super) fn digest_of(answer: &Response, bytes: &[u8], what: &str) -> Finding {
    let came = answer.header("docker-content-digest");
    must!(
        came.is_some_and(|digest| fits(digest, bytes)),
        "{what}: Docker-Content-Digest is {}, the content's is {}",
        shown(came),
        sha256(bytes)
    );
    Ok(())
}

/// Whether a sha256 or sha512 digest is that of these bytes.
pub(super) fn fits(digest: &str, bytes: &[u8]) -> bool {
    digest == sha256(bytes) || digest == sha512(bytes)
}

/// A header's value for people.
pub(super) fn shown(value: Option<&str>) -> String {
    value.map_or("missing", |value| value).to_owned()
}

/// The codes of a JSON error; `None` if the body is no JSON, which the specification allows.
pub(super) fn codes(answer: &Response) -> Option<Vec<String>> {
    let json: Value = serde_json::from_slice(&answer.body).ok()?;
    let errors = json["errors"].as_array().cloned().unwrap_or_default();
    let code = |error: &Value| error["code"].as_str().unwrap_or_default().to_owned();
    Some(errors.iter().map(code).collect())
}

/// A JSON error of the specification's form with codes of its list.
pub(super) fn error_form(answer: &Response, what: &str) -> Finding {
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = answer.text();
    let kind = answer.header("content-type").unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    must!(
        essence.eq_ignore_ascii_case("application/json"),
        "{what}: a JSON error of type `{kind}`, not application/json"
    );
    let errors = json["errors"].as_array();
    let errors = errors.filter(|errors| !errors.is_empty());
    let Some(errors) = errors else {
        must!(false, "{what}: JSON without a list `errors`: {text}");
        return Ok(());
    };
    for error in errors {
        let code = error["code"].as_str().unwrap_or_default();
        must!(
            CODES.contains(&code),
            "{what}: `{code}` is none of the specification's codes"
        );
        let message = &error["message"];
        must!(
            message.is_null() || message.is_string(),
            "{what}: `message` is no text: {message}"
        );
    }
    Ok(())
}

/// One of the JSON error's codes is one of these.
pub(super) fn code(answer: &Response, wanted: &[&str], what: &str) -> Finding {
    let came = codes(answer).unwrap_or_default();
    must!(
        came.iter().any(|code| wanted.contains(&code.as_str())),
        "{what}: code `{}`, not {}",
        came.join(", "),
        wanted.join(" or ")
    );
    Ok(())
}

/// An origin's answer with this body of JSON.
pub(super) fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::new(status)
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

/// An origin's refusal as registries word it.
pub(super) fn refusal(status: u16, code: &str) -> Reply {
    let body = serde_json::json!({"errors": [{"code": code, "message": "says the origin"}]});
    json_reply(status, &body)
}
