//! `darner setup`: points a client on this machine to the node, and takes that back.
//!
//! Invariant: nothing is written before the node answers, all of it or nothing is written, every
//! byte of it can be undone, and nothing is ever restarted: that is left to the operator, in words.

mod containerd;
mod containerd_config;
mod docker;
mod files;
mod hosts;
mod journal;
mod node;
mod plan;
mod podman;

use std::path::{Path, PathBuf};

use proxy::upstream::{Upstreams, UpstreamsConfig};

use crate::cli::{Client, SetupArgs};
use crate::config;
use crate::failure::Failure;
use crate::speak::say;
use journal::{Journal, Undone};
use plan::{Context, NodeAddress, Plan, Wanted};

/// Does what the arguments say.
pub(crate) async fn run(args: &SetupArgs) -> Result<(), Failure> {
    let root = args.root.clone().unwrap_or_else(|| PathBuf::from("/"));
    let state = match &args.data_dir {
        Some(folder) => absolute(folder)?,
        None => {
            let default = default_state()?;
            root.join(default.strip_prefix("/").unwrap_or(&default))
        }
    };
    if args.undo {
        return undo(&state, args.client);
    }
    let client = args
        .client
        .ok_or_else(|| Failure::usage("setup needs a client: containerd, docker or podman"))?;
    let address = NodeAddress::parse(&args.address)?;
    let wanted: Vec<Wanted> = args
        .registry
        .iter()
        .map(|text| Wanted::parse(text))
        .collect::<Result<_, _>>()?;
    let served = match node::check(address.authority(), &args.admin).await {
        Ok(served) => served,
        Err(failure) if args.dry_run => {
            say(format!(
                "note: nothing would be written now; {}",
                node::first_line(&failure)
            ));
            None
        }
        Err(failure) => return Err(failure),
    };
    let config_path = args.config_path.as_ref().map(absolute).transpose()?;
    let mut journal = Journal::open(&state, client)?;
    let mut plan = {
        let context = Context {
            root: &root,
            config_path: config_path.as_deref(),
            address: &address,
            wanted: &wanted,
            journal: &journal,
            version: match args.root {
                // Another root is another machine: the program found here is not its client.
                Some(_) => None,
                None => node::version(client).await,
            },
        };
        make(client, &context)?
    };
    unserved(&mut plan, &wanted, served.as_deref());
    if args.dry_run {
        show(&plan);
    } else {
        journal.apply(&plan.changes)?;
        report(client, &plan);
    }
    Ok(())
}

/// Where backups and journals are kept. Not in the node's data folder where that may belong to the
/// node's own user: root's undo writes what it finds in there, so only root may have put it there.
fn default_state() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/darner-setup"));
    }
    Ok(config::data_dir()?.join("setup"))
}

fn make(client: Client, context: &Context<'_>) -> Result<Plan, Failure> {
    match client {
        Client::Containerd => containerd::plan(context),
        Client::Docker => docker::plan(context),
        Client::Podman => podman::plan(context),
    }
}

/// Registries the node would answer 404 for: neither its operator's nor well-known.
fn unserved(plan: &mut Plan, wanted: &[Wanted], served: Option<&[String]>) {
    let Some(served) = served else { return };
    let Ok(well_known) = Upstreams::build(&UpstreamsConfig::default()) else {
        return;
    };
    for wanted in wanted {
        let name = wanted.registry.as_str();
        let own = served.iter().any(|served| served == name);
        if !own && well_known.knows(name).is_none() {
            plan.trap(
                format!(
                    "the node does not serve {name}: it answers 404 and the client asks {name} itself"
                ),
                format!("run the node with --registry {name}={}", wanted.server()),
            );
        }
    }
}

fn show(plan: &Plan) {
    for change in &plan.changes {
        say(format!("would write {}:", change.path.display()));
        for line in change.content.lines() {
            say(format!("    {line}").trim_end());
        }
    }
    tell(plan);
}

fn report(client: Client, plan: &Plan) {
    for change in &plan.changes {
        say(format!("wrote {}", change.path.display()));
    }
    tell(plan);
    if !plan.changes.is_empty() {
        say(format!("undo: darner setup --undo {}", client.name()));
    }
}

fn tell(plan: &Plan) {
    for path in &plan.settled {
        say(format!("unchanged {}", path.display()));
    }
    for trap in &plan.traps {
        say(format!("warning: {}\n   hint: {}", trap.what, trap.mend));
    }
    for step in &plan.after {
        say(format!("next: {step}"));
    }
}

fn undo(state: &Path, client: Option<Client>) -> Result<(), Failure> {
    let clients = match client {
        Some(client) => vec![client],
        None => Client::ALL.to_vec(),
    };
    let mut any = false;
    let mut left = Vec::new();
    for client in clients {
        let mut journal = Journal::open(state, client)?;
        if journal.is_empty() {
            continue;
        }
        any = true;
        for edit in journal.edits() {
            say(format!(
                "note: what was edited between two runs of setup is not brought back; a copy lies in {}",
                edit.display()
            ));
        }
        for done in journal.undo()? {
            match done {
                Undone::Restored(path) => say(format!("restored {}", path.display())),
                Undone::Removed(path) => say(format!("removed {}", path.display())),
                Undone::Untouched(path) => say(format!("already as before {}", path.display())),
                Undone::Changed(path, backup) => {
                    say(format!("left alone {}", path.display()));
                    left.push((path, backup));
                }
            }
        }
        say(format!("next: {}", after_undo(client)));
    }
    if !any {
        say(format!(
            "nothing to undo: no setup is recorded in {}",
            state.display()
        ));
    }
    match left.first() {
        None => Ok(()),
        Some((path, backup)) => {
            let hint = match backup {
                Some(backup) => format!(
                    "what was there before is {}; move {} away and run this again to get it back",
                    backup.display(),
                    path.display()
                ),
                None => "there was none before: remove it yourself if nobody needs it, then run this again".to_owned(),
            };
            Err(Failure::new(format!(
                "{} was changed since setup wrote it and is left alone",
                path.display()
            ))
            .hint(hint))
        }
    }
}

fn after_undo(client: Client) -> &'static str {
    match client {
        Client::Containerd => "containerd reads hosts.toml at every pull: nothing to restart",
        Client::Docker => {
            "reload dockerd, if daemon.json is among them: systemctl reload docker (or kill -HUP)"
        }
        Client::Podman => "podman reads these files at every pull: nothing to restart",
    }
}

fn absolute(path: &PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}
