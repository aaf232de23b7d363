//! A small image of one repository, and content that does not compress away.

use bytes::Bytes;
use oci::Digest;

use crate::origin::Origin;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index, a manifest, a config and two layers.
pub(crate) struct Image {
    pub(crate) repository: String,
    pub(crate) index: Bytes,
    pub(crate) manifest: Bytes,
    pub(crate) config: Bytes,
    pub(crate) layers: Vec<Bytes>,
}

impl Image {
    /// Made from a seed, so that two images share nothing.
    pub(crate) fn new(repository: &str, seed: u64, layer_bytes: usize) -> Self {
        let config = Bytes::from(format!("{{\"os\":\"linux\",\"seed\":{seed}}}"));
        let layers = vec![noise(seed, layer_bytes), noise(seed + 1, 1000)];
        let describe = |kind: &str, bytes: &Bytes| {
            format!(
                "{{\"mediaType\":\"{kind}\",\"digest\":\"{}\",\"size\":{}}}",
                Digest::sha256(bytes),
                bytes.len()
            )
        };
        let layer = |bytes: &Bytes| describe("application/vnd.oci.image.layer.v1.tar", bytes);
        let listed: Vec<String> = layers.iter().map(layer).collect();
        let manifest = Bytes::from(format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{},\"layers\":[{}]}}",
            describe("application/vnd.oci.image.config.v1+json", &config),
            listed.join(",")
        ));
        let index = Bytes::from(format!(
            "{{\"schemaVersion\":2,  \"mediaType\":\"{INDEX}\",\"manifests\":[{}]}}\n",
            describe(MANIFEST, &manifest)
        ));
        Self {
            repository: repository.to_owned(),
            index,
            manifest,
            config,
            layers,
        }
    }

    /// Puts it into a registry under `tag`.
    pub(crate) fn push(&self, origin: &Origin, tag: &str) {
        let mut content = origin.content();
        for (bytes, kind) in [(&self.index, INDEX), (&self.manifest, MANIFEST)] {
            let digest = Digest::sha256(bytes).to_string();
            content.manifest(&self.repository, &digest, kind, bytes);
        }
        content.manifest(&self.repository, tag, INDEX, &self.index);
        for blob in self.layers.iter().chain([&self.config]) {
            content.blob(&self.repository, blob);
        }
    }

    pub(crate) fn blob_path(&self, blob: &Bytes) -> String {
        format!("/v2/{}/blobs/{}", self.repository, Digest::sha256(blob))
    }

    pub(crate) fn manifest_path(&self, reference: &str) -> String {
        format!("/v2/{}/manifests/{reference}", self.repository)
    }

    pub(crate) fn digest_path(&self, manifest: &Bytes) -> String {
        self.manifest_path(&Digest::sha256(manifest).to_string())
    }
}

/// Bytes without pattern (splitmix64).
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}
