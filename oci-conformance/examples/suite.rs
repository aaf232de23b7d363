//! The suite without the rest of Darner, for work on its checks.
//!
//!     cargo run -p oci-conformance --example suite -- [--only WHAT]... [--write] URL
//!     cargo run -p oci-conformance --example suite -- --run 'COMMAND with {listen} {data} {upstream} {name}'
//!         [--run-supernode 'COMMAND with {listen} {control} {data}' --run-node 'COMMAND with {supernode} {peer} ...']
//!
//! `--run` has the scripted origins behind it; a URL of `origin` tests the scripted origin itself.

#![allow(clippy::print_stderr, reason = "a command tells its findings there")]

use std::time::Duration;

use oci_conformance::client::Site;
use oci_conformance::runner::{self, Only};
use oci_conformance::setup::{Options, Target, Upstream};
use oci_conformance::stage::SwarmCommands;
use oci_conformance::{Origin, checks};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let all = checks::all();
    let mut only = Vec::new();
    let (mut url, mut command, mut write) = (String::new(), None, false);
    let (mut supernode, mut node) = (None, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--only" => only.push(Only::parse(&words.next().unwrap_or_default(), &all)?),
            "--run" => command = words.next(),
            "--run-supernode" => supernode = words.next(),
            "--run-node" => node = words.next(),
            "--write" => write = true,
            _ => url = word,
        }
    }
    let anywhere = "127.0.0.1:0".parse()?;
    let folder = std::env::temp_dir().join(format!("suite-{}", std::process::id()));
    let (mut origin, mut upstream) = (None, Upstream::Unknown);
    let target = match command {
        Some(command) => {
            upstream = Upstream::Scripted(anywhere, anywhere);
            let folder = folder.clone();
            Target::Run { command, folder }
        }
        None if url == "origin" => {
            let started = origin.insert(Origin::start().await);
            Target::Url(Site::parse(&started.url())?)
        }
        None => Target::Url(Site::parse(&url)?),
    };
    let options = Options {
        target,
        upstream,
        namespace: None,
        login: None,
        write,
        ttl: Duration::from_secs(2),
        peer_port: None,
        swarm: supernode
            .zip(node)
            .map(|(supernode, node)| SwarmCommands { supernode, node }),
        repository: "conformance".to_owned(),
        tag: "latest".to_owned(),
    };
    let scene = options.build().await?;
    let rows = runner::run(&scene, &all, &only, |row| {
        let (word, took) = (row.outcome.name(), row.took.as_secs_f32());
        eprintln!(
            "{word} {} {took:6.2} s  {}",
            row.check.id(),
            row.check.title
        );
        if row.outcome.name() == "FAIL" {
            eprintln!("     {}", row.outcome.reason());
            if let Some(exchange) = row.exchanges.last() {
                eprintln!("{exchange}");
            }
        } else if !row.outcome.reason().is_empty() {
            eprintln!("     {}", row.outcome.reason());
        }
    })
    .await;
    let failed = rows.iter().filter(|row| row.outcome.name() == "FAIL");
    eprintln!("{} of {} failed", failed.count(), rows.len());
    drop(scene);
    _ = std::fs::remove_dir_all(folder);
    Ok(())
}
