//! containerd: Debian's own, 1.7 and 2; pulled by `ctr` and by the CRI call.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{PULL, Pull, command, cri, files};
use crate::support::process::Daemon;
use crate::support::{fetched, run};

/// Which containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Debian 12's: 1.6.
    Debian,
    V1_7,
    V2,
    /// The same, fetching layers by several open-ended ranges at once, which it leaves in mid-way.
    V2Ranges,
}

impl Version {
    /// Where its programs are.
    pub(crate) fn bin(self) -> PathBuf {
        match self {
            Self::Debian => PathBuf::from("/usr/bin"),
            Self::V1_7 => fetched().join("clients/containerd-1.7/usr/bin"),
            Self::V2 | Self::V2Ranges => fetched().join("clients/containerd-2/usr/bin"),
        }
    }
}

/// A running containerd with an empty store.
pub(crate) struct Containerd {
    version: Version,
    _daemon: Daemon,
    folder: PathBuf,
}

impl Containerd {
    /// Starts it, set up for the node of `pull`.
    pub(crate) fn start(version: Version, pull: &Pull<'_>) -> Result<Self> {
        let folder = pull.lab.folder("ctd")?;
        let hosts = folder.join("certs.d");
        files::set_up("containerd", pull, &hosts)?;
        let config = folder.join("config.toml");
        std::fs::write(&config, config_text(version, &folder))?;
        let mut containerd = command(version.bin().join("containerd"));
        containerd.arg("--config").arg(&config);
        let mut daemon = Daemon::start("containerd", &containerd, &folder)?;
        let socket = folder.join("c.sock");
        daemon.wait_until("containerd to serve", Duration::from_secs(60), |daemon| {
            (socket.exists() && daemon.log().contains("containerd successfully booted"))
                .then_some(())
        })?;
        Ok(Self {
            version,
            _daemon: daemon,
            folder,
        })
    }

    /// `ctr images pull`; the digest is what `ctr images ls` shows.
    pub(crate) fn ctr_pull(&self, pull: &Pull<'_>) -> Result<String> {
        let mut words = vec![
            "images".to_owned(),
            "pull".to_owned(),
            "--hosts-dir".to_owned(),
        ];
        words.push(self.folder.join("certs.d").display().to_string());
        if let Some((user, password)) = pull.account {
            words.extend(["--user".to_owned(), format!("{user}:{password}")]);
        }
        words.push(pull.image.to_owned());
        self.ctr(&words)?;
        let list = self.ctr(&[
            "images".to_owned(),
            "ls".to_owned(),
            format!("name=={}", pull.image),
        ])?;
        let digest = list
            .split_whitespace()
            .find(|word| word.starts_with("sha256:"));
        Ok(digest
            .with_context(|| format!("no digest in: {list}"))?
            .to_owned())
    }

    /// The CRI `PullImage` call. Its answer is the config's digest; the reference's own is what `ctr` then shows.
    pub(crate) fn cri_pull(&self, pull: &Pull<'_>) -> Result<String> {
        cri::pull_image(&self.folder.join("c.sock"), pull)?;
        let words = ["-n", "k8s.io", "images", "ls"].map(str::to_owned);
        let list = self.ctr(&[&words[..], &[format!("name=={}", pull.image)]].concat())?;
        let digest = list
            .split_whitespace()
            .find(|word| word.starts_with("sha256:"));
        Ok(digest
            .with_context(|| format!("no digest in: {list}"))?
            .to_owned())
    }

    fn ctr(&self, words: &[String]) -> Result<String> {
        let mut ctr = command(self.version.bin().join("ctr"));
        ctr.arg("--address")
            .arg(self.folder.join("c.sock"))
            .args(words);
        run(&mut ctr, PULL)
    }
}

fn config_text(version: Version, folder: &Path) -> String {
    let folder = folder.display();
    let (number, images) = match version {
        Version::Debian | Version::V1_7 => (2, "io.containerd.grpc.v1.cri"),
        Version::V2 | Version::V2Ranges => (3, "io.containerd.cri.v1.images"),
    };
    let ranges = if version == Version::V2Ranges {
        "[plugins.\"io.containerd.transfer.v1.local\"]\n  max_concurrent_downloads = 4\n  concurrent_layer_fetch_buffer = 8388608\n"
    } else {
        ""
    };
    // Left out: what would write outside the folder, or look for devices that are not there.
    format!(
        r#"version = {number}
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/t.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."{images}".registry]
  config_path = "{folder}/certs.d"
{ranges}"#
    )
}
