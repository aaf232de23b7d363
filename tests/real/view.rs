//! What a person sees of a pull: `darner status`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::clients::{Client, Pull};
use crate::support::darner::Darner;
use crate::support::images::image;
use crate::support::origin::{Access, Origin};
use crate::support::{in_lab, run};

fn status(darner: &Darner, words: &[&str]) -> Result<String> {
    let mut status = Command::new(env!("CARGO_BIN_EXE_darner"));
    status
        .args(["status", "--admin", &darner.admin.to_string()])
        .args(words);
    run(&mut status, Duration::from_secs(20))
}

#[test]
fn status_tells_where_the_bytes_came_from() {
    in_lab(|lab| {
        let image = image("library/small:1")?;
        let origin = Origin::start(lab, &Access::Open)?;
        let darner = Darner::start(lab, &[("docker.io", &origin.url())])?;
        let pull = Pull::public(lab, &darner, "docker.io/library/small:1");
        let bytes = |source: &str| -> Result<u64> {
            let all: Value = serde_json::from_str(&status(&darner, &["--json"])?)?;
            all["sent_bytes"][source]
                .as_u64()
                .with_context(|| format!("no bytes by {source} in {all}"))
        };
        Client::Skopeo.pull(&pull)?;
        ensure!(
            bytes("upstream")? >= image.size(),
            "cold: {}",
            status(&darner, &["--json"])?
        );
        let (upstream, store) = (bytes("upstream")?, bytes("store")?);
        Client::Skopeo.pull(&pull)?;
        ensure!(
            bytes("upstream")? < upstream + image.size() / 100,
            "warm: {}",
            status(&darner, &["--json"])?
        );
        ensure!(
            bytes("store")? >= store + image.size(),
            "warm: {}",
            status(&darner, &["--json"])?
        );
        let line = status(&darner, &[])?;
        ensure!(line.trim_end().lines().count() == 1, "not one line: {line}");
        Ok(())
    });
}
