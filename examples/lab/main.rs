//! `cargo run --release --example lab -- ...`: a swarm in network namespaces with shaped links, measured.
//!
//! One command, as root, makes an origin (docker-registry), a supernode and N nodes, lets a client
//! on each node pull the same image at the same moment, and says what that took beside what the links
//! allow at best. Invariant: whatever happens to the run, nothing of it is left on the machine.
//! Deliberately not here: container runtimes (tests/real has them), latency (tbf adds none), TLS.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a lab talks to a person"
)]

mod account;
mod client;
mod cluster;
mod content;
mod counters;
mod daemon;
mod headline;
mod http;
mod liar;
mod memory;
mod net;
mod options;
mod origin;
mod outcome;
mod place;
mod ring;
mod run;
mod session;
mod supervise;
mod svg;
mod table;
mod targets;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    let ended = if supervise::is_worker() {
        session::run(&options)
    } else {
        supervise::run(&options)
    };
    ended.unwrap_or_else(|error| {
        eprintln!("lab: {error:#}");
        ExitCode::FAILURE
    })
}

/// Says what is going on; results go to standard output, this to standard error.
fn say(words: impl std::fmt::Display) {
    eprintln!("lab: {words}");
}

/// Runs a command to its end.
///
/// # Errors
/// When it fails; with what it said.
fn command(line: &str) -> Result<String> {
    use anyhow::Context as _;
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = std::process::Command::new(program).args(words).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{line}: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
