//! `darner pull`: an image or a blob through the node, into its store and, with `-o`, a folder.
//!
//! Invariant: every byte is checked here once more, and a layout names only what is whole.

mod board;
mod fetch;
mod front;
mod layout;
mod plan;
mod report;

use std::sync::Arc;

use oci::Platform;

use crate::cli::PullArgs;
use crate::failure::Failure;
use crate::speak::say;
use board::Board;
use fetch::Fetching;
use front::Front;
use layout::{Entry, Layout};
use plan::{Plan, Platforms, Wanted};
use report::Report;

/// As a shell says of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// Does what the arguments say.
pub(crate) fn run(args: &PullArgs) -> Result<(), Failure> {
    let wanted = Wanted::parse(&args.what)?;
    let platforms = match (&args.platform, args.all_platforms) {
        (_, true) => Platforms::All,
        (Some(text), false) => Platforms::One(parse_platform(text)?),
        (None, false) => Platforms::One(Platform::of_this_machine()),
    };
    let front = Arc::new(Front::new(&args.address, &wanted.name)?);
    let layout = args.output.as_deref().map(Layout::open).transpose()?;
    let work = async {
        tokio::select! {
            report = pull(args, front, &wanted, &platforms, layout) => report,
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::new("interrupted")
                    .hint("what has arrived is kept; run it again to go on")
                    .exit(INTERRUPTED))
            }
        }
    };
    // Hashing and writing block, so there is more than one thread.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime does not start: {error}")))?;
    let report = runtime.block_on(work)?;
    say(if args.json {
        report.json()
    } else {
        report.line()
    });
    Ok(())
}

/// `os/architecture[/variant]` of `--platform`.
pub(crate) fn parse_platform(text: &str) -> Result<Platform, Failure> {
    text.parse().map_err(|error| {
        Failure::usage(format!("--platform: `{text}`: {error}"))
            .hint("leave it away for the platform of this machine")
    })
}

async fn pull(
    args: &PullArgs,
    front: Arc<Front>,
    wanted: &Wanted,
    platforms: &Platforms,
    layout: Option<Layout>,
) -> Result<Report, Failure> {
    let plan = plan::make(&front, wanted, platforms).await?;
    let board = Arc::new(Board::new(
        wanted.name.to_string(),
        &args.admin,
        &plan.parts,
    ));
    let fetching = Fetching {
        front,
        layout: layout.clone(),
        board: board.clone(),
    };
    tokio::select! {
        fetched = fetching.all(&plan.parts) => fetched?,
        never = board.watch() => match never {},
    }
    if let Some(layout) = &layout {
        tokio::task::block_in_place(|| complete(layout, wanted, &plan))?;
    }
    let folder = args.output.as_deref();
    Ok(Report::new(&wanted.name, &plan, &board, folder))
}

/// Puts the manifests beside the blobs and then, when all is there, the name.
fn complete(layout: &Layout, wanted: &Wanted, plan: &Plan) -> Result<(), Failure> {
    for document in plan.others.iter().chain(&plan.root) {
        layout.put(&document.digest, &document.bytes)?;
    }
    let Some(root) = &plan.root else {
        return Ok(());
    };
    let name = &wanted.name;
    let named = match name.reference() {
        oci::Reference::Tag(tag) => Some((tag.to_string(), name.to_string())),
        oci::Reference::Digest(_) => None,
    };
    layout.name(&Entry {
        media_type: &root.media_type,
        digest: &root.digest,
        size: root.bytes.len(),
        platform: plan.platform.as_ref(),
        named,
    })
}
