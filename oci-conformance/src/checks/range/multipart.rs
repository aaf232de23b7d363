//! `multipart/byteranges`, read strictly enough that a wrong part is seen (RFC 9110, 14.6).

use crate::client::Response;

/// The parts of a 206: what each says it is, and its bytes.
pub(super) fn parts(answer: &Response) -> Result<Vec<(String, Vec<u8>)>, String> {
    let kind = answer.header("content-type").unwrap_or_default();
    if !kind
        .to_ascii_lowercase()
        .starts_with("multipart/byteranges")
    {
        let said = answer.header("content-range");
        let said = said.ok_or("206 without Content-Range and not multipart/byteranges")?;
        return Ok(vec![(said.to_owned(), answer.body.clone())]);
    }
    if answer.header("content-range").is_some() {
        return Err("Content-Range in the head of a multipart answer (15.3.7.2)".to_owned());
    }
    let boundary = kind
        .split(';')
        .find_map(|item| item.trim().strip_prefix("boundary="))
        .ok_or("multipart without a boundary")?;
    split(&answer.body, boundary.trim_matches('"'))
}

fn split(body: &[u8], boundary: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let line = format!("--{boundary}");
    let mut found = Vec::new();
    let start = position(body, line.as_bytes()).ok_or("the boundary never comes")?;
    let mut rest = &body[start + line.len()..];
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        let head = position(after, b"\r\n\r\n").ok_or("a part without an end of its head")?;
        let text = String::from_utf8_lossy(&after[..head]).into_owned();
        let said = text
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-range"))
            .ok_or("a part without Content-Range")?;
        // The bytes may hold anything, so the length is what the part says.
        let bytes = &after[head + 4..];
        let (first, last, _) =
            content_range(said.1.trim()).ok_or("a part whose Content-Range cannot be read")?;
        let length = last - first + 1;
        let body = bytes.get(..length).ok_or("a part that is too short")?;
        found.push((said.1.trim().to_owned(), body.to_vec()));
        rest = bytes[length..]
            .strip_prefix(format!("\r\n{line}").as_bytes())
            .ok_or("a part that does not end where it says")?;
    }
    if !rest.starts_with(b"--") {
        return Err("multipart without its last boundary".to_owned());
    }
    Ok(found)
}

/// First, last and total of `bytes first-last/total`.
pub(super) fn content_range(text: &str) -> Option<(usize, usize, usize)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last, total.parse().ok()?))
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|w| w == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_wrong_ones_refused() {
        let body = b"\r\n--b\r\nContent-Range: bytes 0-1/10\r\n\r\nab\r\n--b\r\nX: y\r\ncontent-range: bytes 4-4/10\r\n\r\nc\r\n--b--\r\n";
        let read = split(body, "b").unwrap();
        assert_eq!(read[0], ("bytes 0-1/10".to_owned(), b"ab".to_vec()));
        assert_eq!(read[1], ("bytes 4-4/10".to_owned(), b"c".to_vec()));
        for wrong in [
            &b"--b\r\nContent-Range: bytes 0-1/10\r\n\r\nabc\r\n--b--"[..],
            b"--b\r\nContent-Range: bytes 0-1/10\r\n\r\nab\r\n--b",
            b"--b\r\nContent-Type: text/plain\r\n\r\nab\r\n--b--",
            b"nothing",
        ] {
            assert!(split(wrong, "b").is_err());
        }
    }
}
