//! The images: layers of random bytes, made from a seed and kept in memory.
//!
//! Clients compare what they get with these bytes, which is stricter than the digest and takes a tenth
//! of its CPU: the machine is shared with the daemons that are measured.

use sha2::{Digest as _, Sha256};

/// An image.
pub(crate) struct Image {
    pub(crate) repository: &'static str,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
}

/// Bytes and their name.
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

/// The tag of all images.
pub(crate) const TAG: &str = "1";
/// The media type of their manifests.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Image {
    /// An image whose layers have these sizes in bytes.
    pub(crate) fn make(repository: &'static str, sizes: &[u64], chance: &mut Chance) -> Self {
        let layers: Vec<Blob> = sizes
            .iter()
            .map(|size| Blob::new(chance.bytes(usize::try_from(*size).unwrap_or(usize::MAX))))
            .collect();
        let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let config = Blob::new(config.to_string().into_bytes());
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let described: Vec<_> = layers.iter().map(|layer| layer.descriptor(kind)).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": described,
        });
        Self {
            repository,
            manifest: manifest.to_string().into_bytes(),
            config,
            layers,
        }
    }

    /// Bytes of all layers.
    pub(crate) fn size(&self) -> u64 {
        self.layers
            .iter()
            .map(|layer| layer.bytes.len() as u64)
            .sum()
    }
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let hex: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            digest: format!("sha256:{hex}"),
            bytes,
        }
    }

    fn descriptor(&self, kind: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": kind, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// Chance from a seed (splitmix64): the same seed gives the same lab.
pub(crate) struct Chance(u64);

impl Chance {
    /// Begins at a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that nobody chose.
    pub(crate) fn seed() -> u64 {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20)
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }

    /// A share from `low` to `high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        low + unit * (high - low)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_image() {
        let make = |seed| Image::make("lab/x", &[1_000_003, 5], &mut Chance::new(seed));
        let (one, same, other) = (make(1), make(1), make(2));
        assert_eq!(one.manifest, same.manifest);
        assert_ne!(one.manifest, other.manifest);
        assert_eq!(one.size(), 1_000_008);
        assert!(String::from_utf8_lossy(&one.manifest).contains(&one.layers[1].digest));
    }
}
