//! The response for a blob: whole, one part, or several as `multipart/byteranges`.
//!
//! Headers are the same whether the blob is held or still arriving: its size is known either way.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use oci::Digest;
use oci::range::{RangeHeader, Resolved, content_range, parse, resolve};
use swarm::{BlobReader, How, Slice};

use crate::access::{Answered, Body, Slices};
use crate::conditions::etag;
use crate::metrics::Source;
use crate::refusal::Refusal;

/// Parts answered in one response; more are answered with the whole (RFC 9110, 14.2).
const PARTS_MAX: usize = 8;
/// Whether the blob was held when it was asked for (`store`) or is on its way (`flight`).
const DARNER_SOURCE: &str = "darner-source";
/// Separates parts. Blobs are compressed or JSON; the client parses by length of part anyway.
const BOUNDARY: &str = "darner-c8a1b6f0e94d4d7f";
/// How long a head may wait for the first bytes; clients wait 30 s and longer for it.
const FIRST_BYTES: Duration = Duration::from_secs(10);
const OCTETS: &str = "application/octet-stream";

/// The ranges asked for. An `If-Range` that names anything but this very content voids them.
pub(super) fn ranges(headers: &HeaderMap, digest: &Digest) -> RangeHeader {
    let mut lines = headers.get_all(header::RANGE).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return RangeHeader::None,
        (Some(line), None) => line,
        (Some(_), Some(_)) => return RangeHeader::Ignored,
    };
    if let Some(condition) = headers.get(header::IF_RANGE)
        && *condition != etag(digest)
    {
        return RangeHeader::Ignored;
    }
    match line.to_str() {
        Ok(text) => parse(Some(text)),
        Err(_) => RangeHeader::Ignored,
    }
}

/// The answer to HEAD.
pub(super) fn head(total: u64, digest: &Digest) -> Answered {
    Answered {
        status: StatusCode::OK,
        headers: describe(digest, OCTETS, total),
        body: Body::Empty,
        source: None,
    }
}

/// The answer to GET.
///
/// It waits for the first bytes, for a while: a blob that fails before them, or is so small that all
/// of it is verified first, is refused instead of cut.
pub(super) async fn answer(
    blob: &BlobReader,
    digest: &Digest,
    ranges: &RangeHeader,
) -> Result<Answered, Refusal> {
    let total = blob.total();
    let resolved = match ranges {
        RangeHeader::Ranges(specs) => resolve(specs, total),
        RangeHeader::None | RangeHeader::Ignored => Resolved::Whole,
    };
    let (status, mut headers, body) = match resolved {
        Resolved::Unsatisfiable => return Err(Refusal::unsatisfiable(total)),
        Resolved::Parts(parts) if parts.len() <= PARTS_MAX => match parts.as_slice() {
            [part] => single(blob, digest, part),
            parts => multipart(blob, digest, parts),
        },
        Resolved::Parts(_) | Resolved::Whole => {
            let body = Body::Slices(blob.stream(0..total).boxed(), total);
            (StatusCode::OK, describe(digest, OCTETS, total), body)
        }
    };
    let body = match body {
        Body::Slices(slices, length) => Body::Slices(begun(slices).await?, length),
        body => body,
    };
    let source = match blob.how() {
        How::Held => Source::Store,
        How::Shared => Source::Peer,
        How::Joined | How::Started => Source::Upstream,
    };
    let told = match source {
        Source::Store => "store",
        // Where it comes from may change on the way: the admin port's flights tell.
        Source::Peer | Source::Supernode | Source::Upstream => "flight",
    };
    headers.insert(DARNER_SOURCE, HeaderValue::from_static(told));
    Ok(Answered {
        status,
        headers,
        body,
        source: Some(source),
    })
}

/// The same slices, the first of them at hand unless it takes too long.
async fn begun(mut slices: Slices) -> Result<Slices, Refusal> {
    match tokio::time::timeout(FIRST_BYTES, slices.next()).await {
        Ok(Some(Ok(first))) => Ok(stream::iter([Ok(first)]).chain(slices).boxed()),
        Ok(Some(Err(error))) => Err(Refusal::blob(&error)),
        Ok(None) => Ok(slices),
        // The end of a blob that is still arriving: the head goes out, and the client waits.
        Err(_) => Ok(slices),
    }
}

fn describe(digest: &Digest, content_type: &str, length: u64) -> HeaderMap {
    let value = |text: String| HeaderValue::try_from(text).expect("printable text");
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(header::CONTENT_TYPE, value(content_type.to_owned()));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert("docker-content-digest", value(digest.to_string()));
    headers.insert(header::ETAG, etag(digest));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers
}

type Partial = (StatusCode, HeaderMap, Body);

fn single(blob: &BlobReader, digest: &Digest, part: &Range<u64>) -> Partial {
    let length = part.end - part.start;
    let mut headers = describe(digest, OCTETS, length);
    let value = HeaderValue::try_from(content_range(part, blob.total()));
    headers.insert(
        header::CONTENT_RANGE,
        value.expect("digits are a header value"),
    );
    let body = Body::Slices(blob.stream(part.clone()).boxed(), length);
    (StatusCode::PARTIAL_CONTENT, headers, body)
}

/// Parts in the order asked for (RFC 9110, 15.3.7.2).
fn multipart(blob: &BlobReader, digest: &Digest, parts: &[Range<u64>]) -> Partial {
    let mut length = 0;
    let mut pieces: Vec<Slices> = Vec::with_capacity(parts.len() * 2 + 1);
    for (index, part) in parts.iter().enumerate() {
        let before = if index == 0 { "" } else { "\r\n" };
        let range = content_range(part, blob.total());
        let head = format!(
            "{before}--{BOUNDARY}\r\nContent-Type: {OCTETS}\r\nContent-Range: {range}\r\n\r\n"
        );
        length += head.len() as u64 + (part.end - part.start);
        pieces.push(said(head));
        pieces.push(blob.stream(part.clone()).boxed());
    }
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    length += end.len() as u64;
    pieces.push(said(end));
    let kind = format!("multipart/byteranges; boundary={BOUNDARY}");
    let body = Body::Slices(stream::iter(pieces).flatten().boxed(), length);
    (
        StatusCode::PARTIAL_CONTENT,
        describe(digest, &kind, length),
        body,
    )
}

fn said(text: String) -> Slices {
    let slice = Slice::from_memory(Bytes::from(text));
    stream::iter([Ok(slice)]).boxed()
}
