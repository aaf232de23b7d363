//! The honest answer to a request, and then what the script makes of it.

use std::ops::Range;

use serde_json::json;

use super::fault::{Fault, Reply};
use super::gate::Gate;
use super::record::{Kind, Seen};
use super::{State, fault, lists, lock, manage, upload};

/// What is decided when a request's head has come.
pub(super) struct Verdict {
    /// The answer, where it does not wait for the body.
    pub(super) early: Option<Reply>,
    faults: Vec<Fault>,
}

impl Verdict {
    /// The gate that the request's body passes.
    pub(super) fn pace(&self) -> Option<&Gate> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::PaceBody(gate) => Some(gate),
            _ => None,
        })
    }
}

/// Rights first, then the script: whether the body is wanted at all.
pub(super) fn judge(state: &State, seen: &Seen) -> Verdict {
    if seen.kind != Kind::Token {
        let refusal = lock(&state.guard).refuses(seen);
        if let Some(refusal) = refusal {
            return Verdict {
                early: Some(refusal),
                faults: Vec::new(),
            };
        }
    }
    let faults = fault::faults(&state.rules, seen);
    let early = faults.iter().any(|fault| matches!(fault, Fault::Early));
    let early = early.then(|| spoil(error(400, "UNSUPPORTED"), &faults));
    Verdict { early, faults }
}

/// The answer to a request that has come whole.
pub(super) fn answer(state: &State, seen: &Seen, verdict: &Verdict) -> Reply {
    cut_range(spoil(honest(state, seen), &verdict.faults), seen)
}

fn spoil(reply: Reply, faults: &[Fault]) -> Reply {
    let faults = faults.iter().cloned();
    faults.fold(reply, |reply, fault| fault.spoil(reply))
}

fn honest(state: &State, seen: &Seen) -> Reply {
    let habits = lock(&state.habits).clone();
    let reply = match &seen.kind {
        Kind::Token => lock(&state.guard).token(seen),
        Kind::Upload(_) | Kind::Storage(_) => {
            let may_mount = lock(&state.guard).may_mount(seen);
            let url = format!("http://{}", state.addr);
            let mut shelf = lock(&state.shelf);
            upload::answer(&mut shelf, &habits, &url, seen, may_mount)
        }
        Kind::Manifest(reference) if seen.method == "PUT" => {
            manage::put(&mut lock(&state.shelf), &habits, seen, reference)
        }
        Kind::Manifest(reference) if seen.method == "DELETE" => {
            manage::delete_manifest(&mut lock(&state.shelf), &habits, seen, reference)
        }
        Kind::Blob(digest) if seen.method == "DELETE" => {
            manage::delete_blob(&mut lock(&state.shelf), &habits, seen, digest)
        }
        _ if !matches!(seen.method.as_str(), "GET" | "HEAD") => error(405, "UNSUPPORTED"),
        _ => read(state, seen),
    };
    match &habits.warning {
        Some(line) => reply.header("Warning", line),
        None => reply,
    }
}

fn read(state: &State, seen: &Seen) -> Reply {
    let habits = lock(&state.habits).clone();
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
            Some(tags) => lists::tags(&habits, seen, tags),
            None => error(404, "NAME_UNKNOWN"),
        },
        Kind::Referrers(digest) => {
            let found = shelf.referrers(&seen.repository, digest);
            lists::referrers(&habits, seen, digest, found)
        }
        Kind::Other => match shelf.find_plain(&seen.path) {
            Some(bytes) => Reply::new(200).body(bytes).ranged(),
            None => error(404, "NAME_UNKNOWN"),
        },
        Kind::Token | Kind::Upload(_) | Kind::Storage(_) => error(404, "UNSUPPORTED"),
    }
}

pub(super) fn json_reply(body: String) -> Reply {
    Reply::new(200)
        .header("Content-Type", "application/json")
        .body(body)
}

pub(super) fn error(status: u16, code: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": "says the test origin"}]}).to_string();
    json_reply(body).status(status)
}

impl Reply {
    pub(super) fn status(mut self, status: u16) -> Self {
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
