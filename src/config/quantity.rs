//! Sizes, shares and durations as people write them: `20GiB`, `400M`, `15%`, `30s`.
//!
//! `K M G T` are powers of 1000 and `KiB MiB GiB TiB` powers of 1024, a bare number is bytes, an
//! `s`, `ms`, `m`, `h` or `d` ends a duration. Parsing and printing are inverse.

use std::time::Duration;

const DECIMAL: [(&str, u64); 4] = [
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("K", 1_000),
];
const BINARY: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];
const TIME: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Bytes from `20GiB`, `1.5G`, `400MB`, `4096`; `None` if it is not a size or does not fit.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        unit => BINARY
            .iter()
            .chain(&DECIMAL)
            .find(|(name, _)| {
                let name = name.to_ascii_lowercase();
                // `Mi` is how Kubernetes writes MiB, `MB` how disks are sold.
                unit == name || unit == name.trim_end_matches('b') || unit == format!("{name}b")
            })
            .map(|(_, factor)| *factor)?,
    };
    scale(number, factor)
}

/// A size in the largest unit that divides it.
pub(crate) fn print_size(bytes: u64) -> String {
    let divides = |unit: &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(unit.1);
    let unit = BINARY
        .iter()
        .find(divides)
        .or_else(|| DECIMAL.iter().find(divides));
    match unit {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// A duration from `30s`, `1.5h`, `250ms`; the unit is required.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let factor = TIME.iter().find(|(name, _)| *name == unit)?.1;
    scale(number, factor).map(Duration::from_millis)
}

/// A duration in the largest unit that divides it.
pub(crate) fn print_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unit = TIME
        .iter()
        .find(|unit| millis > 0 && millis.is_multiple_of(unit.1));
    match unit {
        Some((name, factor)) => format!("{}{name}", millis / factor),
        None => "0s".to_owned(),
    }
}

/// A percentage from `15%`, at most 100.
pub(crate) fn parse_percent(text: &str) -> Option<u8> {
    let percent: u8 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (percent <= 100).then_some(percent)
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// `number` (digits with at most one point) times `factor`, exactly; `None` on overflow.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let mut total = u128::from(whole) * u128::from(factor);
    if !fraction.is_empty() {
        let numerator: u64 = fraction.parse().ok()?;
        let denominator = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        total += u128::from(numerator) * u128::from(factor) / denominator;
    }
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("20GiB", 20 << 30),
            ("20 GiB", 20 << 30),
            ("20Gi", 20 << 30),
            ("400M", 400_000_000),
            ("400MB", 400_000_000),
            ("400m", 400_000_000),
            ("1.5K", 1_500),
            ("512b", 512),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "20XB",
            "1.2.3K",
            "20GiBs",
            "19000000T",
            "15%",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn printing_is_the_inverse_of_parsing() {
        for bytes in [
            0,
            1,
            999,
            1_000,
            1024,
            400_000_000,
            20 << 30,
            3 << 40,
            u64::MAX,
        ] {
            assert_eq!(parse_size(&print_size(bytes)), Some(bytes));
        }
        for millis in [0, 1, 999, 30_000, 90_000, 300_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&print_duration(duration)), Some(duration));
        }
    }

    #[test]
    fn durations_need_a_unit_and_shares_end_at_100() {
        assert_eq!(parse_duration("30"), None);
        assert_eq!(parse_duration("1.5h"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_percent("15%"), Some(15));
        assert_eq!(parse_percent("101%"), None);
        assert_eq!(parse_percent("15"), None);
    }
}
