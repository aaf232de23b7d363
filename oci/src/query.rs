//! The pairs of a query (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Keys and values in order, escapes undone; bytes that are not UTF-8 become `U+FFFD`.
pub fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

/// The value of the first pair with this key.
pub fn value(query: &str, key: &str) -> Option<String> {
    pairs(query)
        .find(|(own, _)| own == key)
        .map(|(_, value)| value)
}

/// The query without the pairs whose (unescaped) key is `key`; the others as they were.
pub fn without(query: &str, key: &str) -> String {
    let kept = query.split('&').filter(|pair| {
        !pair.is_empty() && decoded(pair.split('=').next().unwrap_or_default()) != key
    });
    kept.collect::<Vec<_>>().join("&")
}

fn decoded(text: &str) -> String {
    let spaced: Cow<'_, str> = match text.contains('+') {
        true => text.replace('+', " ").into(),
        false => text.into(),
    };
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = "n=5&&l%61st=b%26+c&x&n=6";
        let all: Vec<_> = pairs(query).collect();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            pair("n", "5"),
            pair("last", "b& c"),
            pair("x", ""),
            pair("n", "6"),
        ];
        assert_eq!(all, expected);
        assert_eq!(value(query, "n").as_deref(), Some("5"));
        assert_eq!(value(query, "y"), None);
        assert_eq!(without(query, "n"), "l%61st=b%26+c&x");
        assert_eq!(without(query, "last"), "n=5&x&n=6");
        assert_eq!(without("", "n"), "");
    }
}
