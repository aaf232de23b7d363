//! What an origin holds, and content made up for tests.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;
use sha2::Digest as _;

use super::Origin;
use super::upload::Session;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Digests of an image that was pushed.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of the manifest.
    pub manifest: String,
    /// Of the config blob.
    pub config: String,
    /// Of the layers, in order.
    pub layers: Vec<String>,
}

impl Image {
    /// Config and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// `sha256:` and the lower-case hex digest.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&sha2::Sha256::digest(bytes)))
}

/// `sha512:` and the lower-case hex digest.
pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&sha2::Sha512::digest(bytes)))
}

/// Whether a sha256 or sha512 digest is that of these bytes.
pub(super) fn fits(digest: &str, bytes: &[u8]) -> bool {
    match digest.split_once(':') {
        Some(("sha256", _)) => sha256(bytes) == digest,
        Some(("sha512", _)) => sha512(bytes) == digest,
        _ => false,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// `length` bytes that do not repeat and differ by seed; the same every time (xorshift64*).
pub fn content(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

#[derive(Default)]
pub(super) struct Shelf {
    repositories: BTreeMap<String, Repository>,
    plain: HashMap<String, Bytes>,
    /// Running uploads by their id.
    pub(super) sessions: HashMap<String, Session>,
    begun: usize,
}

#[derive(Default)]
struct Repository {
    blobs: HashMap<String, Bytes>,
    manifests: HashMap<String, Manifest>,
    tags: BTreeMap<String, String>,
}

#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

impl Shelf {
    pub(super) fn blob(&mut self, repository: &str, digest: &str, bytes: Bytes) {
        self.at(repository).blobs.insert(digest.to_owned(), bytes);
    }

    pub(super) fn manifest(
        &mut self,
        repository: &str,
        digest: &str,
        media_type: &str,
        bytes: Bytes,
    ) {
        let manifest = Manifest {
            digest: digest.to_owned(),
            media_type: media_type.to_owned(),
            bytes,
        };
        self.at(repository)
            .manifests
            .insert(digest.to_owned(), manifest);
    }

    pub(super) fn tag(&mut self, repository: &str, tag: &str, digest: &str) {
        self.at(repository)
            .tags
            .insert(tag.to_owned(), digest.to_owned());
    }

    pub(super) fn plain(&mut self, path: &str, bytes: Bytes) {
        self.plain.insert(path.to_owned(), bytes);
    }

    pub(super) fn forget(&mut self, repository: &str) {
        self.repositories.remove(repository);
    }

    pub(super) fn find_plain(&self, path: &str) -> Option<Bytes> {
        self.plain.get(path).cloned()
    }

    pub(super) fn find_blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        self.repositories
            .get(repository)?
            .blobs
            .get(digest)
            .cloned()
    }

    pub(super) fn find_manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        let repository = self.repositories.get(repository)?;
        let digest = repository
            .tags
            .get(reference)
            .map_or(reference, String::as_str);
        repository.manifests.get(digest).cloned()
    }

    pub(super) fn find_blob_anywhere(&self, digest: &str) -> Option<Bytes> {
        let mut all = self.repositories.values();
        all.find_map(|repository| repository.blobs.get(digest).cloned())
    }

    /// Removes a tag, or a manifest with all its tags; whether there was one.
    pub(super) fn delete_manifest(&mut self, repository: &str, reference: &str) -> bool {
        let Some(repository) = self.repositories.get_mut(repository) else {
            return false;
        };
        if !reference.contains(':') {
            return repository.tags.remove(reference).is_some();
        }
        repository.tags.retain(|_, digest| digest != reference);
        repository.manifests.remove(reference).is_some()
    }

    /// Removes a blob from one repository; whether there was one.
    pub(super) fn delete_blob(&mut self, repository: &str, digest: &str) -> bool {
        let found = self.repositories.get_mut(repository);
        found.is_some_and(|repository| repository.blobs.remove(digest).is_some())
    }

    /// The id of the next upload.
    pub(super) fn next_session(&mut self) -> String {
        self.begun += 1;
        format!("upload-{}", self.begun)
    }

    pub(super) fn tags(&self, repository: &str) -> Option<Vec<String>> {
        Some(
            self.repositories
                .get(repository)?
                .tags
                .keys()
                .cloned()
                .collect(),
        )
    }

    /// Descriptors of all manifests of a repository whose subject is `digest`.
    pub(super) fn referrers(&self, repository: &str, digest: &str) -> Vec<serde_json::Value> {
        let manifests = self
            .repositories
            .get(repository)
            .map(|found| found.manifests.values());
        let mut found: Vec<_> = manifests
            .into_iter()
            .flatten()
            .filter_map(|manifest| refers(manifest, digest))
            .collect();
        found.sort_by_key(|descriptor| descriptor["digest"].to_string());
        found
    }

    fn at(&mut self, repository: &str) -> &mut Repository {
        self.repositories.entry(repository.to_owned()).or_default()
    }
}

fn refers(manifest: &Manifest, subject: &str) -> Option<serde_json::Value> {
    let document: serde_json::Value = serde_json::from_slice(&manifest.bytes).ok()?;
    if document["subject"]["digest"] != subject {
        return None;
    }
    let kind = [&document["artifactType"], &document["config"]["mediaType"]];
    let kind = kind.into_iter().find(|kind| kind.is_string());
    let mut entry = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
    });
    // What there is not is left out: null is no artifact type.
    if let Some(kind) = kind {
        entry["artifactType"] = kind.clone();
    }
    if document["annotations"].is_object() {
        entry["annotations"] = document["annotations"].clone();
    }
    Some(entry)
}

pub(super) fn push_image(origin: &Origin, repository: &str, tag: &str, layers: &[&[u8]]) -> Image {
    let entry = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": sha256(bytes), "size": bytes.len()});
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "created_by": format!("{repository}:{tag}"),
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry("config.v1+json", &config),
        "layers": layers.iter().map(|layer| entry("layer.v1.tar", layer)).collect::<Vec<_>>(),
    });
    Image {
        config: origin.push_blob(repository, config),
        layers: layers
            .iter()
            .map(|layer| origin.push_blob(repository, layer.to_vec()))
            .collect(),
        manifest: origin.push_manifest(repository, Some(tag), OCI_MANIFEST, manifest.to_string()),
    }
}
