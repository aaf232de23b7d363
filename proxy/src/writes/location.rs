//! The form in which a client names a repository, so that what it is led to has the same. Pure.

use http::Uri;

/// A repository as a client's request names it: `/v2/quay.io/org/app`, or `/v2/org/app` and `ns`.
pub(super) struct Door {
    base: String,
    ns: Option<String>,
}

impl Door {
    /// Of a request for an upload, a manifest or a blob. `None` where the path's fixed words are
    /// escaped, which no client does.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let path = uri.path();
        let kinds = ["/blobs/uploads", "/manifests/", "/blobs/"];
        let end = kinds.iter().find_map(|kind| path.rfind(kind))?;
        let mut pairs = uri.query().unwrap_or_default().split('&');
        let ns = pairs.find(|pair| pair.split('=').next() == Some("ns"));
        Some(Self {
            base: path[..end].to_owned(),
            ns: ns.map(str::to_owned),
        })
    }

    /// Where an upload goes on.
    pub(super) fn upload(&self, session: &str, query: &str) -> String {
        let ns = self.ns.as_deref().unwrap_or_default();
        let query = [query, ns].into_iter().filter(|part| !part.is_empty());
        let query = query.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}/blobs/uploads/{session}{mark}{query}", self.base)
    }

    pub(super) fn blob(&self, digest: &str) -> String {
        self.content("blobs", digest)
    }

    pub(super) fn manifest(&self, reference: &str) -> String {
        self.content("manifests", reference)
    }

    fn content(&self, kind: &str, name: &str) -> String {
        let ns = self
            .ns
            .as_ref()
            .map_or(String::new(), |ns| format!("?{ns}"));
        format!("{}/{kind}/{name}{ns}", self.base)
    }
}

/// Whether a text is a digest of any algorithm, as far as a path may hold it.
pub(super) fn is_digest(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"=_-+.".contains(&b);
    text.split_once(':').is_some_and(|(algorithm, encoded)| {
        !algorithm.is_empty()
            && !encoded.is_empty()
            && (algorithm.bytes().chain(encoded.bytes())).all(plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_keep_the_client_s_form() {
        for (asked, upload, blob) in [
            (
                "/v2/org/app/blobs/uploads/?ns=quay.io&mount=x",
                "/v2/org/app/blobs/uploads/7?s=1&ns=quay.io",
                "/v2/org/app/blobs/a:b?ns=quay.io",
            ),
            (
                "/v2/quay.io/blobs/uploads/blobs/uploads/6?digest=a:b",
                "/v2/quay.io/blobs/uploads/blobs/uploads/7?s=1",
                "/v2/quay.io/blobs/uploads/blobs/a:b",
            ),
            (
                "/quay.io/v2/app/blobs/uploads",
                "/quay.io/v2/app/blobs/uploads/7?s=1",
                "/quay.io/v2/app/blobs/a:b",
            ),
        ] {
            let door = Door::of(&asked.parse().unwrap()).unwrap();
            assert_eq!(door.upload("7", "s=1"), upload);
            assert_eq!(door.blob("a:b"), blob);
        }
        let door = Door::of(&Uri::from_static("/v2/a/manifests/x?ns=q")).unwrap();
        assert_eq!(door.manifest("a:b"), "/v2/a/manifests/a:b?ns=q");
        assert_eq!(door.upload("7", ""), "/v2/a/blobs/uploads/7?ns=q");
        assert!(Door::of(&Uri::from_static("/v2/a/%62lobs/uploads/")).is_none());
    }

    #[test]
    fn digests_of_any_algorithm_and_nothing_else() {
        assert!(is_digest("sha256:00") && is_digest("a+b.c:Zz=_-"));
        for text in [
            "", "x", ":", "a:", ":b", "a:b/c", "a:b?c", "a:b\r\n", "a:b:c",
        ] {
            assert!(!is_digest(text), "{text}");
        }
    }
}
