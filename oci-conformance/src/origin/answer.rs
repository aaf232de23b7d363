//! The honest answer to a request, and then what the script makes of it.

use std::ops::Range;

use serde_json::json;

use super::fault::Reply;
use super::record::{Kind, Seen, parameters};
use super::{State, fault, lock};

pub(super) fn answer(state: &State, seen: &Seen) -> Reply {
    if seen.kind != Kind::Token {
        let refusal = lock(&state.guard).refuses(seen);
        if let Some(refusal) = refusal {
            return refusal;
        }
    }
    let mut reply = honest(state, seen);
    for fault in fault::faults(&state.rules, seen) {
        reply = fault.spoil(reply);
    }
    cut_range(reply, seen)
}

fn honest(state: &State, seen: &Seen) -> Reply {
    if seen.kind == Kind::Token {
        return lock(&state.guard).token(seen);
    }
    if !matches!(seen.method.as_str(), "GET" | "HEAD") {
        return error(405, "UNSUPPORTED");
    }
    let shelf = lock(&state.shelf);
    match &seen.kind {
        Kind::Ping => json_reply("{}".to_owned()),
        Kind::Blob(digest) => match shelf.find_blob(&seen.repository, digest) {
            Some(bytes) => Reply::new(200)
                .header("Content-Type", "application/octet-stream")
                .header("Docker-Content-Digest", digest)
                .header("Accept-Ranges", "bytes")
                .body(bytes)
                .ranged(),
            None => error(404, "BLOB_UNKNOWN"),
        },
        Kind::Manifest(reference) => match shelf.find_manifest(&seen.repository, reference) {
            Some(manifest) => Reply::new(200)
                .header("Content-Type", &manifest.media_type)
                .header("Docker-Content-Digest", &manifest.digest)
                .body(manifest.bytes),
            None => error(404, "MANIFEST_UNKNOWN"),
        },
        Kind::Tags => match shelf.tags(&seen.repository) {
            Some(tags) => tags_page(seen, tags),
            None => error(404, "NAME_UNKNOWN"),
        },
        Kind::Referrers(digest) => referrers(seen, shelf.referrers(&seen.repository, digest)),
        Kind::Token => error(404, "UNSUPPORTED"),
        Kind::Other => match shelf.find_plain(&seen.path) {
            Some(bytes) => Reply::new(200).body(bytes).ranged(),
            None => error(404, "NAME_UNKNOWN"),
        },
    }
}

fn tags_page(seen: &Seen, mut tags: Vec<String>) -> Reply {
    if let Some(last) = seen.parameter("last") {
        tags.retain(|tag| *tag > last);
    }
    let count: Option<usize> = seen.parameter("n").and_then(|n| n.parse().ok());
    let more = count.is_some_and(|count| count > 0 && count < tags.len());
    tags.truncate(count.unwrap_or(usize::MAX));
    let body = json!({"name": seen.repository, "tags": tags}).to_string();
    match tags.last() {
        Some(last) if more => {
            let n = count.unwrap_or_default();
            let link = format!(
                "</v2/{}/tags/list?n={n}&last={last}>; rel=\"next\"",
                seen.repository
            );
            json_reply(body).header("Link", &link)
        }
        _ => json_reply(body),
    }
}

fn referrers(seen: &Seen, mut manifests: Vec<serde_json::Value>) -> Reply {
    let kind = parameters(&seen.query).find(|(key, _)| key == "artifactType");
    if let Some((_, kind)) = &kind {
        manifests.retain(|manifest| manifest["artifactType"] == *kind);
    }
    let index = "application/vnd.oci.image.index.v1+json";
    let body = json!({"schemaVersion": 2, "mediaType": index, "manifests": manifests});
    let reply = Reply::new(200)
        .header("Content-Type", index)
        .body(body.to_string());
    match kind {
        Some(_) => reply.header("OCI-Filters-Applied", "artifactType"),
        None => reply,
    }
}

fn json_reply(body: String) -> Reply {
    Reply::new(200)
        .header("Content-Type", "application/json")
        .body(body)
}

fn error(status: u16, code: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": "says the test origin"}]}).to_string();
    json_reply(body).status(status)
}

impl Reply {
    fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

/// Applies a single range; several are answered whole, as the RFC allows.
fn cut_range(mut reply: Reply, seen: &Seen) -> Reply {
    let total = reply.body.len();
    if !reply.ranged || reply.status != 200 || seen.method != "GET" {
        return reply;
    }
    let Some(wanted) = seen.range().and_then(|text| text.strip_prefix("bytes=")) else {
        return reply;
    };
    let Some(range) = read_range(wanted, total) else {
        return reply;
    };
    if range.is_empty() {
        let all = format!("bytes */{total}");
        return error(416, "SIZE_INVALID").header("Content-Range", &all);
    }
    let shift = usize::try_from(reply.range_shift).unwrap_or_default();
    let said = format!(
        "bytes {}-{}/{total}",
        range.start + shift,
        range.end - 1 + shift
    );
    reply.body = reply.body.slice(range);
    reply.status(206).header("Content-Range", &said)
}

/// `None` for what is not one range; an empty range for one outside the content.
fn read_range(text: &str, total: usize) -> Option<Range<usize>> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        let count: usize = last.parse().ok()?;
        return Some(total.saturating_sub(count)..total);
    }
    let first: usize = first.parse().ok()?;
    let end = match last {
        "" => total,
        last => last.parse::<usize>().ok()?.saturating_add(1).min(total),
    };
    Some(if first < end { first..end } else { 0..0 })
}
