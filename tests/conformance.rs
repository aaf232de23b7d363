//! The conformance suite against the node, as the example in `examples/conformance` runs it: every check passes.
//!
//! One test for each category, since most of their time is waiting.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::process::Command;

use cli::Machine;
use serde_json::Value;

/// Runs a category, as a mirror that takes writes or one that does not; gives back its rows by id.
fn rows(only: &[&str], read_only: bool) -> Vec<(String, String, String)> {
    let machine = Machine::new();
    let report = machine.path("report.json");
    let mut command = Command::new("sh");
    command.arg("examples/conformance/run.sh");
    for only in only {
        command.args(["--only", only]);
    }
    command.arg("--json").arg(&report);
    command.env("DARNER", env!("CARGO_BIN_EXE_darner"));
    command.env("READ_ONLY", read_only.to_string());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read(report).unwrap_or_else(|_| panic!("no report:\n{text}{errors}"));
    let report: Value = serde_json::from_slice(&report).unwrap();
    let failed = report["fail"].as_u64().unwrap();
    assert_eq!(failed, 0, "{text}{errors}");
    assert!(output.status.success(), "{errors}");
    let row = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("id"), text("outcome"), text("reason"))
    };
    let checks = report["checks"].as_array().unwrap();
    checks.iter().map(row).collect()
}

/// All of a category pass but for those that need a mirror which takes no writes.
fn passes(category: &str, checks: usize) {
    let rows = rows(&[category], false);
    assert_eq!(rows.len(), checks);
    for (id, outcome, reason) in rows {
        let other = ["PSH-13", "MGT-02"].contains(&id.as_str());
        assert_eq!(
            outcome,
            if other { "skip" } else { "pass" },
            "{id}: {reason}"
        );
    }
}

#[test]
fn pull() {
    passes("pull", 18);
}

#[test]
fn range() {
    passes("range", 12);
}

#[test]
fn errors() {
    passes("errors", 11);
}

#[test]
fn discovery() {
    passes("discovery", 11);
}

#[test]
fn push() {
    passes("push", 13);
}

#[test]
fn management() {
    passes("management", 4);
}

#[test]
fn auth() {
    passes("auth", 17);
}

#[test]
fn proxying() {
    passes("proxying", 10);
}

#[test]
fn caching() {
    passes("caching", 15);
}

#[test]
fn integrity() {
    passes("integrity", 8);
}

#[test]
fn limits() {
    passes("limits", 9);
}

#[test]
fn a_mirror_that_takes_no_writes() {
    for (id, outcome, reason) in rows(&["PSH-13", "MGT-02"], true) {
        assert_eq!(outcome, "pass", "{id}: {reason}");
    }
}
