//! An image as people write it on a command line: `alpine`, `quay.io/org/app:1`, `host:5000/x@sha256:...`.
//!
//! The short forms are Docker's (distribution `reference.ParseNormalizedNamed`): what comes before
//! the first `/` is a registry if it holds a `.` or a `:` or is `localhost`, else the registry is
//! Docker Hub, where a name of one part stands below `library/`. Not here: asking for it.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::reference::{NameError, Reference, Registry, Repository, Tag};

/// What an image is pulled by when nothing is said.
const DEFAULT_TAG: &str = "latest";
/// Where Docker Hub keeps images with a name of one part.
const OFFICIAL: &str = "library/";

/// A named image, or any content of a repository that is named by digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageName {
    /// Where.
    pub registry: Registry,
    /// In which repository, with Docker Hub's `library/` where it was left away.
    pub repository: Repository,
    /// The tag, if one was written.
    pub tag: Option<Tag>,
    /// The digest, if one was written; then the tag only says what it was once called.
    pub digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A URL, where a name belongs.
    #[error("an image's name has no scheme such as https://")]
    Url,
    /// One of its parts is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What stands behind the `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl ImageName {
    /// What it is asked by: the digest, else the tag, else `latest`.
    pub fn reference(&self) -> Reference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Reference::Digest(*digest),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => Reference::Tag(
                DEFAULT_TAG
                    .parse()
                    .expect("the default tag is within the grammar"),
            ),
        }
    }
}

impl FromStr for ImageName {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if text.contains("://") {
            return Err(ImageError::Url);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let path = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path..].split_once(':') {
            Some((last, tag)) => (&rest[..path + last.len()], Some(tag.parse()?)),
            None => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, rest)) if is_registry(host) => (host.parse()?, rest),
            _ => (Registry::docker_hub(), name),
        };
        let official = registry == Registry::docker_hub() && !repository.contains('/');
        let repository = if official {
            format!("{OFFICIAL}{repository}").parse()?
        } else {
            repository.parse()?
        };
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

fn is_registry(text: &str) -> bool {
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    text.contains(['.', ':']) || text == "localhost" || upper
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (None, None) => write!(f, ":{DEFAULT_TAG}"),
            (Some(tag), None) => write!(f, ":{tag}"),
            (None, Some(digest)) => write!(f, "@{digest}"),
            (Some(tag), Some(digest)) => write!(f, ":{tag}@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_mean_what_docker_means() {
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("org/app", "docker.io/org/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/org/app:1", "docker.io/org/app:1"),
            ("quay.io/org/app:1", "quay.io/org/app:1"),
            ("localhost/x", "localhost/x:latest"),
            ("host:5000/x", "host:5000/x:latest"),
            ("host:5000/a/b:1", "host:5000/a/b:1"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), whole, "{text}");
            let again: ImageName = whole.parse().unwrap();
            assert_eq!(again.to_string(), whole, "{text}");
            assert_eq!(again.reference(), name.reference(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_stronger_than_a_tag() {
        let name: ImageName = format!("quay.io/a/b:1@{DIGEST}").parse().unwrap();
        assert_eq!(name.reference(), Reference::Digest(DIGEST.parse().unwrap()));
        assert_eq!(name.to_string(), format!("quay.io/a/b:1@{DIGEST}"));
        let name: ImageName = format!("alpine@{DIGEST}").parse().unwrap();
        assert_eq!(name.tag, None);
    }

    #[test]
    fn what_names_no_image() {
        for text in [
            "",
            "https://quay.io/a/b",
            "Alpine",
            "quay.io/",
            "quay.io/A",
            "alpine:",
            "alpine:-x",
            "alpine@sha256:abc",
            "alpine@",
            "a//b",
            "[::1]:5000/x",
            "alpine:1:2",
            "a b",
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
    }
}
