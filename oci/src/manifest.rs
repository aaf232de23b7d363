//! What a manifest names: its children, read without ever changing or guessing.
//!
//! A document is read only as the type under which it was served, and not at all if it can be read
//! in two ways (distribution GHSA-qq97-vm5h-rrhg, containerd GHSA-5j5w-g665-5m35). Who cannot read
//! it may still pass its bytes on. Not here: hashing the document, platforms, annotations.

use serde::Deserialize;
use serde_json::Value;

use crate::digest::{Digest, DigestError};
use crate::media_type::{self, Kind};

/// image-spec v1.1.1 "OCI Content Descriptors", as far as needed to find the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// As written; may be empty.
    pub media_type: String,
    /// Names the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
}

/// All that a manifest names. Digests of algorithms that are not served here are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Children {
    /// The config of an image.
    pub config: Option<Descriptor>,
    /// Layers of an image, blobs of an artifact.
    pub layers: Vec<Descriptor>,
    /// Manifests of an index.
    pub manifests: Vec<Descriptor>,
    /// What the manifest is about; it need not exist.
    pub subject: Option<Descriptor>,
}

impl Children {
    /// Blobs and manifests that come with this one, the subject not among them.
    pub fn all(&self) -> impl Iterator<Item = &Descriptor> {
        self.config
            .iter()
            .chain(&self.layers)
            .chain(&self.manifests)
    }
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Served under a type whose children we do not know.
    #[error("`{0}` is not a type of manifest whose children are known")]
    Type(String),
    /// Not JSON of the right form.
    #[error("the manifest is malformed: {0}")]
    Form(#[from] serde_json::Error),
    /// It could be read in two ways.
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// A child's digest is malformed.
    #[error("the manifest names a child wrongly: {0}")]
    Digest(DigestError),
}

/// The form of all manifest types together; which fields may be present is checked afterwards.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    config: Option<Entry>,
    layers: Option<Vec<Entry>>,
    blobs: Option<Vec<Entry>>,
    manifests: Option<Vec<Entry>>,
    fs_layers: Option<Value>,
    subject: Option<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
}

/// The children of the manifest `bytes` that was served with `content_type`.
///
/// # Errors
/// See [`ManifestError`]; none of them says that the bytes may not be passed on.
pub fn children(bytes: &[u8], content_type: &str) -> Result<Children, ManifestError> {
    let kind = media_type::kind(content_type);
    if matches!(kind, Kind::Schema1 | Kind::Other) {
        return Err(ManifestError::Type(
            media_type::essence(content_type).to_owned(),
        ));
    }
    let document: Document = serde_json::from_slice(bytes)?;
    let essence = media_type::essence(content_type);
    if document
        .media_type
        .as_ref()
        .is_some_and(|own| !own.eq_ignore_ascii_case(essence))
    {
        return Err(ManifestError::Ambiguous(
            "mediaType is not the Content-Type",
        ));
    }
    let image = document.config.is_some() || document.layers.is_some() || document.blobs.is_some();
    match kind {
        _ if document.fs_layers.is_some() => {
            return Err(ManifestError::Ambiguous("it has fsLayers"));
        }
        Kind::Manifest if document.manifests.is_some() => {
            return Err(ManifestError::Ambiguous(
                "an image with a list of manifests",
            ));
        }
        Kind::Index if image => return Err(ManifestError::Ambiguous("an index with layers")),
        _ => {}
    }
    let mut layers = descriptors(document.layers)?;
    layers.extend(descriptors(document.blobs)?);
    Ok(Children {
        config: descriptors(document.config)?.pop(),
        layers,
        manifests: descriptors(document.manifests)?,
        subject: descriptors(document.subject)?.pop(),
    })
}

fn descriptors<L: IntoEntries>(entries: Option<L>) -> Result<Vec<Descriptor>, ManifestError> {
    let entries = entries.map(L::into_entries).unwrap_or_default();
    let read = |entry: Entry| match entry.digest.parse() {
        Ok(digest) => Some(Ok(Descriptor {
            media_type: entry.media_type,
            digest,
            size: entry.size,
        })),
        Err(DigestError::Algorithm) => None,
        Err(why) => Some(Err(ManifestError::Digest(why))),
    };
    entries.into_iter().filter_map(read).collect()
}

/// One descriptor or a list of them.
trait IntoEntries {
    fn into_entries(self) -> Vec<Entry>;
}

impl IntoEntries for Entry {
    fn into_entries(self) -> Vec<Entry> {
        vec![self]
    }
}

impl IntoEntries for Vec<Entry> {
    fn into_entries(self) -> Vec<Entry> {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::media_type::{DOCKER_LIST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST};

    fn entry(content: &str) -> Value {
        let digest = Digest::sha256(content.as_bytes());
        json!({"mediaType": "x/y", "digest": digest, "size": content.len(), "urls": ["http://x"]})
    }

    fn read(document: &Value, content_type: &str) -> Result<Children, ManifestError> {
        children(&serde_json::to_vec(document).unwrap(), content_type)
    }

    fn names(children: &Children) -> Vec<Digest> {
        children.all().map(|child| child.digest).collect()
    }

    #[test]
    fn image_index_and_artifact() {
        let digest = |content: &str| Digest::sha256(content.as_bytes());
        let image = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry("c"),
            "layers": [entry("l1"), entry("l2")], "subject": entry("s"), "unknown": 1,
        });
        let image = read(&image, OCI_MANIFEST).unwrap();
        assert_eq!(names(&image), ["c", "l1", "l2"].map(digest));
        assert_eq!(image.subject.unwrap().digest, digest("s"));
        let index = json!({"manifests": [entry("m")]});
        let typed = format!("{DOCKER_LIST}; charset=utf-8");
        assert_eq!(names(&read(&index, &typed).unwrap()), [digest("m")]);
        let artifact = json!({"blobs": [entry("b")]});
        assert_eq!(
            names(&read(&artifact, OCI_ARTIFACT).unwrap()),
            [digest("b")]
        );
        let empty = read(&json!({"manifests": []}), OCI_INDEX).unwrap();
        assert_eq!(empty, Children::default());
    }

    #[test]
    fn two_readings_are_none() {
        for (document, content_type) in [
            (json!({"mediaType": OCI_INDEX, "layers": []}), OCI_MANIFEST),
            (json!({"layers": [], "manifests": []}), OCI_MANIFEST),
            (json!({"config": entry("c"), "manifests": []}), OCI_INDEX),
            (json!({"layers": [], "manifests": []}), OCI_INDEX),
            (json!({"layers": [], "fsLayers": []}), OCI_MANIFEST),
        ] {
            let read = read(&document, content_type);
            assert!(
                matches!(read, Err(ManifestError::Ambiguous(_))),
                "{document}"
            );
        }
        let twice = br#"{"layers":[],"layers":[]}"#;
        assert!(matches!(
            children(twice, OCI_MANIFEST),
            Err(ManifestError::Form(_))
        ));
    }

    #[test]
    fn foreign_algorithms_are_left_out_and_bad_digests_refused() {
        let mut layer = entry("l");
        layer["digest"] = json!("blake3:abc");
        let document = |layer: &Value| json!({"layers": [layer]});
        assert_eq!(
            read(&document(&layer), OCI_MANIFEST).unwrap(),
            Children::default()
        );
        for digest in ["sha256:abc", "sha256:../../x", ""] {
            layer["digest"] = json!(digest);
            let read = read(&document(&layer), OCI_MANIFEST);
            assert!(matches!(read, Err(ManifestError::Digest(_))), "{digest}");
        }
    }

    #[test]
    fn what_is_not_a_manifest() {
        let html = b"<html>";
        assert!(matches!(
            children(html, OCI_MANIFEST),
            Err(ManifestError::Form(_))
        ));
        for content_type in ["text/html", "application/json", ""] {
            assert!(matches!(
                children(b"{}", content_type),
                Err(ManifestError::Type(_))
            ));
        }
        let negative = json!({"layers": [{"digest": Digest::sha256(b""), "size": -1}]});
        assert!(matches!(
            read(&negative, OCI_MANIFEST),
            Err(ManifestError::Form(_))
        ));
        let deep = "[".repeat(100_000);
        assert!(children(deep.as_bytes(), OCI_MANIFEST).is_err());
    }
}
