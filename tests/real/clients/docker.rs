//! dockerd: Debian's own and a newer one, the newer with both of its image stores.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::{PULL, Pull, basic, command, containerd, files};
use crate::support::process::Daemon;
use crate::support::{fetched, run};

/// Which dockerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Debian 12's: 20.10.
    Debian,
    /// 28 or what followed it, with its own image store.
    New,
    /// The same with containerd's store.
    NewContainerdStore,
}

/// A running dockerd with an empty store.
pub(crate) struct Dockerd {
    _daemon: Daemon,
    folder: PathBuf,
}

impl Dockerd {
    /// Starts it with the node of `pull` in its `registry-mirrors`.
    pub(crate) fn start(version: Version, pull: &Pull<'_>) -> Result<Self> {
        let folder = pull.lab.folder("dkr")?;
        // One attempt: what has to be asked for twice is not good enough here.
        let mut config = json!({"max-download-attempts": 1});
        if version != Version::Debian {
            config["features"] =
                json!({"containerd-snapshotter": version == Version::NewContainerdStore});
        }
        std::fs::write(folder.join("daemon.json"), config.to_string())?;
        files::set_up("docker", pull, &folder)?;
        let program = match version {
            Version::Debian => PathBuf::from("/usr/sbin/dockerd"),
            Version::New | Version::NewContainerdStore => {
                fetched().join("clients/docker-new/usr/sbin/dockerd")
            }
        };
        let mut dockerd = command(program);
        // dockerd starts the containerd it finds first.
        let own = match version {
            Version::Debian => containerd::Version::Debian.bin(),
            Version::New | Version::NewContainerdStore => containerd::Version::V2.bin(),
        };
        dockerd.env(
            "PATH",
            format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", own.display()),
        );
        dockerd.env("DOCKER_TMPDIR", &folder);
        for (flag, name) in [
            ("--data-root", "data"),
            ("--exec-root", "x"),
            ("--pidfile", "pid"),
            ("--config-file", "daemon.json"),
        ] {
            dockerd.arg(flag).arg(folder.join(name));
        }
        dockerd
            .arg("--host")
            .arg(format!("unix://{}/d.sock", folder.display()));
        dockerd.args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-masq=false",
        ]);
        let mut daemon = Daemon::start("dockerd", &dockerd, &folder)?;
        daemon.wait_until("dockerd to serve", Duration::from_secs(90), |daemon| {
            daemon.log().contains("API listen on").then_some(())
        })?;
        Ok(Self {
            _daemon: daemon,
            folder,
        })
    }

    /// `docker pull`; the digest is the one in the image's `RepoDigests`.
    pub(crate) fn pull(&self, pull: &Pull<'_>) -> Result<String> {
        if let Some((user, password)) = pull.account {
            let mut login = json!({"auths": {}});
            login["auths"]["https://index.docker.io/v1/"] = json!({"auth": basic(user, password)});
            std::fs::write(self.folder.join("config.json"), login.to_string())?;
        }
        self.docker(&["pull", "--quiet", pull.image])?;
        let digests = self.docker(&[
            "image",
            "inspect",
            "--format",
            "{{json .RepoDigests}}",
            pull.image,
        ])?;
        let (_, rest) = digests
            .split_once('@')
            .with_context(|| format!("no digest in: {digests}"))?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    }

    fn docker(&self, words: &[&str]) -> Result<String> {
        let mut docker = command("docker");
        docker
            .arg("--config")
            .arg(&self.folder)
            .arg("--host")
            .arg(format!("unix://{}/d.sock", self.folder.display()));
        // Newer daemons refuse the version that Debian's command would begin with.
        docker
            .env("DOCKER_API_VERSION", self.api_version()?)
            .args(words);
        run(&mut docker, PULL)
    }

    fn api_version(&self) -> Result<String> {
        let mut docker = command("docker");
        docker
            .arg("--host")
            .arg(format!("unix://{}/d.sock", self.folder.display()))
            .env("DOCKER_API_VERSION", "1.44");
        let newer = run(
            docker.args(["version", "--format", "{{.Server.Version}}"]),
            Duration::from_secs(30),
        );
        Ok(if newer.is_ok() {
            "1.44".to_owned()
        } else {
            "1.41".to_owned()
        })
    }
}
