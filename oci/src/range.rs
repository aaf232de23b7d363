//! Byte ranges: what a client asks (`Range`) and what a part says of itself (`Content-Range`).
//!
//! Follows RFC 9110 section 14 with one choice: a reversed range (`500-0`) is kept and cannot be
//! satisfied (416, as the official conformance suite wants) where the RFC would ignore the field.
//! Ranges handed out are half open and never empty. Not here: `If-Range`, and the multipart body.

use std::fmt;
use std::ops::Range;

/// More parts than this in one field are not worth answering apart (RFC 9110 section 14.2 lets a
/// server ignore such a field); real clients ask for one.
const SPECS_MAX: usize = 32;

/// The unit that registries speak.
const UNIT: &str = "bytes";

/// What a `Range` field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeHeader {
    /// There is no such field.
    None,
    /// One or more ranges, in the client's order.
    Ranges(Vec<Spec>),
    /// Malformed, of another unit, or of too many parts: answered as if absent.
    Ignored,
}

/// One range as written; positions beyond `u64` are held as `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `a-b`, both ends included; `a` may be greater than `b`.
    FromTo(u64, u64),
    /// `a-`
    From(u64),
    /// `-n`, the last `n` bytes.
    Last(u64),
}

/// What a set of ranges means for content of a known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Answer 200 with everything.
    Whole,
    /// Answer 206 with these parts: each within the content and not empty, in the client's order.
    Parts(Vec<Range<u64>>),
    /// Answer 416.
    Unsatisfiable,
}

/// Reads a `Range` field's value.
pub fn parse(header: Option<&str>) -> RangeHeader {
    let Some(text) = header else {
        return RangeHeader::None;
    };
    let Some((unit, set)) = text.trim().split_once('=') else {
        return RangeHeader::Ignored;
    };
    if !unit.eq_ignore_ascii_case(UNIT) {
        return RangeHeader::Ignored;
    }
    // Empty list elements are legal and say nothing (RFC 9110 section 5.6.1.2).
    let elements = set.split(',').map(|e| e.trim_matches([' ', '\t']));
    let specs: Option<Vec<Spec>> = elements
        .filter(|element| !element.is_empty())
        .take(SPECS_MAX + 1)
        .map(spec)
        .collect();
    match specs {
        Some(specs) if (1..=SPECS_MAX).contains(&specs.len()) => RangeHeader::Ranges(specs),
        _ => RangeHeader::Ignored,
    }
}

fn spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => number(last).map(Spec::Last),
        (false, true) => number(first).map(Spec::From),
        (false, false) => Some(Spec::FromTo(number(first)?, number(last)?)),
    }
}

/// Digits only; a number too large for `u64` is as good as its greatest value.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

impl Spec {
    /// The part of content of `total` bytes that this names, or `None` if there is none.
    pub fn within(self, total: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::FromTo(first, last) if first <= last => first..last.saturating_add(1).min(total),
            Self::FromTo(..) => return None,
            Self::From(first) => first..total,
            Self::Last(count) => total.saturating_sub(count)..total,
        };
        (range.start < range.end).then_some(range)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromTo(first, last) => write!(f, "{first}-{last}"),
            Self::From(first) => write!(f, "{first}-"),
            Self::Last(count) => write!(f, "-{count}"),
        }
    }
}

/// Prints a `Range` field's value; the inverse of [`parse`].
pub fn header(specs: &[Spec]) -> String {
    let specs: Vec<String> = specs.iter().map(Spec::to_string).collect();
    format!("{UNIT}={}", specs.join(","))
}

/// Applies a client's ranges to content of `total` bytes (RFC 9110 sections 14.1.2 and 15.5.17).
///
/// Ranges that lie outside are left out while another one fits. Overlapping ranges that together
/// ask for more than the content are answered whole, so that a small request cannot cost a large
/// answer.
pub fn resolve(specs: &[Spec], total: u64) -> Resolved {
    let parts: Vec<Range<u64>> = specs.iter().filter_map(|spec| spec.within(total)).collect();
    if parts.is_empty() {
        // A suffix of empty content is satisfiable, yet no `Content-Range` can say so.
        let suffix = |spec: &Spec| matches!(spec, Spec::Last(count) if *count > 0);
        return if total == 0 && specs.iter().any(suffix) {
            Resolved::Whole
        } else {
            Resolved::Unsatisfiable
        };
    }
    let asked = parts
        .iter()
        .fold(0u64, |sum, part| sum.saturating_add(part.end - part.start));
    if asked > total {
        return Resolved::Whole;
    }
    Resolved::Parts(parts)
}

/// A `Content-Range` value for a part, `bytes a-b/total`. The range must not be empty.
pub fn content_range(range: &Range<u64>, total: u64) -> String {
    debug_assert!(range.start < range.end && range.end <= total);
    format!("{UNIT} {}-{}/{total}", range.start, range.end - 1)
}

/// The `Content-Range` value of a 416, `bytes */total`.
pub fn content_range_unsatisfied(total: u64) -> String {
    format!("{UNIT} */{total}")
}

/// A `Content-Range` field as upstream sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// A part of the content, half open; `total` is `None` where the sender wrote `*`.
    Part {
        /// The bytes that the body holds.
        range: Range<u64>,
        /// Size of the whole content.
        total: Option<u64>,
    },
    /// `bytes */total`, which belongs to a 416.
    Unsatisfied {
        /// Size of the whole content.
        total: u64,
    },
}

impl ContentRange {
    /// Reads the value; `None` if it is malformed, of another unit or contradicts itself.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case(UNIT) {
            return None;
        }
        let (part, total) = rest.trim_start().split_once('/')?;
        let total = match total {
            "*" => None,
            digits => Some(exact(digits)?),
        };
        if part == "*" {
            return total.map(|total| Self::Unsatisfied { total });
        }
        let (first, last) = part.split_once('-')?;
        let range = exact(first)?..exact(last)?.checked_add(1)?;
        let fits = range.start < range.end && total.is_none_or(|total| range.end <= total);
        fits.then_some(Self::Part { range, total })
    }
}

fn exact(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { range, total } => {
                write!(f, "{UNIT} {}-{}/", range.start, range.end - 1)?;
                match total {
                    Some(total) => write!(f, "{total}"),
                    None => f.write_str("*"),
                }
            }
            Self::Unsatisfied { total } => f.write_str(&content_range_unsatisfied(*total)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(text: &str, total: u64) -> Resolved {
        match parse(Some(text)) {
            RangeHeader::Ranges(specs) => resolve(&specs, total),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn one_range() {
        for (text, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-", 0..10),
            ("bytes=3-5", 3..6),
            ("bytes=9-9", 9..10),
            ("bytes=5-99", 5..10),
            ("bytes=0-99999999999999999999999", 0..10),
            ("bytes=-1", 9..10),
            ("bytes=-99", 0..10),
            ("Bytes=1-2", 1..3),
            ("bytes= 1-2 ,", 1..3),
        ] {
            assert_eq!(asked(text, 10), Resolved::Parts(vec![part]), "{text}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order_and_lose_those_outside() {
        assert_eq!(
            asked("bytes=8-9,0-1,70-80", 10),
            Resolved::Parts(vec![8..10, 0..2])
        );
        assert_eq!(asked("bytes=0-,0-,0-", 10), Resolved::Whole);
    }

    #[test]
    fn what_cannot_be_satisfied() {
        for text in [
            "bytes=10-",
            "bytes=10-20",
            "bytes=500-0",
            "bytes=5-4",
            "bytes=-0",
            "bytes=99999999999999999999999-",
        ] {
            assert_eq!(asked(text, 10), Resolved::Unsatisfiable, "{text}");
        }
        assert_eq!(asked("bytes=0-", 0), Resolved::Unsatisfiable);
        assert_eq!(asked("bytes=-5", 0), Resolved::Whole);
    }

    #[test]
    fn what_is_ignored() {
        let many = format!("bytes={}", vec!["0-0"; SPECS_MAX + 1].join(","));
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=1-2-3",
            "bytes 1-2",
            "bytes =1-2",
            "items=0-1",
            "bytes=0x1-2",
            "bytes=+1-2",
            "bytes=1-2;3-4",
            "bytes=0-1,x",
            "bytes=٣-٤",
            &many,
        ] {
            assert_eq!(parse(Some(text)), RangeHeader::Ignored, "{text:?}");
        }
        assert_eq!(parse(None), RangeHeader::None);
    }

    #[test]
    fn content_range_refuses_contradictions() {
        for text in [
            "",
            "bytes",
            "bytes 0-1",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes */*",
            "items 0-1/2",
            "bytes a-1/2",
            "bytes 0-18446744073709551615/*",
            "bytes=0-1/2",
            "bytes 0-1/-2",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text:?}");
        }
    }

    fn any_spec() -> impl Strategy<Value = Spec> {
        prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(a, b)| Spec::FromTo(a, b)),
            any::<u64>().prop_map(Spec::From),
            any::<u64>().prop_map(Spec::Last),
        ]
    }

    proptest! {
        #[test]
        fn prints_what_it_parses(specs in prop::collection::vec(any_spec(), 1..=SPECS_MAX)) {
            prop_assert_eq!(parse(Some(&header(&specs))), RangeHeader::Ranges(specs));
        }

        #[test]
        fn parts_lie_within(specs in prop::collection::vec(any_spec(), 1..4), total in 0u64..200) {
            if let Resolved::Parts(parts) = resolve(&specs, total) {
                for part in parts {
                    prop_assert!(part.start < part.end && part.end <= total);
                }
            }
        }

        #[test]
        fn content_range_is_inverse(start in 0u64..u64::MAX - 1, length in 1u64..1 << 40, known in any::<bool>()) {
            let end = start.saturating_add(length).min(u64::MAX - 1);
            let printed = ContentRange::Part { range: start..end, total: known.then_some(end) };
            prop_assert_eq!(ContentRange::parse(&printed.to_string()), Some(printed));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            let _ = (parse(Some(&text)), ContentRange::parse(&text));
        }
    }
}
