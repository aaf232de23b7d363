//! The arguments of `darner conformance`.

use std::path::PathBuf;

use clap::Args;

/// `darner conformance`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --write and --upstream nothing is changed and only an image that is there is asked for.
Exits with 1 if a check failed (with --beside: if one is worse here than there).
These are checks of Darner's own; the Open Container Initiative's conformance suite and its
certification programme are something else.

Examples:
  darner conformance http://127.0.0.1:5000 --repository library/alpine --tag 3
  darner conformance http://127.0.0.1:5000 --write --only push --only management
  darner conformance http://127.0.0.1:65001 --ns registry.lan --write \\
      --upstream http://registry.lan:5000 --beside http://registry.lan:5000
  darner conformance --list
  darner conformance --upstream scripted --html report.html --run 'darner proxy \\
      --listen {listen} --admin {admin} --data-dir {data} --tag-ttl 1s --negative-ttl 1s \\
      --grant-ttl 2s --registry {name}={upstream} --registry {name2}={upstream2}'")]
pub(crate) struct ConformanceArgs {
    /// The registry or mirror to test
    #[arg(value_name = "URL", required_unless_present_any = ["run", "list"])]
    pub(crate) url: Option<String>,
    /// Start what is tested with this shell command, and stop, kill and restart it where a check
    /// wants that; {listen}, {data}, {admin}, {peer}, {cache} (bytes), {stale} (time),
    /// {upstream}, {upstream2}, {name}, {name2}, {user} and {password} are filled in
    #[arg(long, value_name = "COMMAND", conflicts_with = "url")]
    pub(crate) run: Option<String>,
    /// With --run: the command of a supernode, for a check of two that share; {control} besides
    #[arg(long, value_name = "COMMAND", requires = "run_node")]
    pub(crate) run_supernode: Option<String>,
    /// And of a node that it leads; {supernode} besides
    #[arg(long, value_name = "COMMAND", requires = "run_supernode")]
    pub(crate) run_node: Option<String>,
    /// Only these checks: a category (pull, range, errors, discovery, push, management, auth,
    /// proxying, caching, integrity, limits) or a check (PUL-07); may be repeated
    #[arg(long, value_name = "WHAT")]
    pub(crate) only: Vec<String>,
    /// What stands behind a mirror: a registry's URL, whose word is believed and, with --write, where
    /// content is put; or `scripted`, origins of the suite's own that misbehave as a check wants, at
    /// free ports or at `scripted=ADDR:PORT,ADDR:PORT`
    #[arg(long, value_name = "URL|scripted")]
    pub(crate) upstream: Option<String>,
    /// The name by which a mirror knows the registry behind it: sent as `ns` with every pull
    #[arg(long, value_name = "NAME")]
    pub(crate) ns: Option<String>,
    /// Push, tag and delete below --repository too
    #[arg(long)]
    pub(crate) write: bool,
    /// Test this registry as well, and show both
    #[arg(long, value_name = "URL")]
    pub(crate) beside: Option<String>,
    /// A repository that holds an image; with --write or --upstream scripted the beginning of the
    /// names that are made
    #[arg(long, value_name = "NAME", default_value = "conformance")]
    pub(crate) repository: String,
    /// The tag of that image
    #[arg(long, value_name = "TAG", default_value = "latest")]
    pub(crate) tag: String,
    /// User at the registry; the password is read from the variable DARNER_CONFORMANCE_PASSWORD
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// How many seconds a mirror may believe a tag, a "not found" or a right
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) ttl: u64,
    /// Where the mirror gives bytes to its peers
    #[arg(long, value_name = "URL")]
    pub(crate) peer_port: Option<String>,
    /// Show the checks with their clauses, and test nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Write the report as JSON; - is standard output, instead of the text
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Write the report as a page, with every exchange of a failed check
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}
