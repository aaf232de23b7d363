//! `cargo bench --bench versus`: Darner beside nginx and docker-registry, all on loopback, in one run.
//!
//! Every figure is taken round by round over all systems, the first round is dropped, medians count;
//! files are read before each measurement, so memory is warm. As root it runs in a network namespace
//! of its own whose loopback uses cubic: BBR, the default of some systems, would measure timers.
//! `-- --rounds 3` is quicker and rougher; `-- --only warm` runs the figures whose name contains it.
//!
//! Deliberately not here: TLS, real networks, cold disks.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench talks to a person"
)]

mod clock;
mod figures;
mod gate;
mod ground;
mod origin;
mod report;
mod sink;
mod systems;

use anyhow::{Context as _, Result};

fn main() {
    if let Err(error) = run() {
        eprintln!("versus: {error:#}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    ground::require_programs()?;
    if ground::enter_namespace()? {
        return Ok(());
    }
    let ground = ground::Ground::new()?;
    let content = origin::Content::make(&ground.files()).context("cannot make the blobs")?;
    let report = figures::run(&options, &ground, &content)?;
    report.print();
    let path = report.write_json()?;
    println!("\nsamples: {}", path.display());
    Ok(())
}

/// What to run.
pub(crate) struct Options {
    /// Repetitions that count; one more is run first and dropped.
    pub(crate) rounds: usize,
    /// Part of the names of the figures to take.
    pub(crate) only: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            rounds: 7,
            only: String::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .context(format!("{argument} needs a value"))
            };
            match argument.as_str() {
                // What `cargo bench` itself adds.
                "--bench" => {}
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--only" => options.only = value()?,
                other => anyhow::bail!("unknown argument {other}; hint: --rounds N, --only NAME"),
            }
        }
        anyhow::ensure!(options.rounds > 0, "--rounds must not be 0");
        Ok(options)
    }
}
