//! `darner conformance`: the suite against a registry or a mirror, and its reports.
//!
//! Deliberately not here: any check; the library has them and knows nothing of Darner.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci_conformance::client::Site;
use oci_conformance::report::{self, Report};
use oci_conformance::runner::{self, Only};
use oci_conformance::setup::{Options, Target, Upstream};
use oci_conformance::stage::{Scene, SwarmCommands};
use oci_conformance::{Check, checks};

use crate::cli::ConformanceArgs;
use crate::failure::Failure;
use crate::speak::say;

const PASSWORD: &str = "DARNER_CONFORMANCE_PASSWORD";

/// Does what the arguments say.
pub(crate) async fn run(args: &ConformanceArgs) -> Result<(), Failure> {
    let all = checks::all();
    let only = args.only.iter().map(|text| Only::parse(text, &all));
    let only = only.collect::<Result<Vec<_>, _>>().map_err(|what| {
        Failure::usage(format!("--only: {what}")).hint("darner conformance --list shows them all")
    })?;
    if args.list {
        list(&all, &only);
        return Ok(());
    }
    let folder = Folder::new()?;
    let options = options(args, &folder.0)?;
    let quiet = args.json.as_deref() == Some(Path::new("-"));
    let here = test(&options, &all, &only, quiet).await?;
    let there = match &args.beside {
        None => None,
        Some(url) => {
            let options = beside(&options, url)?;
            Some(test(&options, &all, &only, true).await?)
        }
    };
    write(args, &here)?;
    if !quiet {
        say(report::summary(&here).trim_end());
        if let Some(there) = &there {
            say(report::beside(&here, there).trim_end());
        }
    }
    outcome(&here, there.as_ref())
}

fn list(all: &[Check], only: &[Only]) {
    for check in all {
        if only.is_empty() || only.iter().any(|only| only.means(check)) {
            let (id, level) = (check.id(), check.level.name());
            say(format!(
                "{id} {level:<6} {}\n       {}",
                check.title, check.clause
            ));
        }
    }
}

async fn test(
    options: &Options,
    all: &[Check],
    only: &[Only],
    quiet: bool,
) -> Result<Report, Failure> {
    let scene = options.build().await;
    let scene: Arc<Scene> = scene.map_err(|error| {
        Failure::new(error.to_string()).hint("see what the command prints by running it yourself")
    })?;
    let rows = runner::run(&scene, all, only, |row| {
        if !quiet {
            say(report::row(row).trim_end());
        }
    })
    .await;
    Ok(Report {
        subject: scene.mirror.site().to_string(),
        rows,
    })
}

fn outcome(here: &Report, there: Option<&Report>) -> Result<(), Failure> {
    let Some(there) = there else {
        return match here.counts().fail {
            0 => Ok(()),
            failed => Err(Failure::new(format!("{failed} checks failed"))
                .hint("--html FILE writes a page with every exchange of theirs")),
        };
    };
    match here.worse_than(there).len() {
        0 => Ok(()),
        worse => Err(Failure::new(format!(
            "{worse} checks are worse at {} than at {}",
            here.subject, there.subject
        ))),
    }
}

fn options(args: &ConformanceArgs, folder: &Path) -> Result<Options, Failure> {
    let target = match (&args.run, &args.url) {
        (Some(command), _) => Target::Run {
            command: command.clone(),
            folder: folder.to_owned(),
        },
        (None, url) => Target::Url(site("URL", url.as_deref().unwrap_or_default())?),
    };
    let login = args.user.clone().map(|user| {
        let password = std::env::var(PASSWORD);
        let password = password.map_err(|_| {
            Failure::usage(format!("--user {user} has no password"))
                .hint(format!("put it into the variable {PASSWORD}"))
        });
        password.map(|password| (user, password))
    });
    Ok(Options {
        target,
        upstream: upstream(args.upstream.as_deref())?,
        namespace: args.ns.clone(),
        login: login.transpose()?,
        write: args.write,
        ttl: Duration::from_secs(args.ttl),
        peer_port: args
            .peer_port
            .as_deref()
            .map(|url| site("--peer-port", url))
            .transpose()?,
        swarm: args
            .run_supernode
            .clone()
            .zip(args.run_node.clone())
            .map(|(supernode, node)| SwarmCommands { supernode, node }),
        repository: args.repository.clone(),
        tag: args.tag.clone(),
    })
}

/// The same run against another registry, to which content goes directly.
fn beside(options: &Options, url: &str) -> Result<Options, Failure> {
    Ok(Options {
        target: Target::Url(site("--beside", url)?),
        upstream: Upstream::Unknown,
        namespace: None,
        peer_port: None,
        swarm: None,
        repository: format!("{}-beside", options.repository),
        ..options.clone()
    })
}

fn upstream(text: Option<&str>) -> Result<Upstream, Failure> {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let Some(text) = text else {
        return Ok(Upstream::Unknown);
    };
    if text == "scripted" {
        return Ok(Upstream::Scripted(anywhere, anywhere));
    }
    let Some(addresses) = text.strip_prefix("scripted=") else {
        return Ok(Upstream::Registry(site("--upstream", text)?));
    };
    let (first, second) = addresses.split_once(',').unwrap_or((addresses, ""));
    let parsed = |text: &str| text.parse::<SocketAddr>();
    match (parsed(first), parsed(second)) {
        (Ok(first), Ok(second)) => Ok(Upstream::Scripted(first, second)),
        _ => Err(
            Failure::usage(format!("--upstream: `{addresses}` is not two addresses"))
                .hint("write scripted=127.0.0.1:6001,127.0.0.1:6002"),
        ),
    }
}

fn site(flag: &str, url: &str) -> Result<Site, Failure> {
    Site::parse(url).map_err(|what| {
        Failure::usage(format!("{flag}: {what}")).hint("write http://127.0.0.1:5000")
    })
}

fn write(args: &ConformanceArgs, report: &Report) -> Result<(), Failure> {
    if let Some(path) = &args.json {
        write_to(path, &format!("{:#}\n", report::json(report)))?;
    }
    for (path, text) in [
        (&args.junit, report::junit(report)),
        (&args.html, report::html(report)),
    ] {
        let text = text.map_err(|error| Failure::new(format!("no report: {error}")))?;
        if let Some(path) = path {
            write_to(path, &text)?;
        }
    }
    Ok(())
}

fn write_to(path: &Path, text: &str) -> Result<(), Failure> {
    if path == Path::new("-") {
        say(text.trim_end());
        return Ok(());
    }
    std::fs::write(path, text).map_err(|error| {
        Failure::new(format!("cannot write {}: {error}", path.display()))
            .hint("the folder must exist and be writable")
    })
}

/// A folder for the process that is tested; it goes with the run.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("darner-conformance-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|error| {
            Failure::new(format!("cannot make {}: {error}", path.display()))
                .hint("TMPDIR names another place for temporary files")
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the temporary folder, where the machine tidies.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
