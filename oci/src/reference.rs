//! Names: which registry, which repository, which tag. Each has one constructor that checks.
//!
//! Grammar: distribution-spec v1.1.1 "Pulling manifests", anchored at both ends. The registry's
//! name is a key into a closed table and never an address to dial.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::digest::Digest;

/// Longest `registry/repository` that common clients accept.
const NAME_LENGTH_MAX: usize = 255;
/// Longest tag (distribution-spec).
const TAG_LENGTH_MAX: usize = 128;

/// Why a text is not a name of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `host` or `host:port`.
    #[error("a registry is `host` or `host:port`")]
    Registry,
    /// Outside the repository grammar.
    #[error(
        "a repository is lower-case path components of letters, digits and separators, at most 255 characters"
    )]
    Repository,
    /// Outside the tag grammar.
    #[error("a tag is at most 128 letters, digits, `_`, `.` or `-`, not starting with `.` or `-`")]
    Tag,
}

/// A registry's canonical name: lower-case `host[:port]`, all names of Docker Hub as `docker.io`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Registry(Arc<str>);

impl Registry {
    /// Docker Hub, what a client means that names no registry.
    pub fn docker_hub() -> Self {
        Self(Arc::from("docker.io"))
    }

    /// `host[:port]`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Registry {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.to_ascii_lowercase();
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text.as_str(), None),
        };
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if host.len() > 253 || !host.split('.').all(label_ok) {
            return Err(NameError::Registry);
        }
        if let Some(port) = port {
            let digits = port.bytes().all(|b| b.is_ascii_digit());
            if !digits || port.parse::<u16>().ok().is_none_or(|p| p == 0) {
                return Err(NameError::Registry);
            }
        }
        let bare = if port == Some("443") {
            host
        } else {
            text.as_str()
        };
        Ok(match bare {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => Self::docker_hub(),
            other => Self(Arc::from(other)),
        })
    }
}

/// A repository's name within its registry, as the client wrote it (`library/` is never added).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(Arc<str>);

impl Repository {
    /// The path, `library/debian`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_LENGTH_MAX || !text.split('/').all(is_component) {
            return Err(NameError::Repository);
        }
        Ok(Self(Arc::from(text)))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(alnum) || !bytes.last().copied().is_some_and(alnum) {
        return false;
    }
    bytes
        .split(|b| alnum(*b))
        .filter(|run| !run.is_empty())
        .all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

/// A tag.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let ok = text.len() <= TAG_LENGTH_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if ok {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NameError::Tag)
        }
    }
}

/// What a manifest is asked by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A name that may move.
    Tag(Tag),
    /// The content itself.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

macro_rules! prints_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
prints_as_text!(Registry, Repository, Tag);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_has_one_name() {
        for name in [
            "docker.io",
            "index.docker.io",
            "registry-1.docker.io",
            "Docker.IO",
            "docker.io:443",
        ] {
            assert_eq!(name.parse(), Ok(Registry::docker_hub()), "{name}");
        }
    }

    #[test]
    fn a_registry_is_never_a_url() {
        for name in [
            "", "http://a", "a/b", "a@b", "a:0", "a:99999", "a:b", "[::1]", "a\r\nb", "-a", "a..b",
            "a:1:2",
        ] {
            assert_eq!(
                name.parse::<Registry>(),
                Err(NameError::Registry),
                "{name:?}"
            );
        }
    }

    #[test]
    fn repository_grammar() {
        for name in ["a", "library/debian", "a.b/c_d/e__f/g-h/i---j", "0/1"] {
            assert!(name.parse::<Repository>().is_ok(), "{name}");
        }
        for name in [
            "",
            "/a",
            "a/",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "a/../b",
            "a%2fb",
            &"a".repeat(256),
        ] {
            assert!(name.parse::<Repository>().is_err(), "{name}");
        }
    }

    #[test]
    fn tag_grammar() {
        for tag in ["latest", "_x", "1.2-3", &"t".repeat(128)] {
            assert!(tag.parse::<Tag>().is_ok(), "{tag}");
        }
        for tag in ["", ".x", "-x", "a/b", "a:b", "ä", &"t".repeat(129)] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
    }
}
