//! What a registry demands in `WWW-Authenticate`.
//!
//! Reads the list form of RFC 9110 section 11.6.1 and what registries send beside it: values
//! without quotes (also URLs), several challenges in one line or in several, no service, no realm.
//! Parsing never fails; what makes no sense is left out. Not here: whom to answer, and with what.

use std::fmt;

use http::HeaderValue;

/// An authentication scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// A token from the realm (distribution's token protocol, RFC 6750).
    Bearer,
    /// User and password (RFC 7617).
    Basic,
    /// One that no registry needs.
    Other,
}

/// One challenge. Values are as sent, unescaped, and not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// How to answer.
    pub scheme: Scheme,
    /// For Bearer the token server's address.
    pub realm: Option<String>,
    /// The name of the registry for its token server.
    pub service: Option<String>,
    /// What the token must allow; may be empty, and need not follow the scope grammar.
    pub scope: Option<String>,
    /// Why the token that was sent would not do.
    pub error: Option<String>,
}

/// All challenges of all field lines, in order.
pub fn parse<'v>(values: impl IntoIterator<Item = &'v HeaderValue>) -> Vec<Challenge> {
    let texts = values
        .into_iter()
        .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
    texts.flat_map(parse_line).collect()
}

fn parse_line(line: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return challenges;
        }
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // A stray `=` or quote: whatever was meant ends at the next comma.
            rest = rest.split_once(',').map_or("", |(_, next)| next);
            continue;
        }
        match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) => {
                let (value, next) = take_value(value.trim_start_matches([' ', '\t']));
                if let Some(challenge) = challenges.last_mut() {
                    challenge.set(word, value);
                }
                rest = next;
            }
            None => {
                challenges.push(Challenge::of(word));
                rest = after;
            }
        }
    }
}

/// A quoted string with its escapes undone, or everything to the next comma; and what follows.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

impl Challenge {
    fn of(scheme: &str) -> Self {
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        let scheme = match () {
            () if is("bearer") => Scheme::Bearer,
            () if is("basic") => Scheme::Basic,
            () => Scheme::Other,
        };
        Self {
            scheme,
            realm: None,
            service: None,
            scope: None,
            error: None,
        }
    }

    /// The first of two parameters of one name counts.
    fn set(&mut self, name: &str, value: String) {
        let slot = match name.to_ascii_lowercase().as_str() {
            "realm" => &mut self.realm,
            "service" => &mut self.service,
            "scope" => &mut self.scope,
            "error" => &mut self.error,
            _ => return,
        };
        slot.get_or_insert(value);
    }
}

/// As a field value; the inverse of [`parse`] but for the name of an unknown scheme.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Bearer => "Bearer",
            Scheme::Basic => "Basic",
            Scheme::Other => "Other",
        })?;
        let named = [
            ("realm", &self.realm),
            ("service", &self.service),
            ("scope", &self.scope),
            ("error", &self.error),
        ];
        let present = named
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (index, (name, value)) in present.enumerate() {
            let separator = if index == 0 { " " } else { "," };
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "{separator}{name}=\"{escaped}\"")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> Vec<Challenge> {
        let values: Vec<_> = lines
            .iter()
            .map(|line| HeaderValue::from_str(line).unwrap())
            .collect();
        parse(&values)
    }

    fn one(line: &str) -> Challenge {
        let mut all = read(&[line]);
        assert_eq!(all.len(), 1, "{line}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn docker_hub() {
        let challenge = one(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull,push""#,
        );
        assert_eq!(challenge.scheme, Scheme::Bearer);
        assert_eq!(
            challenge.realm.as_deref(),
            Some("https://auth.docker.io/token")
        );
        assert_eq!(challenge.service.as_deref(), Some("registry.docker.io"));
        assert_eq!(
            challenge.scope.as_deref(),
            Some("repository:library/debian:pull,push")
        );
        assert_eq!(challenge.error, None);
    }

    #[test]
    fn without_quotes_and_with_blanks() {
        let challenge =
            one("bearer  realm=https://gcr.io/v2/token?a=b , Service = gcr.io,scope=\"\"");
        assert_eq!(
            challenge.realm.as_deref(),
            Some("https://gcr.io/v2/token?a=b")
        );
        assert_eq!(challenge.service.as_deref(), Some("gcr.io"));
        assert_eq!(challenge.scope.as_deref(), Some(""));
    }

    #[test]
    fn missing_and_odd_parts() {
        let nvcr = one(r#"Bearer realm="https://nvcr.io/proxy_auth",scope="aws""#);
        assert_eq!((nvcr.service, nvcr.scope.as_deref()), (None, Some("aws")));
        assert_eq!(one("Basic").realm, None);
        assert_eq!(
            one(r#"Basic realm="a \"b\" \\ c", charset="UTF-8""#)
                .realm
                .as_deref(),
            Some(r#"a "b" \ c"#)
        );
        assert_eq!(
            one(r#"Bearer realm="a",realm="b""#).realm.as_deref(),
            Some("a")
        );
        assert_eq!(one(r#"Bearer realm="open"#).realm.as_deref(), Some("open"));
        assert_eq!(
            one(r#"Bearer error="invalid_token""#).error.as_deref(),
            Some("invalid_token")
        );
    }

    #[test]
    fn several_in_one_line_and_in_several() {
        let lines = [
            r#"Negotiate a/b+c==, Digest realm="d", nonce="x,y", Basic realm="b", Bearer realm="t",service="s""#,
            r#"Bearer realm="u""#,
        ];
        let all: Vec<_> = read(&lines)
            .into_iter()
            .map(|c| (c.scheme, c.realm))
            .collect();
        let realm = |text: &str| Some(text.to_owned());
        assert_eq!(
            all,
            [
                (Scheme::Other, None),
                (Scheme::Other, realm("d")),
                (Scheme::Basic, realm("b")),
                (Scheme::Bearer, realm("t")),
                (Scheme::Bearer, realm("u")),
            ]
        );
    }

    #[test]
    fn nonsense_is_left_out() {
        for line in ["", ",,", "=", "realm=x", "\"", "=\"a,b\"", "realm=\"x"] {
            assert!(read(&[line]).iter().all(|c| c.realm.is_none()), "{line}");
        }
        let bytes = HeaderValue::from_bytes(b"Bearer realm=\"\xff\"").unwrap();
        assert!(parse([&bytes]).is_empty());
    }

    fn any_challenge() -> impl Strategy<Value = Challenge> {
        let scheme = prop_oneof![
            Just(Scheme::Bearer),
            Just(Scheme::Basic),
            Just(Scheme::Other)
        ];
        let value = || proptest::option::of("[ -~]{0,20}");
        (scheme, value(), value(), value(), value()).prop_map(
            |(scheme, realm, service, scope, error)| Challenge {
                scheme,
                realm,
                service,
                scope,
                error,
            },
        )
    }

    proptest! {
        #[test]
        fn prints_what_it_parses(challenges in prop::collection::vec(any_challenge(), 0..4)) {
            let line = challenges.iter().map(Challenge::to_string).collect::<Vec<_>>().join(", ");
            prop_assert_eq!(read(&[&line]), challenges);
        }

        #[test]
        fn any_text_is_survived(line in "([a-z=\", \\\\]|\\PC){0,40}") {
            let _ = parse_line(&line);
        }
    }
}
