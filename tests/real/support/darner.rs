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

impl Darner {
    /// Starts it with an empty data folder and these registries: name and URL.
    pub(crate) fn start(lab: &Lab, registries: &[(&str, &str)]) -> Result<Self> {
        Self::start_in(lab, &lab.folder("data")?, registries)
    }

    /// The same with this data folder.
    pub(crate) fn start_in(lab: &Lab, data: &Path, registries: &[(&str, &str)]) -> Result<Self> {
        let folder = lab.folder("darner")?;
        let (addr, admin) = (free_port()?, free_port()?);
        let mut command = Command::new(env!("CARGO_BIN_EXE_darner"));
        command.args([
            "up",
            "--listen",
            &addr.to_string(),
            "--admin",
            &admin.to_string(),
            "--log",
            "debug",
        ]);
        // The machine that runs the tests may be nearly full; that is tested elsewhere.
        command
            .args(["--min-free", "1%"])
            .arg("--data-dir")
            .arg(data);
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
            .filter(|answer| answer.status == 200)
    })?;
    Ok(daemon)
}
