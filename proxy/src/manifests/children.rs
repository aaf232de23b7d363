//! The blobs that a manifest names.

use oci::Digest;
use serde::Deserialize;

/// A blob as a manifest names it.
#[derive(Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Config and layers; nothing for an index.
#[derive(Deserialize)]
pub(super) struct Children {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "schemaVersion")]
    schema_version: Option<u64>,
    pub(super) config: Option<Descriptor>,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
}

/// Reads a manifest; JSON that does not say that it is one is refused.
pub(super) fn children(bytes: &[u8], _media_type: &str) -> Option<Children> {
    let children: Children = serde_json::from_slice(bytes).ok()?;
    (children.media_type.is_some() || children.schema_version.is_some()).then_some(children)
}
