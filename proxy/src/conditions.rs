//! Conditional requests: what a client holds already is not sent again (RFC 9110, 13.1.2).
//!
//! Content named by its digest has that as its strong entity tag. Rights are checked and tags
//! resolved before a condition is looked at, so a 304 says no more than the content would.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use oci::Digest;

use crate::access::{Answered, Body};

/// The entity tag of this content.
pub(crate) fn etag(digest: &Digest) -> HeaderValue {
    let tag = HeaderValue::try_from(format!("\"{digest}\""));
    tag.expect("a digest is printable")
}

/// Whether `If-None-Match` names this content, so that it need not be sent.
pub(crate) fn holds(headers: &HeaderMap, digest: &Digest) -> bool {
    let mut lines = headers.get_all(header::IF_NONE_MATCH).iter().peekable();
    if lines.peek().is_none() {
        return false;
    }
    let own = etag(digest);
    let tags = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut tags = tags.map(<[u8]>::trim_ascii);
    // The weak comparison: W/ is left out of account.
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == own.as_bytes())
}

/// 304 instead of an answer without a body, if the client holds the content.
pub(crate) fn answer(mut answered: Answered, headers: &HeaderMap, digest: &Digest) -> Answered {
    if holds(headers, digest) {
        answered.status = StatusCode::NOT_MODIFIED;
        answered.headers.remove(header::CONTENT_LENGTH);
        answered.body = Body::Empty;
        answered.source = None;
    }
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_weak_tags_and_the_star_are_read() {
        let digest: Digest = format!("sha256:{:064}", 7).parse().unwrap();
        let holds = |lines: &[String]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                let value = HeaderValue::try_from(line).unwrap();
                headers.append(header::IF_NONE_MATCH, value);
            }
            holds(&headers, &digest)
        };
        let own = format!("\"{digest}\"");
        let other = "\"another\"".to_owned();
        assert!(!holds(&[]));
        assert!(!holds(&[other.clone(), digest.to_string()]));
        assert!(holds(&["*".to_owned()]));
        assert!(holds(&[format!("{other} , {own}")]));
        assert!(holds(&[other, format!("W/{own}")]));
    }
}
