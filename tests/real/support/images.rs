//! The images: made once from real content, pushed into a docker-registry storage folder, used by every test.
//!
//! | reference | what it is |
//! |---|---|
//! | `library/lab:layers` | an index of two platforms; amd64 has four layers, one of them over 256 MiB |
//! | `library/lab:zstd` | one layer gzip, one zstd |
//! | `library/small:1`, `org/app:1` | Docker's media types, two small layers |
//! | `private/lab:1` | layers that no other image has |
//!
//! The content is what `scripts/test prepare` unpacked, and the Rust toolchain for the big layer.

mod layers;
mod push;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::origin::{Access, Origin, Writable};
use super::{Lab, fetched, run};
use layers::Layers;
use push::{DOCKER, OCI, Push};

/// Changes when the recipe does, so that an older cache is not used.
const RECIPE: &str = "images-1";
const BIG: u64 = 256 << 20;

/// One image as it was pushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) repository: String,
    pub(crate) tag: String,
    /// What the tag names: an index or a manifest.
    pub(crate) digest: String,
    /// Config and layers of the amd64 image.
    pub(crate) blobs: Vec<Blob>,
}

/// A config or layer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

impl Image {
    /// `repository:tag`.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }

    /// Sum of its blobs.
    pub(crate) fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }

    /// The biggest of its blobs.
    pub(crate) fn biggest(&self) -> Result<&Blob> {
        self.blobs
            .iter()
            .max_by_key(|blob| blob.size)
            .context("an image has blobs")
    }

    /// The path of a blob's GET.
    pub(crate) fn blob_path(&self, blob: &Blob) -> String {
        format!("/v2/{}/blobs/{}", self.repository, blob.digest)
    }
}

/// The image of this `repository:tag`.
pub(crate) fn image(name: &str) -> Result<Image> {
    let list: Vec<Image> = serde_json::from_slice(&std::fs::read(made()?.join("images.json"))?)?;
    list.into_iter()
        .find(|image| image.name() == name)
        .with_context(|| format!("there is no image {name}"))
}

/// docker-registry's storage folder with all images; never written to once made.
pub(crate) fn storage() -> Result<PathBuf> {
    Ok(made()?.join("registry"))
}

/// A copy of the storage (hard links) of which a file may be replaced.
pub(crate) fn storage_copy(lab: &Lab) -> Result<PathBuf> {
    let copy = lab.path().join("registry");
    run(
        Command::new("cp").arg("-al").arg(storage()?).arg(&copy),
        Duration::from_secs(60),
    )?;
    Ok(copy)
}

/// Where docker-registry keeps the bytes of a digest.
pub(crate) fn blob_file(storage: &Path, digest: &str) -> Result<PathBuf> {
    let hex = digest.strip_prefix("sha256:").context("a sha256 digest")?;
    Ok(storage
        .join("docker/registry/v2/blobs/sha256")
        .join(&hex[..2])
        .join(hex)
        .join("data"))
}

/// `sha256:...` of these bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// The folder of the finished images; makes them if this is the first to ask.
fn made() -> Result<PathBuf> {
    let folder = fetched().join(RECIPE);
    let lock = File::create(fetched().join("images.lock"))?;
    lock.lock()?;
    if !folder.join("images.json").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        make(&folder).context("making the test images")?;
    }
    Ok(folder)
}

fn make(folder: &Path) -> Result<()> {
    let layers = Layers::make(&folder.join("layers"))?;
    let storage = folder.join("registry");
    std::fs::create_dir_all(&storage)?;
    let mut origin = Origin::serve(
        &Lab::nested(folder)?,
        &storage,
        &Access::Open,
        Writable::Yes,
    )?;
    let push = Push::to(origin.addr);
    let Layers {
        rootfs,
        tools,
        toolchain,
        etc,
        share,
        newer,
        hidden,
    } = &layers;

    let amd64 = push.manifest(
        "library/lab",
        OCI,
        "amd64",
        &[rootfs, tools, toolchain, etc],
    )?;
    let arm64 = push.manifest("library/lab", OCI, "arm64", &[share, etc])?;
    let mut list = vec![
        push.index("library/lab", "layers", &amd64, &arm64)?,
        push.tagged("library/lab", "zstd", OCI, &[etc, newer])?,
        push.tagged("library/small", "1", DOCKER, &[etc, share])?,
        push.tagged("org/app", "1", DOCKER, &[etc, share])?,
    ];
    list.push(push.tagged("private/lab", "1", OCI, &[hidden])?);
    ensure!(
        list[0].biggest()?.size > BIG,
        "the toolchain's libraries make no layer over 256 MiB"
    );

    origin.stop()?;
    std::fs::remove_dir_all(folder.join("layers"))?;
    std::fs::write(
        folder.join("images.json"),
        serde_json::to_vec_pretty(&list)?,
    )?;
    Ok(())
}
