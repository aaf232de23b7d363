//! Darner itself, as a user starts it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::process::Daemon;
use super::{Lab, free_port, http};

/// A running `darner up`.
pub(crate) struct Darner {
    daemon: Mutex<Daemon>,
    command: Command,
    folder: PathBuf,
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
        let (addr, admin) = (free_port()?, free_port()?);
        let file = folder.join("darner.toml");
        std::fs::write(&file, with.file)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_darner"));
        command.args([
            "up",
            "--listen",
            &addr.to_string(),
            "--admin",
            &admin.to_string(),
        ]);
        // Always a file of its own: the machine's is not part of the test.
        command.args(["--log", "debug", "--config"]).arg(&file);
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
        let daemon = start(&command, &folder, addr)?;
        Ok(Self {
            daemon: Mutex::new(daemon),
            command,
            folder,
            addr,
            admin,
        })
    }

    /// kill -9, and the same command again at the same address.
    pub(crate) fn kill_and_restart(&self) -> Result<()> {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        daemon.kill()?;
        *daemon = start(&self.command, &self.folder, self.addr)?;
        Ok(())
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

fn start(command: &Command, folder: &Path, addr: SocketAddr) -> Result<Daemon> {
    let mut daemon = Daemon::start("darner", command, folder)?;
    daemon.wait_until("darner to answer", Duration::from_secs(20), |_| {
        http::get(addr, "/v2/", &[])
            .ok()
            .filter(|answer| matches!(answer.status, 200 | 401))
    })?;
    Ok(daemon)
}
