//! The clients' own configuration files that point them at Darner, as `darner setup` writes them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::Pull;
use crate::support::run;

/// Where a client turns when Darner does not serve it: an address that refuses, so that a test sees what Darner did.
const BEHIND: &str = "http://127.0.0.1:1";

/// Runs `darner setup` for a client whose configuration files are in `folder`.
pub(crate) fn set_up(client: &str, pull: &Pull<'_>, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut setup = Command::new(env!("CARGO_BIN_EXE_darner"));
    setup.args(["setup", client, "--address", &pull.darner.addr.to_string()]);
    setup.args(["--admin", &pull.darner.admin.to_string()]);
    setup
        .arg("--config-path")
        .arg(folder)
        .arg("--data-dir")
        .arg(pull.lab.folder("setup")?);
    setup
        .arg("--registry")
        .arg(format!("{}={BEHIND}", pull.registry()));
    run(&mut setup, Duration::from_secs(30))?;
    Ok(())
}
