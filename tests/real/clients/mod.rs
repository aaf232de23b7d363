//! The real clients, each pulling once from an empty state of its own.
//!
//! A pull starts the client's daemon (where it has one) under the lab's folder, points it at the mirror, pulls,
//! and ends it. None can reach a registry past the mirror: HTTPS goes to a proxy that is not there.

pub(crate) mod containerd;
pub(crate) mod cri;
pub(crate) mod docker;
pub(crate) mod files;
pub(crate) mod tools;

use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::Lab;
use crate::support::darner::Darner;
use crate::support::images::Image;

/// How long one pull may take; the slowest seen is a tenth of it.
pub(crate) const PULL: Duration = Duration::from_secs(240);

/// A proxy that refuses: a client that leaves the mirror fails instead of asking a public registry.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:1";

/// Which client, by version where several are at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// `ctr images pull`.
    Ctr(containerd::Version),
    /// The kubelet's and crictl's call.
    Cri(containerd::Version),
    /// dockerd.
    Docker(docker::Version),
    Podman,
    Skopeo,
}

impl Client {
    /// Pulls from an empty state and finds what upstream has.
    ///
    /// # Errors
    ///
    /// What the client said when the pull fails, or the digest it has when that is another.
    pub(crate) fn pull_same(self, pull: &Pull<'_>, image: &Image) -> Result<()> {
        let digest = self
            .pull(pull)
            .with_context(|| format!("{self} pulls {}", pull.image))?;
        ensure!(
            digest == image.digest,
            "{self} has {digest}, upstream has {}",
            image.digest
        );
        Ok(())
    }

    /// Pulls from an empty state and gives the digest that the reference had for this client.
    ///
    /// # Errors
    ///
    /// What the client said, when the pull fails.
    pub(crate) fn pull(self, pull: &Pull<'_>) -> Result<String> {
        match self {
            Self::Ctr(version) => containerd::Containerd::start(version, pull)?.ctr_pull(pull),
            Self::Cri(version) => containerd::Containerd::start(version, pull)?.cri_pull(pull),
            Self::Docker(version) => docker::Dockerd::start(version, pull)?.pull(pull),
            Self::Podman => tools::podman_pull(pull),
            Self::Skopeo => tools::skopeo_pull(pull),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What to pull, and through which node.
pub(crate) struct Pull<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) darner: &'a Darner,
    /// As a user writes it: `docker.io/library/lab:layers`.
    pub(crate) image: &'a str,
    /// User and password, where the client can send them.
    pub(crate) account: Option<(&'a str, &'a str)>,
}

impl<'a> Pull<'a> {
    /// What anyone may pull.
    pub(crate) fn public(lab: &'a Lab, darner: &'a Darner, image: &'a str) -> Self {
        Self {
            lab,
            darner,
            image,
            account: None,
        }
    }

    /// The registry's host name.
    pub(crate) fn registry(&self) -> &str {
        self.image.split('/').next().unwrap_or_default()
    }
}

/// A command that cannot leave the machine.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in ["HTTPS_PROXY", "https_proxy"] {
        command.env(name, NOWHERE);
    }
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "NO_PROXY",
        "no_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    command
}

/// A user and password as login files keep them.
pub(crate) fn basic(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}
