//! The head of a peer's answer: as much of HTTP/1.1 as a node speaks to another.
//!
//! Pure. What no node sends (chunks, encodings, several lengths) makes the answer wrong.

use std::ops::Range;

use http::StatusCode;
use oci::range::ContentRange;

/// Most header lines; our own answers have six.
const LINES_MAX: usize = 32;

/// What the head of an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Bytes of the body.
    pub(super) length: u64,
    /// Which bytes these are, and the blob's size, when it is a part.
    pub(super) part: Option<(Range<u64>, u64)>,
    /// What the line `darner-total` says.
    pub(super) total: Option<u64>,
    /// The connection can take another request.
    pub(super) keeps: bool,
}

/// Reads a head at the beginning of `bytes`: it and its length; `None` if it is not all there.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, &'static str> {
    let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
    let mut response = httparse::Response::new(&mut lines);
    let parsed = response
        .parse(bytes)
        .map_err(|_| "its answer is not HTTP/1.1")?;
    let httparse::Status::Complete(size) = parsed else {
        return Ok(None);
    };
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    let mut head = Head {
        status: status.ok_or("its answer has no status")?,
        length: 0,
        part: None,
        total: None,
        keeps: response.version == Some(1),
    };
    let mut length = None;
    for line in response.headers.iter() {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        let text = || std::str::from_utf8(line.value).map_err(|_| "its answer has a foreign line");
        if is("content-length") {
            let number = text()?.parse().map_err(|_| "its answer has no length")?;
            if length.replace(number).is_some() {
                return Err("its answer has several lengths");
            }
        } else if is("content-range") {
            head.part = match ContentRange::parse(text()?) {
                Some(ContentRange::Part {
                    range,
                    total: Some(total),
                }) => Some((range, total)),
                Some(ContentRange::Unsatisfied { total }) => {
                    head.total = Some(total);
                    None
                }
                _ => return Err("its answer has no usable Content-Range"),
            };
        } else if is("transfer-encoding") || is("content-encoding") {
            return Err("its answer is encoded");
        } else if is(super::TOTAL) {
            head.total = text()?.parse().ok();
        } else if is("connection") {
            head.keeps &= !line.value.eq_ignore_ascii_case(b"close");
        }
    }
    head.length = length.ok_or("its answer has no length")?;
    Ok(Some((head, size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_with_what_follows_left_alone() {
        let text = b"HTTP/1.1 206 Partial Content\r\ncontent-length: 3\r\n\
            Content-Range: bytes 4-6/9\r\n\r\nabc";
        let (head, size) = parse(text).unwrap().unwrap();
        assert_eq!(&text[size..], b"abc");
        assert_eq!(head.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!((head.length, head.part), (3, Some((4..7, 9))));
        assert!(head.keeps);
        for end in 0..size {
            assert_eq!(parse(&text[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_no_node_sends_is_wrong() {
        for lines in [
            "transfer-encoding: chunked",
            "content-length: 1\r\ncontent-encoding: gzip",
            "content-length: 1\r\ncontent-length: 1",
            "content-length: -1",
            "content-length: 1\r\ncontent-range: bytes 0-0/*",
            "x: y",
        ] {
            let text = format!("HTTP/1.1 206 Partial Content\r\n{lines}\r\n\r\n");
            assert!(parse(text.as_bytes()).is_err(), "{lines}");
        }
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_err());
    }

    #[test]
    fn a_connection_that_closes_is_not_kept() {
        let keeps = |text: &str| parse(text.as_bytes()).unwrap().unwrap().0.keeps;
        assert!(keeps("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.0 404 Not Found\r\ncontent-length: 0\r\n\r\n"
        ));
        let close = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n";
        assert!(!keeps(close));
    }
}
