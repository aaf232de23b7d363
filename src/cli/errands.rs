//! The arguments of the commands that ask something, say it and end.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::add;
use crate::config::key::Key;
use crate::config::layer::Layer;

/// A client that can be pointed to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Client {
    /// containerd: hosts.toml files
    Containerd,
    /// dockerd: daemon.json
    Docker,
    /// podman, skopeo and buildah: registries.conf.d
    Podman,
}

impl Client {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Containerd, Self::Docker, Self::Podman];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// `darner setup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is ever restarted: what you must restart or reload, and why, is printed.

Examples:
  darner setup containerd                          all registries, by the _default folder
  darner setup containerd --registry quay.io       quay.io alone
  darner setup docker --dry-run                    show what would be written
  darner setup --undo                              put everything back, byte for byte")]
pub(crate) struct SetupArgs {
    /// The client; with --undo all if none is named
    #[arg(value_enum, required_unless_present = "undo")]
    pub(crate) client: Option<Client>,
    /// A registry to set up; may be repeated; NAME=URL names the fallback behind the node
    /// [default: all that the client allows]
    #[arg(long, value_name = "NAME[=URL]")]
    pub(crate) registry: Vec<String>,
    /// Where the node's front door is, as the client will reach it
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:65001")]
    pub(crate) address: String,
    /// Where the node's admin port is
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:65002")]
    pub(crate) admin: String,
    /// The folder of the client's files, if it is not the usual one
    #[arg(long, value_name = "DIR")]
    pub(crate) config_path: Option<PathBuf>,
    /// Show what would be written and why, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Put back what was there before
    #[arg(long, conflicts_with_all = ["registry", "dry_run"])]
    pub(crate) undo: bool,
    /// Where backups are kept [default: /var/lib/darner-setup for root, else
    /// ~/.local/share/darner/setup]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Treat this folder as the root of the file system
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
}

/// `darner pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darner pull alpine                                       warm the node's store
  darner pull quay.io/org/app:1 -o app --platform linux/arm64
  skopeo copy oci:app:1 docker-archive:app.tar             what a layout is good for
  darner pull quay.io/org/app/blobs/sha256:...             one blob")]
pub(crate) struct PullArgs {
    /// An image as docker writes it, IMAGE@DIGEST of an image or a blob, or
    /// REPOSITORY/blobs/DIGEST
    #[arg(value_name = "IMAGE_OR_BLOB")]
    pub(crate) what: String,
    /// Write an OCI image layout into this folder; what it holds already is not fetched again
    /// [default: keep the bytes in the node's store only]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// The image to take of an index [default: the one for this machine]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        conflicts_with = "all_platforms"
    )]
    pub(crate) platform: Option<String>,
    /// Take every image of an index
    #[arg(long)]
    pub(crate) all_platforms: bool,
    /// Where the node's front door is
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:65001")]
    pub(crate) address: String,
    /// Where the node's admin port is: it tells where the bytes come from
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:65002")]
    pub(crate) admin: String,
    /// Print the outcome as JSON: digest, size, time and bytes by source of each part
    #[arg(long)]
    pub(crate) json: bool,
}

/// `darner preheat`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only what a registry gives to anybody is brought. Fails when a node fails.

Examples:
  darner preheat quay.io/org/app:1 --nodes all --supernode seed.lan
  darner preheat alpine --nodes 3 --platform linux/arm64 --json")]
pub(crate) struct PreheatArgs {
    /// An image as docker writes it
    pub(crate) image: String,
    /// How many nodes shall have it: a number, or all
    #[arg(long, value_name = "all|N")]
    pub(crate) nodes: String,
    /// A supernode's control port; the port is 8002 unless named [default: that of the node's
    /// variable or file, else 127.0.0.1:8002]
    #[arg(long, value_name = "HOST[:PORT][,...]")]
    supernode: Vec<String>,
    /// The image to take of an index [default: the one for this machine]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        conflicts_with = "all_platforms"
    )]
    pub(crate) platform: Option<String>,
    /// Take every image of an index
    #[arg(long)]
    pub(crate) all_platforms: bool,
    /// Print the outcome as JSON: blobs, bytes, time and error of each node
    #[arg(long)]
    pub(crate) json: bool,
}

/// `darner status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Where the node's admin port is
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:65002")]
    pub(crate) admin: String,
    /// Print the node's whole state as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl PreheatArgs {
    /// The one flag of it that is a setting.
    pub(crate) fn layer(&self) -> Layer {
        let mut layer = Layer::default();
        add(&mut layer, Key::Supernode, &self.supernode);
        layer
    }
}
