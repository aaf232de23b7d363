//! Tags and referrers: relayed with the client's rights, never kept.
//!
//! A page is small and changes with every push, and a stale list of referrers would hide a
//! signature that was withdrawn, so each request asks. `n`, `last` and `artifactType` go to
//! upstream as the client wrote them, `ns` does not; the `Link` to the next page comes back as a
//! path of ours, in the form in which the client asked.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};

use crate::access::{Answered, Body};
use crate::front::{Front, Question, Reader};
use crate::metrics::Source;
use crate::refusal::{Kind, Refusal};
use crate::upstream::What;

/// What of upstream's answer is for the client, besides the body and the link.
const RELAYED: [HeaderName; 2] = [
    header::CONTENT_TYPE,
    HeaderName::from_static("oci-filters-applied"),
];

/// Answers GET or HEAD of a list; `uri` is what the client asked for.
pub(crate) async fn serve(
    front: &Front,
    reader: &Reader,
    what: What,
    uri: &Uri,
    head: bool,
) -> Result<Answered, Refusal> {
    let kind = match &what {
        What::Tags { .. } => Kind::Tags,
        What::Manifest(_) | What::Blob(_) | What::Referrers { .. } => Kind::Manifest,
    };
    let within = front.limits.head;
    let answer = front.ask(reader, Question::get(what), within).await;
    let answer = answer.map_err(|error| front.told(reader, kind, &error))?;
    let max = usize::try_from(front.limits.page_bytes).unwrap_or(usize::MAX);
    let page = tokio::time::timeout(within, answer.body.collect(max)).await;
    let page: Bytes = match page {
        Ok(Ok(Some(page))) => page,
        Ok(Ok(None)) => return Err(Refusal::invalid(kind, "the registry's list is too long")),
        Ok(Err(_)) | Err(_) => {
            return Err(Refusal::invalid(kind, "the registry's list breaks off"));
        }
    };
    if serde_json::from_slice::<serde::de::IgnoredAny>(&page).is_err() {
        return Err(Refusal::invalid(kind, "the registry's list is not JSON"));
    }
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(page.len()));
    for name in RELAYED {
        if let Some(value) = answer.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    for line in answer.headers.get_all(header::LINK) {
        let ours = line.to_str().ok().and_then(|line| relink(line, uri));
        if let Some(ours) = ours.and_then(|line| HeaderValue::try_from(line).ok()) {
            headers.append(header::LINK, ours);
        }
    }
    Ok(Answered {
        status: StatusCode::OK,
        headers,
        body: Body::of(page, head),
        source: Some(Source::Upstream),
    })
}

/// `<upstream's URL?last=b&n=2>; rel="next"` becomes `<our path?last=b&n=2>; rel="next"`.
///
/// Only the query is upstream's, so whatever host or prefix it names leads nowhere.
fn relink(line: &str, uri: &Uri) -> Option<String> {
    let (target, parameters) = line.trim().strip_prefix('<')?.split_once('>')?;
    let theirs = target.split_once('?').map_or("", |(_, query)| query);
    let theirs = theirs.split('&').filter(|pair| !is_ns(pair));
    let ours = uri.query().unwrap_or_default().split('&').filter(is_ns_of);
    let query: Vec<&str> = theirs.chain(ours).filter(|pair| !pair.is_empty()).collect();
    Some(format!("<{}?{}>{parameters}", uri.path(), query.join("&")))
}

fn is_ns(pair: &str) -> bool {
    pair.split('=').next() == Some("ns")
}

fn is_ns_of(pair: &&str) -> bool {
    is_ns(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_back_to_us() {
        let table = [
            (
                "</v2/a/tags/list?last=b&n=2>; rel=\"next\"",
                "/v2/a/tags/list?n=2&ns=quay.io",
                "</v2/a/tags/list?last=b&n=2&ns=quay.io>; rel=\"next\"",
            ),
            (
                "<https://up/pre/v2/a/tags/list?ns=x&last=b>; rel=next",
                "/v2/quay.io/a/tags/list",
                "</v2/quay.io/a/tags/list?last=b>; rel=next",
            ),
        ];
        for (theirs, asked, ours) in table {
            let uri: Uri = asked.parse().unwrap();
            assert_eq!(relink(theirs, &uri).unwrap(), ours);
        }
        let uri = Uri::from_static("/v2/a/tags/list");
        assert_eq!(relink("next", &uri), None);
    }
}
