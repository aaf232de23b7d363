//! The command `darner`: reads arguments, starts what they name, prints what a person reads.
//!
//! Deliberately not here: anything a registry, a node or a transfer does; that is in the libraries.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program speaks to a person"
)]

mod ask;
mod cli;
mod config;
mod failure;
mod setup;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, RunArgs};
use crate::config::key::Role;
use crate::config::layer::Layer;
use crate::failure::Failure;

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
        Command::Setup(args) => block_on(setup::run(&args)),
        Command::Status(_) => Ok(()),
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

fn start(role: Role, flags: Layer, run: &RunArgs) -> Result<(), Failure> {
    let loaded = config::load(role, flags, run.config.as_deref(), std::env::vars_os())?;
    if run.check {
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        config::check::machine(&loaded.settings)?;
        if run.json {
            println!("{:#}", config::print::to_json(&loaded.settings));
        } else {
            print!("{}", config::print::to_toml(&loaded.settings));
        }
        return Ok(());
    }
    Ok(())
}
