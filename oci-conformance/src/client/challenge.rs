//! Challenges as RFC 9110, 11.3 and 11.6.1 write them: several in a line, several lines, parameters
//! quoted or not, credentials of 68 characters. Reads leniently; nothing is refused.

use super::wire::Response;

/// One challenge of a `WWW-Authenticate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case.
    pub scheme: String,
    /// In order, names in lower case, values without quotes and escapes.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of this lower-case name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer, in order.
pub fn challenges(answer: &Response) -> Vec<Challenge> {
    let lines = answer.headers("www-authenticate");
    lines.flat_map(read).collect()
}

fn read(line: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = word(rest);
        if word.is_empty() {
            return found;
        }
        let spaced = after.trim_start_matches([' ', '\t']);
        let parameter = spaced.strip_prefix('=').filter(|_| !found.is_empty());
        let Some(value) = parameter else {
            found.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
            rest = without_token68(after);
            continue;
        };
        let (value, after) = read_value(value.trim_start_matches([' ', '\t']));
        if let Some(challenge) = found.last_mut() {
            challenge
                .parameters
                .push((word.to_ascii_lowercase(), value));
        }
        rest = after;
    }
}

/// Text up to the next mark, and what follows.
fn word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', ',', '=', '"']);
    // A mark where a word should be is passed over, so that reading ends.
    match end {
        Some(0) => text.split_at(1),
        end => text.split_at(end.unwrap_or(text.len())),
    }
}

/// What follows a scheme, without the lump of base64 that may stand there instead of parameters.
fn without_token68(text: &str) -> &str {
    let start = text.trim_start_matches([' ', '\t']);
    let end = start.find([' ', '\t', ',']).unwrap_or(start.len());
    let (lump, rest) = start.split_at(end);
    let bare = lump.trim_end_matches('=');
    let follows = rest.trim_start_matches([' ', '\t']);
    let ends = follows.is_empty() || follows.starts_with(',');
    if !lump.is_empty() && ends && !bare.contains(['=', '"']) {
        rest
    } else {
        text
    }
}

fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return (value, &quoted[at + 1..]),
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        let owned = parameters.iter();
        Challenge {
            scheme: scheme.to_owned(),
            parameters: owned
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn every_form() {
        for (line, read_as) in [
            (
                r#"Bearer realm="https://a/t",service=b, SCOPE = "c:d:pull,push""#,
                vec![challenge(
                    "bearer",
                    &[
                        ("realm", "https://a/t"),
                        ("service", "b"),
                        ("scope", "c:d:pull,push"),
                    ],
                )],
            ),
            (
                r#"Basic realm="a, \"b\"", Negotiate, NTLM YWJj==, Digest realm=x, nonce="y=""#,
                vec![
                    challenge("basic", &[("realm", r#"a, "b""#)]),
                    challenge("negotiate", &[]),
                    challenge("ntlm", &[]),
                    challenge("digest", &[("realm", "x"), ("nonce", "y=")]),
                ],
            ),
            ("", Vec::new()),
            ("=", vec![challenge("=", &[])]),
            (
                "Bearer realm=\"open",
                vec![challenge("bearer", &[("realm", "open")])],
            ),
        ] {
            assert_eq!(read(line), read_as, "{line}");
        }
    }
}
