//! A page of tags as the client asked for it, also where upstream heeds `n` and `last` not. Pure.
//!
//! distribution-spec, "Listing Tags": at most `n` tags, those after `last` in the list's order,
//! none and no link for `n=0`. docker-registry 2.8 answers every request with all tags.

use bytes::Bytes;
use oci::{Tag, query};
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Most tags of a page, whatever is asked for.
const COUNT_MAX: usize = 10_000;

/// What the client wants of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    count: Option<usize>,
    last: Option<String>,
}

impl Wanted {
    /// # Errors
    /// For an `n` that is no number.
    pub(super) fn of(text: &str) -> Result<Self, Refusal> {
        let count = match query::value(text, "n") {
            None => None,
            Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                // More digits than a number has are only more than the most.
                Some(n.parse().unwrap_or(usize::MAX).min(COUNT_MAX))
            }
            Some(_) => return Err(Refusal::query("n is not a number of tags")),
        };
        let last = query::value(text, "last").filter(|last| !last.is_empty());
        Ok(Self { count, last })
    }

    /// Most tags that are answered.
    pub(super) fn count(&self) -> usize {
        self.count.unwrap_or(COUNT_MAX)
    }

    /// The query for upstream: as the client wrote it, but for a number that some registries refuse.
    pub(super) fn asked(&self, text: &str) -> String {
        let Some(count) = self.count else {
            return text.to_owned();
        };
        // Upstream must be asked, for the right and for whether the repository is there.
        let count = count.max(1);
        if query::value(text, "n").is_some_and(|n| n == count.to_string()) {
            return text.to_owned();
        }
        match query::without(text, "n") {
            rest if rest.is_empty() => format!("n={count}"),
            rest => format!("{rest}&n={count}"),
        }
    }
}

/// Where the list goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Where upstream says, if it does.
    Upstream,
    /// After this tag.
    After(Tag),
    /// Nowhere.
    None,
}

/// A page for the client.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) body: Bytes,
    pub(super) next: Next,
}

impl Page {
    /// Upstream's page under the client's name of the repository; `None` if it is no page of tags.
    pub(super) fn read(bytes: &[u8], name: &str, wanted: &Wanted) -> Option<Self> {
        let mut document: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        let mut tags: Vec<String> = match document.remove("tags") {
            None | Some(Value::Null) => Vec::new(),
            Some(tags) => serde_json::from_value(tags).ok()?,
        };
        let before = tags.len();
        if let Some(last) = &wanted.last {
            drop_up_to(&mut tags, last);
        }
        let all_dropped = tags.is_empty() && before > 0;
        let cut = wanted.count.is_some_and(|count| count < tags.len());
        tags.truncate(wanted.count.unwrap_or(usize::MAX));
        let next = match tags.last() {
            _ if wanted.count == Some(0) => Next::None,
            Some(last) if cut => last.parse().map_or(Next::None, Next::After),
            // It would lead to the same page again.
            _ if all_dropped => Next::None,
            _ => Next::Upstream,
        };
        document.insert("name".to_owned(), name.into());
        document.insert("tags".to_owned(), tags.into());
        Some(Self {
            body: serde_json::to_vec(&document).ok()?.into(),
            next,
        })
    }
}

/// Removes what is not after `last`, in the order that the list has: that of ASCII, or that of
/// words. A list in neither is only cut behind `last` itself; one in which nothing comes before
/// `last` in both orders is a page that upstream has made.
fn drop_up_to(tags: &mut Vec<String>, last: &str) {
    let word = |tag: &str| (tag.to_ascii_lowercase(), tag.to_owned());
    let before = |tag: &String| tag.as_str() <= last && word(tag) <= word(last);
    if let Some(at) = tags.iter().position(|tag| tag == last) {
        tags.drain(..=at);
    } else if !tags.iter().any(before) {
        // Nothing to remove.
    } else if tags.is_sorted() {
        tags.retain(|tag| tag.as_str() > last);
    } else if tags.is_sorted_by_key(|tag| word(tag)) {
        tags.retain(|tag| word(tag) > word(last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, tags: &[&str]) -> (Vec<String>, Next) {
        let wanted = Wanted::of(text).unwrap();
        let body = serde_json::json!({"name": "theirs", "tags": tags, "more": 1});
        let page = Page::read(body.to_string().as_bytes(), "ours", &wanted).unwrap();
        let document: Value = serde_json::from_slice(&page.body).unwrap();
        assert_eq!(
            (&document["name"], &document["more"]),
            (&"ours".into(), &1.into())
        );
        let tags = serde_json::from_value(document["tags"].clone()).unwrap();
        (tags, page.next)
    }

    #[test]
    fn pages_that_upstream_does_not_make() {
        let all = ["A", "b", "c", "d"];
        let after = |tag: &str| Next::After(tag.parse().unwrap());
        for (query, tags, next) in [
            ("", &all[..], Next::Upstream),
            ("n=2", &["A", "b"], after("b")),
            ("n=2&last=b", &["c", "d"], Next::Upstream),
            ("n=1&last=B", &["b"], after("b")),
            ("last=bb", &["c", "d"], Next::Upstream),
            ("last=z", &[], Next::None),
            ("n=0", &[], Next::None),
            ("n=99999999999999999999999", &all[..], Next::Upstream),
        ] {
            let (got, to) = read(query, &all);
            assert_eq!(
                (got.as_slice(), to),
                (
                    tags.iter()
                        .map(|t| (*t).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    next
                ),
                "{query}"
            );
        }
        // In the order of words, and in none.
        assert_eq!(read("last=B", &["a", "B", "c"]).0, ["c"]);
        assert_eq!(read("last=b", &["a", "C", "d"]).0, ["C", "d"]);
        assert_eq!(read("last=b", &["z", "a", "M"]).0, ["z", "a", "M"]);
        assert_eq!(read("last=b", &["C", "d"]).0, ["C", "d"]);
        // A page that upstream has cut is as it was.
        assert_eq!(
            read("n=2&last=b", &["c", "d"]),
            (vec!["c".to_owned(), "d".to_owned()], Next::Upstream)
        );
    }

    #[test]
    fn what_upstream_is_asked() {
        for (query, asked) in [
            ("", ""),
            ("n=5&last=a", "n=5&last=a"),
            ("n=0", "n=1"),
            ("last=a&n=100000", "last=a&n=10000"),
            ("n=005", "n=5"),
        ] {
            assert_eq!(Wanted::of(query).unwrap().asked(query), asked);
        }
        for wrong in ["n=-1", "n=x", "n=", "n=1.5", "n=+1"] {
            assert!(Wanted::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_list() {
        let wanted = Wanted::of("").unwrap();
        for text in ["[]", "{\"tags\":\"x\"}", "{\"tags\":[1]}", "1"] {
            assert!(
                Page::read(text.as_bytes(), "a", &wanted).is_none(),
                "{text}"
            );
        }
        let empty = Page::read(b"{\"tags\":null}", "a", &wanted).unwrap();
        assert_eq!(empty.body, "{\"name\":\"a\",\"tags\":[]}");
    }
}
