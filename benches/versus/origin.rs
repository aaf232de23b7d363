//! What is pulled: two blobs, a small one and a manifest, as files under the paths of a registry.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use oci::Digest;
use oci::digest::{Algorithm, Hasher};

/// The folder of a repository, which is also its path on the wire.
const REPOSITORY: &str = "v2/bench/app";

/// 2 KiB: what an image with a handful of layers has.
const MANIFEST_BYTES: usize = 2048;

/// A blob of the origin.
pub(crate) struct Blob {
    pub(crate) path: String,
    pub(crate) file: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
}

/// Everything the origin has.
pub(crate) struct Content {
    pub(crate) small: Blob,
    pub(crate) quarter_gib: Blob,
    pub(crate) one_gib: Blob,
    pub(crate) manifest: Blob,
}

impl Content {
    pub(crate) fn make(files: &Path) -> Result<Self> {
        let blobs = files.join(REPOSITORY).join("blobs");
        let manifests = files.join(REPOSITORY).join("manifests");
        fs::create_dir_all(&blobs)?;
        fs::create_dir_all(&manifests)?;
        let small = blob(&blobs, 64 << 10)?;
        let quarter_gib = blob(&blobs, 256 << 20)?;
        let one_gib = blob(&blobs, 1 << 30)?;
        let text = manifest_text(&small, &quarter_gib);
        let digest = Digest::sha256(text.as_bytes());
        let file = manifests.join(digest.to_string());
        fs::write(&file, &text)?;
        let manifest = Blob {
            path: format!("/{REPOSITORY}/manifests/{digest}"),
            file,
            bytes: text.len() as u64,
            digest,
        };
        Ok(Self {
            small,
            quarter_gib,
            one_gib,
            manifest,
        })
    }
}

impl Blob {
    /// Reads the file, so that it is in memory: pages that nobody touches for a minute may be gone.
    pub(crate) fn warm(&self) -> Result<()> {
        warm(&self.file)
    }
}

pub(crate) fn warm(file: &Path) -> Result<()> {
    let mut file = File::open(file)?;
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Pseudo-random content (xorshift64), different for each length.
fn blob(folder: &Path, bytes: u64) -> Result<Blob> {
    let temporary = folder.join("new");
    let mut file = File::create(&temporary)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ bytes;
    let mut buffer = vec![0; (1 << 20).min(bytes as usize)];
    for _ in 0..bytes / buffer.len() as u64 {
        for word in buffer.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        hasher.update(&buffer);
        file.write_all(&buffer)?;
    }
    let digest = hasher.finish();
    let file = folder.join(digest.to_string());
    fs::rename(temporary, &file)?;
    Ok(Blob {
        path: format!("/{REPOSITORY}/blobs/{digest}"),
        file,
        bytes,
        digest,
    })
}

fn manifest_text(config: &Blob, layer: &Blob) -> String {
    let kind = "application/vnd.oci.image";
    let describe = |blob: &Blob, what: &str| {
        let (digest, size) = (&blob.digest, blob.bytes);
        format!(r#"{{"mediaType":"{kind}.{what}","digest":"{digest}","size":{size}}}"#)
    };
    let config = describe(config, "config.v1+json");
    let layer = describe(layer, "layer.v1.tar");
    let head = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{config},"layers":[{layer}],"annotations":{{"pad":""#
    );
    let tail = r#""}}"#;
    let pad = "x".repeat(MANIFEST_BYTES.saturating_sub(head.len() + tail.len()));
    format!("{head}{pad}{tail}")
}
