//! The suite without the rest of Darner, for work on its checks.
//!
//!     cargo run -p oci-conformance --example suite -- [--only WHAT]... [--write] URL
//!     cargo run -p oci-conformance --example suite -- --run 'COMMAND with {listen} {data} {upstream} {name}'
//!     cargo run -p oci-conformance --example suite -- --write --alone --run 'COMMAND with {listen} {data}'
//!
//! Without `--write` a URL needs `--repository NAME`, where an image is tagged `latest`.
//! `--run` has the scripted origins behind it, unless the registry stands alone; a URL of `origin`
//! tests the scripted origin itself: by `--write` as any registry, without it with its faults.

#![allow(clippy::print_stderr, reason = "it reports to the person who runs it")]

use std::time::Duration;

use oci_conformance::client::Site;
use oci_conformance::runner::{self, Only, Outcome, Row};
use oci_conformance::setup::{Options, Target, Upstream};
use oci_conformance::{Origin, checks};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let all = checks::all();
    let mut only = Vec::new();
    let mut repository = "conformance".to_owned();
    let (mut url, mut command, mut write, mut alone) = (String::new(), None, false, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--only" => only.push(Only::parse(&words.next().unwrap_or_default(), &all)?),
            "--run" => command = words.next(),
            "--write" => write = true,
            "--alone" => alone = true,
            "--repository" => repository = words.next().unwrap_or_default(),
            _ => url = word,
        }
    }
    let anywhere = "127.0.0.1:0".parse()?;
    let folder = std::env::temp_dir().join(format!("suite-{}", std::process::id()));
    let (mut origin, mut upstream) = (None, Upstream::Unknown);
    let target = match command {
        Some(command) => {
            if !alone {
                upstream = Upstream::Scripted(anywhere, anywhere);
            }
            let folder = folder.clone();
            Target::Run { command, folder }
        }
        None if url == "origin" && write => {
            let started = origin.insert(Origin::start().await);
            Target::Url(Site::parse(&started.url())?)
        }
        None if url == "origin" => {
            // A port that is free now: the origin is what is tested, and what stands behind it.
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            upstream = Upstream::Scripted(port, anywhere);
            Target::Url(Site::loopback(port))
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
        repository,
        tag: "latest".to_owned(),
    };
    let scene = options.build().await?;
    let rows = runner::run(&scene, &all, &only, tell).await;
    let failed = rows.iter().filter(|row| row.outcome.name() == "FAIL");
    eprintln!("{} of {} failed", failed.count(), rows.len());
    drop(scene);
    _ = std::fs::remove_dir_all(folder);
    Ok(())
}

fn tell(row: &Row) {
    let (word, took) = (row.outcome.name(), row.took.as_secs_f32());
    let (id, title) = (row.check.id(), row.check.title);
    eprintln!("{word} {id} {took:6.2} s  {title}");
    if !row.outcome.reason().is_empty() {
        eprintln!("     {}", row.outcome.reason());
    }
    if let (Outcome::Fail(_), Some(exchange)) = (&row.outcome, row.exchanges.last()) {
        eprintln!("{exchange}");
    }
}
