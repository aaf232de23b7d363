//! The command `darner`: reads arguments, starts what they name, prints what a person reads.
//!
//! Deliberately not here: anything a registry, a node or a transfer does; that is in the libraries.
#![allow(
    clippy::print_stderr,
    reason = "errors and warnings of a command belong there"
)]

mod announce;
mod ask;
mod cli;
mod config;
mod conformance;
mod failure;
mod preheat;
mod pull;
mod run;
mod setup;
mod speak;
mod status;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, RunArgs};
use crate::config::key::Role;
use crate::config::layer::Layer;
use crate::failure::Failure;
use crate::speak::say;

/// Body buffers of hundreds of KiB come and go: the system's allocator maps and faults each anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(args) => start(Role::Up, args.layer()?, &args.run),
        Command::Proxy(args) => start(Role::Proxy, args.layer()?, &args.run),
        Command::Supernode(args) => start(Role::Supernode, args.layer()?, &args.run),
        Command::Preheat(args) => block_on(preheat::run(&args)),
        Command::Pull(args) => pull::run(&args),
        Command::Setup(args) => block_on(setup::run(&args)),
        Command::Conformance(args) => block_on(conformance::run(&args)),
        Command::Status(args) => block_on(status::run(&args)),
    }
}

/// For the commands that ask a little and end.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime does not start: {error}")))?
        .block_on(work)
}

fn start(role: Role, flags: Layer, args: &RunArgs) -> Result<(), Failure> {
    let loaded = config::load(role, flags, args.config.as_deref(), std::env::vars_os())?;
    let settings = &loaded.settings;
    if !args.check {
        return run::run(settings, &loaded.warnings);
    }
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    run::check(settings)?;
    config::check::machine(settings)?;
    if args.json {
        say(format!("{:#}", config::print::to_json(settings)));
    } else {
        say(config::print::to_toml(settings).trim_end());
    }
    Ok(())
}
