//! Darner's own suite on real registries: nothing is worse through Darner, and a pull-through registry that does wrong
//! is found out.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::support::darner::Darner;
use crate::support::origin::{Access, Origin, Writable};
use crate::support::process::run_to_end;
use crate::support::{in_lab, tail};

const LIMIT: Duration = Duration::from_secs(900);

fn suite() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_darner"));
    command.arg("conformance");
    command
}

#[test]
#[allow(
    clippy::print_stderr,
    reason = "the table of both is what one runs this for"
)]
fn no_check_is_worse_than_directly() {
    in_lab(|lab| {
        let storage = lab.folder("storage")?;
        let origin = Origin::serve(lab, &storage, &Access::Open, Writable::Yes)?;
        let darner = Darner::start(lab, &[("docker.io", &origin.url())])?;
        let mut command = suite();
        command.arg(format!("http://{}", darner.addr)).args([
            "--write",
            "--ttl",
            "35",
            "--beside",
            &origin.url(),
        ]);
        let output = run_to_end(&command, LIMIT)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let start = text.find("here  there").context("a table of both")?;
        let start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        eprintln!("{}", &text[start..]);
        ensure!(
            output.status.success(),
            "{}\n{text}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    });
}

/// What is known of docker-registry 2.8 as a pull-through cache, and the row that must say so.
const GUILTY: [(&str, &str); 4] = [
    ("RNG-09", "a range of a cold blob is answered 200"),
    ("INT-01", "wrong bytes are delivered whole"),
    ("ERR-01", "an unknown digest is 500"),
    (
        "CCH-06",
        "eight cold clients cost nine GETs and eight HEADs",
    ),
];

#[test]
fn a_pull_through_registry_is_found_out() {
    in_lab(|lab| {
        let out = lab.folder("guilty")?.join("report.json");
        let mut command = suite();
        command.args(["--upstream", "scripted", "--json"]).arg(&out);
        command.args([
            "--run",
            "REGISTRY_HTTP_ADDR={listen} REGISTRY_PROXY_REMOTEURL={upstream} OTEL_TRACES_EXPORTER=none \
             REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={data} \
             exec docker-registry serve /etc/docker/registry/config.yml",
        ]);
        for (id, _) in GUILTY {
            command.args(["--only", id]);
        }
        let output = run_to_end(&command, LIMIT)?;
        let said = tail(&String::from_utf8_lossy(&output.stdout), 80);
        ensure!(output.status.code() == Some(1), "{said}");
        let report: Value = serde_json::from_slice(&std::fs::read(&out)?)?;
        let outcomes = outcomes(&report)?;
        for (id, fault) in GUILTY {
            let outcome = outcomes.get(id).map_or("-", String::as_str);
            ensure!(outcome == "fail", "{id} is {outcome}, but {fault}:\n{said}");
        }
        Ok(())
    });
}

fn outcomes(report: &Value) -> Result<BTreeMap<String, String>> {
    let checks = report["checks"].as_array().context("checks")?;
    let outcome = |check: &Value| {
        let id = check["id"].as_str()?.to_owned();
        Some((id, check["outcome"].as_str()?.to_owned()))
    };
    checks
        .iter()
        .map(|check| outcome(check).context("a check has an outcome"))
        .collect()
}
