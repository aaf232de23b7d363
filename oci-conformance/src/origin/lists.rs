//! Lists by page: tags and referrers (distribution-spec, "Content Discovery").

use serde_json::json;

use super::answer::{error, json_reply};
use super::fault::Reply;
use super::habits::Habits;
use super::record::{Seen, parameters};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A page of tags.
pub(super) fn tags(habits: &Habits, seen: &Seen, mut tags: Vec<String>) -> Reply {
    let asked = match seen.parameter("n").filter(|_| habits.pages) {
        None => None,
        Some(n) => match n.parse::<usize>() {
            Ok(n) => Some(n),
            Err(_) => return error(400, "UNSUPPORTED"),
        },
    };
    if let Some(last) = seen.parameter("last").filter(|_| habits.pages) {
        tags.retain(|tag| *tag > last);
    }
    let count = asked.into_iter().chain(habits.page).min();
    let more = count.is_some_and(|count| count > 0 && count < tags.len());
    tags.truncate(count.unwrap_or(usize::MAX));
    let body = json!({"name": seen.repository, "tags": tags}).to_string();
    match tags.last() {
        Some(last) if more => {
            let n = asked.map_or(String::new(), |n| format!("n={n}&"));
            let repository = &seen.repository;
            let link = format!("</v2/{repository}/tags/list?{n}last={last}>; rel=\"next\"");
            json_reply(body).header("Link", &link)
        }
        _ => json_reply(body),
    }
}

/// A page of what refers to a digest.
pub(super) fn referrers(
    habits: &Habits,
    seen: &Seen,
    digest: &str,
    mut manifests: Vec<serde_json::Value>,
) -> Reply {
    if !habits.referrers {
        return error(404, "UNSUPPORTED");
    }
    if !is_digest(digest) {
        return error(400, "DIGEST_INVALID");
    }
    let kind = parameters(&seen.query).find(|(key, _)| key == "artifactType");
    if let Some((_, kind)) = &kind {
        manifests.retain(|manifest| manifest["artifactType"] == *kind);
    }
    // The marker of the next page is the digest of the last entry before it.
    if let Some(after) = seen.parameter("after") {
        manifests.retain(|manifest| manifest["digest"].as_str() > Some(&*after));
    }
    let size = habits.page.filter(|size| *size < manifests.len());
    manifests.truncate(size.unwrap_or(usize::MAX));
    let last = manifests.last().and_then(|last| last["digest"].as_str());
    let link = size.and(last).map(|last| {
        let kind = kind.as_ref().map_or(String::new(), |(_, kind)| {
            format!("artifactType={}&", kind.replace('+', "%2B"))
        });
        let repository = &seen.repository;
        format!("</v2/{repository}/referrers/{digest}?{kind}after={last}>; rel=\"next\"")
    });
    let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let mut reply = Reply::new(200)
        .header("Content-Type", INDEX)
        .body(body.to_string());
    if let Some(link) = link {
        reply = reply.header("Link", &link);
    }
    match kind {
        Some(_) => reply.header("OCI-Filters-Applied", "artifactType"),
        None => reply,
    }
}

fn is_digest(text: &str) -> bool {
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match text.split_once(':') {
        Some(("sha256", digits)) => hex(digits, 64),
        Some(("sha512", digits)) => hex(digits, 128),
        _ => false,
    }
}
