//! Ranges and conditions of a GET or HEAD (RFC 9110, 13 and 14).
//!
//! Heeded: `If-None-Match`, `If-Range` and one range. Several ranges are answered whole, as the RFC
//! allows; what is no range is ignored.

use std::ops::Range;

use super::answer::error;
use super::fault::Reply;
use super::record::Seen;

/// The answer as the request's conditions make it.
pub(super) fn apply(reply: Reply, seen: &Seen) -> Reply {
    if reply.status != 200 || !matches!(seen.method.as_str(), "GET" | "HEAD") {
        return reply;
    }
    let tag = reply.tag().map(str::to_owned);
    if let (Some(tag), Some(known)) = (&tag, seen.header("if-none-match")) {
        let mut known = known.split(',').map(str::trim);
        if known.any(|known| known == "*" || known.trim_start_matches("W/") == tag) {
            return reply.status(304);
        }
    }
    let voided = seen.header("if-range");
    if seen.method == "HEAD" || voided.is_some_and(|known| Some(known) != tag.as_deref()) {
        return reply;
    }
    cut_range(reply, seen)
}

impl Reply {
    fn tag(&self) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case("etag"));
        found.map(|(_, value)| value.as_str())
    }
}

fn cut_range(mut reply: Reply, seen: &Seen) -> Reply {
    let total = reply.body.len();
    let wanted = seen.range().and_then(|text| text.strip_prefix("bytes="));
    let Some(wanted) = wanted.filter(|_| reply.ranged) else {
        return reply;
    };
    let Some(range) = read_range(wanted, total) else {
        return reply;
    };
    if range.is_empty() {
        let all = format!("bytes */{total}");
        return error(416, "SIZE_INVALID").header("Content-Range", &all);
    }
    let shift = usize::try_from(reply.range_shift).unwrap_or_default();
    let said = format!(
        "bytes {}-{}/{total}",
        range.start + shift,
        range.end - 1 + shift
    );
    reply.body = reply.body.slice(range);
    reply.status(206).header("Content-Range", &said)
}

/// `None` for what is not one range; an empty range for one outside the content.
fn read_range(text: &str, total: usize) -> Option<Range<usize>> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        return Some(total.saturating_sub(number(last)?)..total);
    }
    let first = number(first)?;
    let end = match last {
        "" => total,
        last => number(last)?.saturating_add(1).min(total),
    };
    Some(if first < end { first..end } else { 0..0 })
}

/// Digits only, as many as there are: what no integer holds is more than any content has.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}
