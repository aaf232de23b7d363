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

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::origin::{Access, Origin, Writable};
use super::{Lab, fetched, http, run};

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
    let push = Push { addr: origin.addr };
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

/// A layer in a file.
struct Layer {
    file: PathBuf,
    /// `tar`, `tar+gzip` or `tar+zstd`.
    kind: &'static str,
    blob: Blob,
    /// The digest of the tar inside.
    diff_id: String,
}

struct Layers {
    rootfs: Layer,
    tools: Layer,
    toolchain: Layer,
    etc: Layer,
    share: Layer,
    newer: Layer,
    hidden: Layer,
}

impl Layers {
    fn make(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (tree, clients) = (fetched().join("rootfs/tree"), fetched().join("clients"));
        let sysroot = run(
            Command::new("rustc").args(["--print", "sysroot"]),
            Duration::from_secs(30),
        )?;
        let sysroot = Path::new(sysroot.trim());
        let layer = |name: &str, kind, from: &Path, what: &[&str]| {
            Layer::make(&folder.join(name), kind, from, what)
        };
        Ok(Self {
            rootfs: layer(
                "rootfs",
                "tar+gzip",
                &tree,
                &["--exclude=./dev", "--exclude=./debootstrap", "."],
            )?,
            tools: layer("tools", "tar+gzip", &clients.join("containerd-2"), &["."])?,
            // Not compressed: it is big for its reader's sake, not to measure gzip.
            toolchain: layer(
                "toolchain",
                "tar",
                sysroot,
                &["--exclude=lib/rustlib", "lib", "bin"],
            )?,
            etc: layer("etc", "tar+gzip", &tree, &["./etc", "./var/lib/dpkg"])?,
            share: layer("share", "tar+gzip", &tree, &["./usr/share"])?,
            newer: layer("newer", "tar+zstd", &clients.join("containerd-1.7"), &["."])?,
            hidden: layer("hidden", "tar+gzip", &clients.join("docker-new"), &["."])?,
        })
    }
}

impl Layer {
    /// Packs `what` of the folder `from`, below `opt/<name>`.
    fn make(file: &Path, kind: &'static str, from: &Path, what: &[&str]) -> Result<Self> {
        let tar = file.with_extension("tar");
        let below = file
            .file_name()
            .and_then(|name| name.to_str())
            .context("a plain name")?;
        let mut command = Command::new("tar");
        command
            .args([
                "--sort=name",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "-C",
            ])
            .arg(from);
        command
            .arg(format!("--transform=s,^,opt/{below}/,rSh"))
            .arg("-cf")
            .arg(&tar)
            .args(what);
        run(&mut command, Duration::from_secs(120))?;
        let diff_id = digest_of(&std::fs::read(&tar)?);
        let packer: Option<&[&str]> = match kind {
            "tar+gzip" => Some(&["gzip", "-1", "-n", "-c"]),
            "tar+zstd" => Some(&["zstd", "-q", "-3", "-c"]),
            _ => None,
        };
        let file = match packer {
            None => tar,
            Some(words) => {
                let packed = file.with_extension("packed");
                let mut command = Command::new(words[0]);
                command
                    .args(&words[1..])
                    .arg(&tar)
                    .stdin(Stdio::null())
                    .stdout(File::create(&packed)?);
                ensure!(command.status()?.success(), "{} failed", words[0]);
                std::fs::remove_file(&tar)?;
                packed
            }
        };
        let bytes = std::fs::read(&file)?;
        let blob = Blob {
            digest: digest_of(&bytes),
            size: bytes.len() as u64,
        };
        Ok(Self {
            file,
            kind,
            blob,
            diff_id,
        })
    }
}

/// Media types of one family.
struct Family {
    manifest: &'static str,
    config: &'static str,
    /// A layer's, before `.<kind>`.
    layer: &'static str,
}

const OCI: &Family = &Family {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1",
};
const DOCKER: &Family = &Family {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff",
};
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Pushes into the docker-registry at an address.
struct Push {
    addr: SocketAddr,
}

/// A manifest that was pushed by digest, and what it names.
struct Manifest {
    bytes: Vec<u8>,
    family: &'static Family,
    blobs: Vec<Blob>,
}

impl Push {
    fn manifest(
        &self,
        repository: &str,
        family: &'static Family,
        arch: &str,
        layers: &[&Layer],
    ) -> Result<Manifest> {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": arch, "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string()
        .into_bytes();
        let mut blobs = vec![Blob {
            digest: digest_of(&config),
            size: config.len() as u64,
        }];
        self.blob(repository, &blobs[0].digest, &config)?;
        for layer in layers {
            self.blob(repository, &layer.blob.digest, &std::fs::read(&layer.file)?)?;
            blobs.push(layer.blob.clone());
        }
        let described: Vec<Value> = layers
            .iter()
            .map(|layer| {
                // Docker writes a dot where OCI writes a plus.
                let kind = if family.layer == DOCKER.layer { layer.kind.replace('+', ".") } else { layer.kind.to_owned() };
                json!({"mediaType": format!("{}.{kind}", family.layer), "digest": layer.blob.digest, "size": layer.blob.size})
            })
            .collect();
        let bytes = json!({
            "schemaVersion": 2, "mediaType": family.manifest,
            "config": {"mediaType": family.config, "digest": blobs[0].digest, "size": blobs[0].size},
            "layers": described,
        })
        .to_string()
        .into_bytes();
        self.put(repository, &digest_of(&bytes), family.manifest, &bytes)?;
        Ok(Manifest {
            bytes,
            family,
            blobs,
        })
    }

    fn tagged(
        &self,
        repository: &str,
        tag: &str,
        family: &'static Family,
        layers: &[&Layer],
    ) -> Result<Image> {
        let manifest = self.manifest(repository, family, "amd64", layers)?;
        self.put(repository, tag, manifest.family.manifest, &manifest.bytes)?;
        let digest = digest_of(&manifest.bytes);
        Ok(Image {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest,
            blobs: manifest.blobs,
        })
    }

    fn index(
        &self,
        repository: &str,
        tag: &str,
        amd64: &Manifest,
        arm64: &Manifest,
    ) -> Result<Image> {
        let entry = |manifest: &Manifest, arch: &str| {
            json!({"mediaType": manifest.family.manifest, "digest": digest_of(&manifest.bytes), "size": manifest.bytes.len(),
                "platform": {"architecture": arch, "os": "linux"}})
        };
        let bytes = json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(arm64, "arm64"), entry(amd64, "amd64")],
        })
        .to_string()
        .into_bytes();
        self.put(repository, tag, INDEX, &bytes)?;
        let blobs = amd64.blobs.clone();
        Ok(Image {
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            digest: digest_of(&bytes),
            blobs,
        })
    }

    fn put(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = http::request(
            self.addr,
            "PUT",
            &path,
            &[("Content-Type", media_type)],
            bytes,
        )?;
        let status = answer.status;
        ensure!(
            status == 201,
            "PUT {path}: {status} {}",
            String::from_utf8_lossy(&answer.body()?)
        );
        Ok(())
    }

    fn blob(&self, repository: &str, digest: &str, bytes: &[u8]) -> Result<()> {
        let started = http::request(
            self.addr,
            "POST",
            &format!("/v2/{repository}/blobs/uploads/"),
            &[],
            &[],
        )?;
        let location = started.header("location").context("a Location")?;
        let path = location
            .find("/v2/")
            .map(|at| &location[at..])
            .context("a path in Location")?;
        let path = format!("{path}&digest={}", digest.replace(':', "%3A"));
        let answer = http::request(self.addr, "PUT", &path, &[], bytes)?;
        let status = answer.status;
        ensure!(
            status == 201,
            "PUT {path}: {status} {}",
            String::from_utf8_lossy(&answer.body()?)
        );
        Ok(())
    }
}
