//! Upstream's `Warning` lines on their way to the client (distribution-spec, "Warnings").
//!
//! Invariant: the lines of one answer have at most 4096 bytes together, ours first.

use http::header::WARNING;
use http::{HeaderMap, HeaderValue};

/// The specification's bound of all lines.
const ALL_MAX: usize = 4096;

/// The lines of the specification's form, `299 - "text"`, in order, as far as they have room.
pub(crate) fn of(headers: &HeaderMap) -> Vec<HeaderValue> {
    let mut room = ALL_MAX;
    let lines = headers.get_all(WARNING).iter().filter(|line| is_told(line));
    let lines = lines.take_while(|line| {
        let fits = line.len() <= room;
        room = room.saturating_sub(line.len());
        fits
    });
    lines.cloned().collect()
}

/// Appends lines as far as there is room beside those that are there.
pub(crate) fn append<'l>(lines: impl IntoIterator<Item = &'l HeaderValue>, to: &mut HeaderMap) {
    let used: usize = to.get_all(WARNING).iter().map(HeaderValue::len).sum();
    let mut room = ALL_MAX.saturating_sub(used);
    for line in lines {
        if line.len() > room {
            return;
        }
        room -= line.len();
        to.append(WARNING, line.clone());
    }
}

/// Both at once.
pub(crate) fn relay(from: &HeaderMap, to: &mut HeaderMap) {
    append(&of(from), to);
}

fn is_told(line: &HeaderValue) -> bool {
    let text = line.to_str().ok();
    let quoted = text.and_then(|text| text.strip_prefix("299 - \"")?.strip_suffix('"'));
    quoted.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_together_are_bounded() {
        let mut from = HeaderMap::new();
        let line = |length: usize| {
            let text = format!("299 - \"{}\"", "x".repeat(length - 8));
            HeaderValue::try_from(text).unwrap()
        };
        for value in [
            line(2000),
            HeaderValue::from_static("110 - \"stale\""),
            line(2000),
        ] {
            from.append(WARNING, value);
        }
        from.append(WARNING, line(97));
        assert_eq!(of(&from).len(), 2);
        let mut to = HeaderMap::new();
        to.insert(WARNING, line(100));
        relay(&from, &mut to);
        let lengths: Vec<_> = to.get_all(WARNING).iter().map(HeaderValue::len).collect();
        assert_eq!(lengths, [100, 2000]);
        to.clear();
        relay(&from, &mut to);
        assert_eq!(to.get_all(WARNING).iter().count(), 2);
    }
}
