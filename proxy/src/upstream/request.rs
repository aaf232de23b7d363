//! What is asked and what is answered, in HTTP's words: paths, ranges, statuses. Pure.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, StatusCode};
use oci::range::ContentRange;
use swarm::FetchRange;

use super::ask::{Answer, Ask, What};
use super::body::Body;
use super::gate;

/// Path and query under `/v2/` of an endpoint that names the repository so.
pub(super) fn path(what: &What, repository: &str) -> String {
    let (path, query) = match what {
        What::Manifest(reference) => (format!("/v2/{repository}/manifests/{reference}"), ""),
        What::Blob(digest) => (format!("/v2/{repository}/blobs/{digest}"), ""),
        What::Foreign { path } => (format!("/v2/{repository}/{path}"), ""),
        What::Tags { query } => (format!("/v2/{repository}/tags/list"), query.as_str()),
        What::Referrers { digest, query } => (
            format!("/v2/{repository}/referrers/{digest}"),
            query.as_str(),
        ),
    };
    match query {
        "" => path,
        query => format!("{path}?{query}"),
    }
}

/// `Accept` and `Range`.
pub(super) fn headers(ask: &Ask) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for accept in &ask.accept {
        headers.append(ACCEPT, accept.clone());
    }
    if let Some(value) = ask.range.as_ref().and_then(range) {
        headers.insert(RANGE, value);
    }
    headers
}

fn range(range: &FetchRange) -> Option<HeaderValue> {
    let text = match range {
        FetchRange::All => return None,
        FetchRange::From(start) => format!("bytes={start}-"),
        FetchRange::Span(span) => format!("bytes={}-{}", span.start, span.end.saturating_sub(1)),
        FetchRange::Last(count) => format!("bytes=-{count}"),
    };
    HeaderValue::try_from(text).ok()
}

/// The blob's size that a 416 tells (`Content-Range: bytes */total`).
pub(super) fn unsatisfied_total(headers: &HeaderMap) -> Option<u64> {
    match ContentRange::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)? {
        ContentRange::Unsatisfied { total } => Some(total),
        ContentRange::Part { .. } => None,
    }
}

/// The bytes and the total that a 206 tells; one without a total is of no use.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    match ContentRange::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)? {
        ContentRange::Part { range, total } => Some((range, total?)),
        ContentRange::Unsatisfied { .. } => None,
    }
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn challenge_lines(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(WWW_AUTHENTICATE).iter().cloned().collect()
}

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    gate::retry_after(text, SystemTime::now())
}

/// The answer to a GET as HEAD would have given it; the rest of the body is not read.
pub(super) fn as_head(mut answer: Answer) -> Answer {
    if answer.status == StatusCode::PARTIAL_CONTENT {
        let total = content_range(&answer.headers).map(|(_, total)| total);
        answer.headers.remove(CONTENT_RANGE);
        answer.headers.remove(CONTENT_LENGTH);
        if let Some(total) = total {
            answer.headers.insert(CONTENT_LENGTH, total.into());
        }
        answer.status = StatusCode::OK;
    }
    answer.body = Body::new(oci::client::Body::empty());
    answer
}
