//! Content named by a digest of an algorithm that nobody here can check: relayed, never kept.
//!
//! image-spec v1.1.1, "Digests", lets such digests pass; whether the bytes fit is for the client to
//! find out. So each request is upstream's to answer, with the client's rights, and takes no part
//! in flights, grants or the swarm.

use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use swarm::{Slice, SourceError};

use crate::access::{Answered, Body};
use crate::front::{Front, Question, Reader};
use crate::metrics::Source;
use crate::refusal::{Kind, Refusal};
use crate::upstream::What;

/// What of upstream's answer is for the client, besides the body and its length.
const RELAYED: [HeaderName; 2] = [
    header::CONTENT_TYPE,
    HeaderName::from_static("docker-content-digest"),
];

/// Answers GET or HEAD of `blobs/<digest>` or `manifests/<digest>`.
pub(crate) async fn serve(
    front: &Front,
    reader: &Reader,
    path: String,
    head: bool,
) -> Result<Answered, Refusal> {
    let kind = match path.starts_with("blobs/") {
        true => Kind::Blob,
        false => Kind::Manifest,
    };
    let what = What::Foreign { path };
    let question = match head {
        true => Question::head(what),
        false => Question::get(what),
    };
    let answer = front.ask(reader, question, front.limits.head).await;
    let answer = answer.map_err(|error| front.told(reader, kind, &error))?;
    let mut headers = HeaderMap::with_capacity(4);
    for name in RELAYED {
        if let Some(value) = answer.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let (body, length) = if head {
        (
            Body::Empty,
            answer.headers.get(header::CONTENT_LENGTH).cloned(),
        )
    } else {
        let length = answer.body.length();
        let length = length.ok_or_else(|| {
            Refusal::invalid(
                kind,
                "the registry does not tell the length of what cannot be checked",
            )
        })?;
        let slices = answer.body.map(|frame| {
            let frame = frame.map(Slice::from_memory);
            frame.map_err(|error| SourceError::unavailable(error.to_string()).into())
        });
        let body = Body::Slices(slices.boxed(), length);
        (body, Some(HeaderValue::from(length)))
    };
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    Ok(Answered {
        status: StatusCode::OK,
        headers,
        body,
        source: Some(Source::Upstream),
    })
}
