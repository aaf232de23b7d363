//! Where a redirect leads. Pure: what may be followed is decided in `Client::send`.

use http::{HeaderValue, StatusCode, Uri};

/// Whether an answer with this status names another place for the same request.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The absolute URL that `location` means, seen from `base` (RFC 3986, 5.2, without dot segments in
/// relative references: registries do not send them). `None` if it is no URL.
pub fn resolve(base: &Uri, location: &HeaderValue) -> Option<Uri> {
    let location = escaped(location.as_bytes());
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let absolute = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", base.path())
    } else if location.is_empty() {
        return None;
    } else {
        let folder = base.path().rfind('/').map_or("/", |i| &base.path()[..=i]);
        format!("{scheme}://{authority}{folder}{location}")
    };
    absolute.parse().ok()
}

/// Some servers leave spaces and other bytes unescaped that no URL may hold.
fn escaped(raw: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(raw.len());
    for byte in raw {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`') => {
                text.push(*byte as char);
            }
            _ => write!(text, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base: Uri = "https://r.example:5000/v2/a/blobs/sha256:1?x=y"
            .parse()
            .unwrap();
        let table = [
            (
                "https://cdn.example/b?sig=1%2F2",
                Some("https://cdn.example/b?sig=1%2F2"),
            ),
            ("//cdn.example/b", Some("https://cdn.example/b")),
            ("/b?c", Some("https://r.example:5000/b?c")),
            ("b", Some("https://r.example:5000/v2/a/blobs/b")),
            ("?z", Some("https://r.example:5000/v2/a/blobs/sha256:1?z")),
            (
                "/next?u=https://x/",
                Some("https://r.example:5000/next?u=https://x/"),
            ),
            (
                "http://169.254.169.254/latest#f",
                Some("http://169.254.169.254/latest"),
            ),
            ("/a b", Some("https://r.example:5000/a%20b")),
            ("", None),
            ("https://", None),
        ];
        for (location, expected) in table {
            let got = resolve(&base, &HeaderValue::from_str(location).unwrap());
            assert_eq!(
                got.map(|u| u.to_string()).as_deref(),
                expected,
                "{location}"
            );
        }
    }
}
