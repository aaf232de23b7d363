//! Layers: packed folders of real content, with their digests.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Blob, digest_of};
use crate::support::{fetched, run};

/// The layers of all images.
pub(super) struct Layers {
    pub(super) rootfs: Layer,
    pub(super) tools: Layer,
    pub(super) toolchain: Layer,
    pub(super) etc: Layer,
    pub(super) share: Layer,
    pub(super) newer: Layer,
    pub(super) hidden: Layer,
}

impl Layers {
    /// Packs them into files in `folder`.
    pub(super) fn make(folder: &Path) -> Result<Self> {
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

/// A layer in a file.
pub(super) struct Layer {
    pub(super) file: PathBuf,
    /// `tar`, `tar+gzip` or `tar+zstd`.
    pub(super) kind: &'static str,
    pub(super) blob: Blob,
    /// The digest of the tar inside.
    pub(super) diff_id: String,
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
