//! Tags and referrers: relayed with the client's rights, never kept.
//!
//! A page is small and changes with every push, and a stale list of referrers would hide a
//! signature that was withdrawn, so each request asks. `n`, `last` and `artifactType` go to
//! upstream, `ns` does not; the `Link` to the next page comes back as a path of ours, in the form
//! in which the client asked. What upstream does not heed of `n` and `last` is done here (`tags`).
//! A registry without the referrers API stays one: its 404 sends the client to the fallback tag.

mod tags;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use oci::Digest;

use crate::access::{Answered, Body};
use crate::front::{Front, Question, Reader};
use crate::metrics::Source;
use crate::refusal::{Kind, Refusal};
use crate::upstream::What;
use crate::warnings;
use tags::{Page, Wanted};

/// What of upstream's answer is for the client, besides the body and the link.
const RELAYED: [HeaderName; 2] = [
    header::CONTENT_TYPE,
    HeaderName::from_static("oci-filters-applied"),
];

/// Answers GET or HEAD of a list of tags; `uri` is what the client asked for.
pub(crate) async fn tags(
    front: &Front,
    reader: &Reader,
    query: &str,
    uri: &Uri,
    head: bool,
) -> Result<Answered, Refusal> {
    let wanted = Wanted::of(query)?;
    let what = What::Tags {
        query: wanted.asked(query),
    };
    let list = List::ask(front, reader, Kind::Tags, what).await?;
    let name = visible_name(uri).unwrap_or_else(|| reader.place.repository.to_string());
    let page = Page::read(&list.body, &name, &wanted);
    let page =
        page.ok_or_else(|| Refusal::invalid(Kind::Tags, "the registry's list is not one of tags"))?;
    let links = match &page.next {
        tags::Next::Upstream => list.links(uri),
        tags::Next::After(last) => {
            let query = format!("n={}&last={last}", wanted.count());
            next_link(uri, &query).into_iter().collect()
        }
        tags::Next::None => Vec::new(),
    };
    Ok(list.answer(page.body, links, head))
}

/// Answers GET or HEAD of what refers to a digest.
pub(crate) async fn referrers(
    front: &Front,
    reader: &Reader,
    (digest, query): (Digest, String),
    uri: &Uri,
    head: bool,
) -> Result<Answered, Refusal> {
    let what = What::Referrers { digest, query };
    let list = List::ask(front, reader, Kind::Manifest, what).await?;
    let links = list.links(uri);
    let body = list.body.clone();
    Ok(list.answer(body, links, head))
}

/// Upstream's answer.
struct List {
    headers: HeaderMap,
    body: Bytes,
}

impl List {
    async fn ask(front: &Front, reader: &Reader, kind: Kind, what: What) -> Result<Self, Refusal> {
        let within = front.limits.head;
        let answer = front.ask(reader, Question::get(what), within).await;
        let answer = answer.map_err(|error| front.told(reader, kind, &error))?;
        let max = usize::try_from(front.limits.page_bytes).unwrap_or(usize::MAX);
        let page = tokio::time::timeout(within, answer.body.collect(max)).await;
        let body = match page {
            Ok(Ok(Some(page))) => page,
            Ok(Ok(None)) => return Err(Refusal::invalid(kind, "the registry's list is too long")),
            Ok(Err(_)) | Err(_) => {
                return Err(Refusal::invalid(kind, "the registry's list breaks off"));
            }
        };
        if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() {
            return Err(Refusal::invalid(kind, "the registry's list is not JSON"));
        }
        Ok(Self {
            headers: answer.headers,
            body,
        })
    }

    fn links(&self, uri: &Uri) -> Vec<HeaderValue> {
        let lines = self.headers.get_all(header::LINK).iter();
        let ours = lines.filter_map(|line| relink(line.to_str().ok()?, uri));
        ours.filter_map(|line| HeaderValue::try_from(line).ok())
            .collect()
    }

    fn answer(self, body: Bytes, links: Vec<HeaderValue>, head: bool) -> Answered {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        for name in RELAYED {
            if let Some(value) = self.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        for link in links {
            headers.append(header::LINK, link);
        }
        warnings::relay(&self.headers, &mut headers);
        Answered {
            status: StatusCode::OK,
            headers,
            body: Body::of(body, head),
            source: Some(Source::Upstream),
        }
    }
}

/// The repository as the client's path names it; `None` where that holds escapes.
fn visible_name(uri: &Uri) -> Option<String> {
    let (_, name) = uri.path().split_once("/v2/")?;
    let name = name.strip_suffix("/tags/list")?;
    (!name.contains('%')).then(|| name.to_owned())
}

/// `<upstream's URL?last=b&n=2>; rel="next"` becomes `<our path?last=b&n=2>; rel="next"`.
///
/// Only the query is upstream's, so whatever host or prefix it names leads nowhere.
fn relink(line: &str, uri: &Uri) -> Option<String> {
    let (target, parameters) = line.trim().strip_prefix('<')?.split_once('>')?;
    let theirs = target.split_once('?').map_or("", |(_, query)| query);
    Some(format!("<{}>{parameters}", page_of(uri, theirs)))
}

fn next_link(uri: &Uri, query: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("<{}>; rel=\"next\"", page_of(uri, query))).ok()
}

/// The path that the client asked for with another query, but its `ns`.
fn page_of(uri: &Uri, query: &str) -> String {
    let theirs = query.split('&').filter(|pair| !is_ns(pair));
    let ours = uri.query().unwrap_or_default().split('&');
    let ours = ours.filter(|pair| is_ns(pair));
    let query: Vec<&str> = theirs.chain(ours).filter(|pair| !pair.is_empty()).collect();
    format!("{}?{}", uri.path(), query.join("&"))
}

fn is_ns(pair: &str) -> bool {
    pair.split('=').next() == Some("ns")
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

    #[test]
    fn names_as_the_client_writes_them() {
        for (path, name) in [
            ("/v2/quay.io/a/b/tags/list", Some("quay.io/a/b")),
            ("/quay.io/v2/a/tags/list?n=1", Some("a")),
            ("/v2/v2/tags/list", Some("v2")),
            ("/v2/%61/tags/list", None),
        ] {
            assert_eq!(visible_name(&path.parse().unwrap()).as_deref(), name);
        }
    }
}
