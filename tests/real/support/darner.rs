//! Darner itself, as a user starts it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::net::Space;
use super::process::Daemon;
use super::{Lab, free_port, http};

/// A running `darner up`, or a part of a swarm.
pub(crate) struct Darner {
    daemon: Mutex<Daemon>,
    command: Command,
    folder: PathBuf,
    space: Option<Space>,
    /// The registry front door.
    pub(crate) addr: SocketAddr,
    /// Metrics and status.
    pub(crate) admin: SocketAddr,
}

/// What a test sets up otherwise than a newcomer does.
#[derive(Default)]
pub(crate) struct With<'a> {
    /// The data folder; one of its own if `None`.
    pub(crate) data: Option<&'a Path>,
    /// More flags.
    pub(crate) flags: &'a [&'a str],
    /// The configuration file's text.
    pub(crate) file: &'a str,
    /// A folder in which it finds programs first.
    pub(crate) programs: Option<&'a Path>,
    /// What it is.
    pub(crate) role: Role,
    /// The machine that it runs on, at the ports that it has unless told otherwise.
    pub(crate) space: Option<&'a Space>,
}

/// What a Darner is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// A node on its own.
    #[default]
    Up,
    /// A node of a swarm.
    Proxy,
    /// Who leads it.
    Supernode,
}

impl Role {
    /// The command and the flag of its admin port.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Up => ["up", "--admin"],
            Self::Proxy => ["proxy", "--admin"],
            Self::Supernode => ["supernode", "--control"],
        }
    }

    /// Front door and admin port on this machine, or on a machine that is shared.
    fn addrs(self, space: Option<&Space>) -> Result<[SocketAddr; 2]> {
        Ok(match (space, self) {
            (None, _) => [free_port()?, free_port()?],
            (Some(space), Self::Supernode) => [8001, 8002].map(|port| (space.addr, port).into()),
            (Some(_), Self::Up | Self::Proxy) => {
                [65001, 65002].map(|port| (Ipv4Addr::LOCALHOST, port).into())
            }
        })
    }
}

impl Darner {
    /// Starts it with an empty data folder and these registries: name and URLs.
    pub(crate) fn start(lab: &Lab, registries: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(lab, registries, &With::default())
    }

    /// The same, set up otherwise.
    pub(crate) fn start_with(
        lab: &Lab,
        registries: &[(&str, &str)],
        with: &With<'_>,
    ) -> Result<Self> {
        let folder = lab.folder("darner")?;
        let [addr, admin] = with.role.addrs(with.space)?;
        let file = folder.join("darner.toml");
        std::fs::write(&file, with.file)?;
        let program = env!("CARGO_BIN_EXE_darner");
        let mut command = with
            .space
            .map_or_else(|| Command::new(program), |space| space.command(program));
        let [name, flag] = with.role.words();
        command.args([name, "--listen", &addr.to_string()]);
        command.args([flag, &admin.to_string()]);
        // Always a file of its own: the machine's is not part of the test.
        command
            .args(["--log", "debug,h2=info", "--config"])
            .arg(&file);
        // The machine that runs the tests may be nearly full; that is tested elsewhere.
        command.args(["--min-free", "1%"]).args(with.flags);
        command.arg("--data-dir").arg(
            with.data
                .map_or_else(|| folder.join("data"), Path::to_owned),
        );
        if let Some(programs) = with.programs {
            command.env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()),
            );
        }
        for (name, url) in registries {
            command.arg("--registry").arg(format!("{name}={url}"));
        }
        let daemon = start(&command, &folder, with.space, addr)?;
        Ok(Self {
            daemon: Mutex::new(daemon),
            command,
            folder,
            space: with.space.cloned(),
            addr,
            admin,
        })
    }

    /// kill -9, and the same command again at the same address.
    pub(crate) fn kill_and_restart(&self) -> Result<()> {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        daemon.kill()?;
        *daemon = start(&self.command, &self.folder, self.space.as_ref(), self.addr)?;
        Ok(())
    }

    /// kill -9, for good.
    pub(crate) fn kill(&self) -> Result<()> {
        self.daemon
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kill()
    }

    /// What it says of itself: `/status`.
    pub(crate) fn status(&self) -> Result<Value> {
        let body = within(self.space.as_ref(), || {
            http::get(self.admin, "/status", &[])?.body()
        })?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Ends it by SIGTERM.
    ///
    /// # Errors
    ///
    /// When it does not end by itself.
    pub(crate) fn stop(&self) -> Result<()> {
        self.daemon
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stop()
    }
}

fn start(
    command: &Command,
    folder: &Path,
    space: Option<&Space>,
    addr: SocketAddr,
) -> Result<Daemon> {
    let mut daemon = Daemon::start("darner", command, folder)?;
    daemon.wait_until("darner to answer", Duration::from_secs(20), |_| {
        let status = within(space, || Ok(http::get(addr, "/v2/", &[])?.status)).ok()?;
        matches!(status, 200 | 401).then_some(())
    })?;
    Ok(daemon)
}

/// Does `work` on that machine.
fn within<T: Send>(space: Option<&Space>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match space {
        Some(space) => space.inside(work),
        None => work(),
    }
}
