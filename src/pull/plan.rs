//! What a pull consists of: which manifests, and which blobs they name.
//!
//! Invariant: every manifest in a plan has its digest. Deliberately not here: the blobs' bytes.

use std::collections::{HashSet, VecDeque};

use hyper::body::Bytes;
use oci::manifest::{Children, children};
use oci::media_type::{Kind, essence, kind};
use oci::{Digest, ImageName, Platform, Reference, platform};

use crate::failure::Failure;
use crate::pull::front::{Front, Manifest};

/// An index of all platforms of a large image names some dozens.
const MANIFESTS_MAX: usize = 512;

/// What the command line names.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Where, and by what.
    pub(crate) name: ImageName,
    /// `REPOSITORY/blobs/DIGEST` is surely a blob; `IMAGE@DIGEST` may be one.
    pub(crate) blob: Option<Digest>,
}

/// Which images of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Platforms {
    /// The one for this kind of machine.
    One(Platform),
    /// All that the index names.
    All,
}

/// A manifest whose digest fits.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its type, without parameters.
    pub(crate) media_type: String,
    /// The document.
    pub(crate) bytes: Bytes,
}

/// What a blob is to its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PartKind {
    /// The config.
    Config,
    /// A layer, or an artifact's content.
    Layer,
    /// A blob that was asked for by itself.
    Blob,
}

impl PartKind {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Blob => "blob",
        }
    }
}

/// A blob to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// What it is.
    pub(crate) kind: PartKind,
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its size, if a manifest says it.
    pub(crate) size: Option<u64>,
}

/// All of a pull.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The manifest that stands for the whole; `None` for a blob by itself.
    pub(crate) root: Option<Document>,
    /// The platform that was chosen from an index.
    pub(crate) platform: Option<Platform>,
    /// The other manifests.
    pub(crate) others: Vec<Document>,
    /// The blobs, each once, in the manifests' order.
    pub(crate) parts: Vec<Part>,
}

impl Wanted {
    /// Reads the argument.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("`{text}` names no image and no blob: {why}")).hint(
                "write alpine:3, quay.io/org/app@sha256:..., or quay.io/org/app/blobs/sha256:...",
            )
        };
        if let Some((name, digest)) = text.rsplit_once("/blobs/")
            && ["sha256:", "sha512:"].iter().any(|a| digest.starts_with(a))
        {
            let digest: Digest = digest.parse().map_err(|error| wrong(&error))?;
            let mut name: ImageName = name.parse().map_err(|error| wrong(&error))?;
            name.digest = Some(digest);
            return Ok(Self {
                name,
                blob: Some(digest),
            });
        }
        let name = text.parse().map_err(|error| wrong(&error))?;
        Ok(Self { name, blob: None })
    }
}

/// Asks the node for the manifests.
pub(crate) async fn make(
    front: &Front,
    wanted: &Wanted,
    platforms: &Platforms,
) -> Result<Plan, Failure> {
    if let Some(digest) = wanted.blob {
        return Ok(Plan::of_blob(digest));
    }
    let by = wanted.name.reference();
    let top = match (front.manifest(&by).await?, &by) {
        (Some(manifest), _) => checked(manifest, &by)?,
        (None, Reference::Digest(digest)) => return Ok(Plan::of_blob(*digest)),
        (None, Reference::Tag(_)) => {
            return Err(Failure::new(format!("{} does not exist", wanted.name))
                .hint("look at the name and the tag"));
        }
    };
    let (root, platform) = match (kind(&top.media_type), platforms) {
        (Kind::Index, Platforms::One(wanted)) => {
            let (document, platform) = chosen(front, top, wanted).await?;
            (document, Some(platform))
        }
        _ => (top, None),
    };
    Plan::below(front, root, platform).await
}

impl Plan {
    fn of_blob(digest: Digest) -> Self {
        Self {
            root: None,
            platform: None,
            others: Vec::new(),
            parts: vec![Part {
                kind: PartKind::Blob,
                digest,
                size: None,
            }],
        }
    }

    /// Everything that `root` names.
    async fn below(
        front: &Front,
        root: Document,
        platform: Option<Platform>,
    ) -> Result<Self, Failure> {
        let mut plan = Self {
            root: None,
            platform,
            others: Vec::new(),
            parts: Vec::new(),
        };
        let mut seen = HashSet::from([root.digest]);
        let mut queue = VecDeque::from([children_of(front.name(), &root)?]);
        while let Some(named) = queue.pop_front() {
            for manifest in &named.manifests {
                if !seen.insert(manifest.digest) {
                    continue;
                }
                if seen.len() > MANIFESTS_MAX {
                    return Err(Failure::new(format!(
                        "{} names more than {MANIFESTS_MAX} manifests",
                        front.name()
                    ))
                    .hint("name one platform with --platform"));
                }
                let document = fetch(front, &manifest.digest).await?;
                queue.push_back(children_of(front.name(), &document)?);
                plan.others.push(document);
            }
            plan.add_parts(&named);
        }
        plan.root = Some(root);
        Ok(plan)
    }

    fn add_parts(&mut self, named: &Children) {
        let config = named.config.iter().map(|d| (PartKind::Config, d));
        let layers = named.layers.iter().map(|d| (PartKind::Layer, d));
        for (kind, descriptor) in config.chain(layers) {
            let known = self.parts.iter().any(|p| p.digest == descriptor.digest);
            if !known {
                self.parts.push(Part {
                    kind,
                    digest: descriptor.digest,
                    size: Some(descriptor.size),
                });
            }
        }
    }
}

/// The image of an index for one platform.
async fn chosen(
    front: &Front,
    index: Document,
    wanted: &Platform,
) -> Result<(Document, Platform), Failure> {
    match platform::choose(&index.bytes, wanted) {
        Some((digest, platform)) => Ok((fetch(front, &digest).await?, platform)),
        None => {
            let all = platform::platforms(&index.bytes);
            let mut names: Vec<String> = all.iter().map(|(_, p)| p.to_string()).collect();
            names.retain(|name| name != "unknown/unknown");
            names.dedup();
            Err(
                Failure::new(format!("{} is not made for {wanted}", front.name())).hint(format!(
                    "name one of these with --platform: {}",
                    names.join(", ")
                )),
            )
        }
    }
}

async fn fetch(front: &Front, digest: &Digest) -> Result<Document, Failure> {
    let by = Reference::Digest(*digest);
    match front.manifest(&by).await? {
        Some(manifest) => checked(manifest, &by),
        None => Err(Failure::new(format!(
            "the manifest {} of {} is missing at its registry",
            digest.short(),
            front.name()
        ))
        .hint("the image is not whole there; another platform may be: --platform")),
    }
}

fn checked(manifest: Manifest, by: &Reference) -> Result<Document, Failure> {
    let digest = match by {
        Reference::Digest(named) => {
            if Digest::of(named.algorithm(), &manifest.bytes) != *named {
                return Err(Failure::new(format!(
                    "the node's answer for manifest {} has another digest",
                    named.short()
                ))
                .hint("this is a fault in darner: please report it"));
            }
            *named
        }
        Reference::Tag(_) => Digest::sha256(&manifest.bytes),
    };
    Ok(Document {
        digest,
        media_type: essence(&manifest.content_type).to_owned(),
        bytes: manifest.bytes,
    })
}

fn children_of(name: &ImageName, document: &Document) -> Result<Children, Failure> {
    if kind(&document.media_type) == Kind::Schema1 {
        return Err(
            Failure::new(format!("{name} is an image of Docker's old schema 1"))
                .hint("clients pull it through the node; this command cannot"),
        );
    }
    children(&document.bytes, &document.media_type).map_err(|error| {
        Failure::new(format!("{name}: {error}")).hint("the registry serves it so; ask its owner")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn images_and_blobs_are_told_apart() {
        let wanted = Wanted::parse(&format!("quay.io/a/b/blobs/{DIGEST}")).unwrap();
        assert_eq!(wanted.blob, Some(DIGEST.parse().unwrap()));
        assert_eq!(wanted.name.repository.as_str(), "a/b");
        let wrong = Wanted::parse("quay.io/a/blobs/sha256:abc").unwrap_err();
        assert!(wrong.to_string().contains("\nhint: "), "{wrong}");
        let wanted = Wanted::parse("quay.io/a/blobs/c:1").unwrap();
        let repository = wanted.name.repository.as_str();
        assert_eq!((wanted.blob, repository), (None, "a/blobs/c"));
        let wanted = Wanted::parse(&format!("alpine@{DIGEST}")).unwrap();
        assert_eq!(wanted.blob, None);
        assert_eq!(Wanted::parse("https://x").unwrap_err().code(), 2);
    }
}
