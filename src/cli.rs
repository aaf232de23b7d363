//! The command line: names and help, and the flags as a layer of settings.
//!
//! Values stay texts here. What they mean is decided once for flags, variables and the file, in
//! `config::settings`.

mod errands;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::key::Key;
use crate::config::layer::{Entry, Layer, Place};
use crate::config::registry::RegistryEntry;
use crate::failure::Failure;

pub(crate) use errands::{Client, PreheatArgs, PullArgs, SetupArgs, StatusArgs};

const EXAMPLES: &str = "\
Examples:
  darner up                                   run a mirror for every registry, no set-up needed
  darner setup containerd                     point containerd to it (as root; --undo takes it back)
  darner status                               see whether pulls go through it
  darner up --registry docker.io=http://10.0.0.5:5000,https://registry-1.docker.io
  darner up --config darner.toml --check      check a configuration and print what is in effect";

const RUN_EXAMPLES: &str = "\
Every flag is also a variable (--cache-size is DARNER_CACHE_SIZE) and a key of the file
(cache-size = \"20GiB\"). A flag beats a variable, a variable the file.";

/// A node-local registry mirror: point containerd, dockerd or podman to it, and images are fetched
/// once and kept
#[derive(Debug, Parser)]
#[command(name = "darner", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run node and supernode in one process: all that one machine needs
    #[command(after_help = RUN_EXAMPLES)]
    Up(UpArgs),
    /// Run the node alone
    #[command(after_help = RUN_EXAMPLES)]
    Proxy(ProxyArgs),
    /// Run a seed for other nodes
    #[command(after_help = RUN_EXAMPLES)]
    Supernode(SupernodeArgs),
    /// Pull an image or a blob through the node: into its store, or a folder too
    Pull(PullArgs),
    /// Bring an image to the nodes of a swarm before anybody pulls it there
    Preheat(PreheatArgs),
    /// Point a client on this machine to the node, or take that back
    Setup(SetupArgs),
    /// Say in one line whether pulls go through the node, and where the bytes came from
    Status(StatusArgs),
}

/// `darner up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Lead a swarm: open the supernode's ports on this address of the machine, 8001 for bytes and
    /// other clients, 8002 for nodes and its state [default: none opened, loopback only]
    #[arg(long, value_name = "ADDR")]
    swarm: Option<String>,
    #[command(flatten)]
    member: MemberArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `darner proxy`.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    member: MemberArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `darner supernode`.
#[derive(Debug, Args)]
pub(crate) struct SupernodeArgs {
    /// Where clients and nodes ask [default: 0.0.0.0:8001]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Where state and metrics are shown [default: 0.0.0.0:8002]
    #[arg(long, value_name = "ADDR:PORT")]
    control: Option<String>,
    /// The name or address others reach this supernode by
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Args)]
struct NodeArgs {
    /// Where clients ask; may be repeated [default: 127.0.0.1:65001]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Where state and metrics are shown [default: 127.0.0.1:65002]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,
    /// Refuse pushes; else they are passed on with the client's own login [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    read_only: Option<String>,
}

/// A node's place in a swarm.
#[derive(Debug, Args)]
struct MemberArgs {
    /// Share bytes with the nodes that this supernode leads; may be repeated; the port is 8002
    /// unless named [default: none, the node is alone]
    #[arg(long, value_name = "HOST[:PORT][,...]")]
    supernode: Vec<String>,
    /// Where peers ask [default: port 65003 of the address from which the supernode is reached;
    /// closed without one]
    #[arg(long, value_name = "ADDR:PORT")]
    peer_listen: Option<String>,
    /// The name or address others reach this machine by [default: as the supernode sees it]
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// The zone this machine stands in: bytes come from near before far
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// The rack within the zone
    #[arg(long, value_name = "NAME")]
    rack: Option<String>,
    /// Most bytes per second given to peers [default: no limit]
    #[arg(long, value_name = "SIZE")]
    upload_limit: Option<String>,
}

/// What all three that run have.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Where bytes are kept [default: /var/lib/darner for root, else ~/.local/share/darner]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// A registry's endpoints in order; http:// and private addresses are allowed here; may be
    /// repeated [default: the well-known public registries]
    #[arg(long, value_name = "NAME=URL[,URL...]")]
    registry: Vec<String>,
    /// Most bytes kept [default: 20GiB]
    #[arg(long, value_name = "SIZE")]
    cache_size: Option<String>,
    /// Free disk to leave alone, a share or a size [default: 15%]
    #[arg(long, value_name = "SHARE")]
    min_free: Option<String>,
    /// Most bytes per second downloaded [default: no limit]
    #[arg(long, value_name = "SIZE")]
    ratelimit: Option<String>,
    /// How long a tag's answer is believed without asking again [default: 30s]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    tag_ttl: Option<String>,
    /// How long a confirmed right to read is believed [default: 5m]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    grant_ttl: Option<String>,
    /// How long "not found" is believed [default: 5s]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    negative_ttl: Option<String>,
    /// How long public images are served while their registry cannot be reached [default: 24h]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    public_memory: Option<String>,
    /// How long a tag's last answer is served while its registry cannot be reached; 0s never
    /// [default: 24h]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    stale_tag: Option<String>,
    /// Serve the well-known public registries, not only those of --registry [default: true]
    #[arg(long, value_name = "BOOL", hide_short_help = true)]
    public_registries: Option<String>,
    /// Put Docker Hub's challenge on the ping, for private images of dockerd and podman; every
    /// pull of theirs then needs Docker Hub's token server [default: false]
    #[arg(long, value_name = "BOOL", hide_short_help = true)]
    challenge_ping: Option<String>,
    /// How long requests may go on after SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    drain: Option<String>,
    /// error, warn, info, debug, trace, or a filter like proxy=debug,warn [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Read this TOML file [default: /etc/darner/darner.toml if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check settings, data folder and ports, print the settings in effect and exit (0 or 2)
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: print JSON instead of TOML
    #[arg(long, requires = "check")]
    pub(crate) json: bool,
}

impl UpArgs {
    /// The flags as settings.
    pub(crate) fn layer(&self) -> Result<Layer, Failure> {
        let mut layer = self.run.layer()?;
        self.node.add_to(&mut layer);
        self.member.add_to(&mut layer);
        add(&mut layer, Key::Swarm, self.swarm.as_slice());
        Ok(layer)
    }
}

impl ProxyArgs {
    /// The flags as settings.
    pub(crate) fn layer(&self) -> Result<Layer, Failure> {
        let mut layer = self.run.layer()?;
        self.node.add_to(&mut layer);
        self.member.add_to(&mut layer);
        Ok(layer)
    }
}

impl SupernodeArgs {
    /// The flags as settings.
    pub(crate) fn layer(&self) -> Result<Layer, Failure> {
        let mut layer = self.run.layer()?;
        add(&mut layer, Key::Listen, &self.listen);
        add(&mut layer, Key::Control, self.control.as_slice());
        add(&mut layer, Key::Advertise, self.advertise.as_slice());
        Ok(layer)
    }
}

impl NodeArgs {
    fn add_to(&self, layer: &mut Layer) {
        add(layer, Key::Listen, &self.listen);
        add(layer, Key::Admin, self.admin.as_slice());
        add(layer, Key::ReadOnly, self.read_only.as_slice());
    }
}

impl MemberArgs {
    fn add_to(&self, layer: &mut Layer) {
        add(layer, Key::Supernode, &self.supernode);
        for (key, value) in [
            (Key::PeerListen, &self.peer_listen),
            (Key::Advertise, &self.advertise),
            (Key::Zone, &self.zone),
            (Key::Rack, &self.rack),
            (Key::UploadLimit, &self.upload_limit),
        ] {
            add(layer, key, value.as_slice());
        }
    }
}

impl RunArgs {
    fn layer(&self) -> Result<Layer, Failure> {
        let mut layer = Layer::default();
        for (key, value) in [
            (Key::DataDir, &self.data_dir),
            (Key::CacheSize, &self.cache_size),
            (Key::MinFree, &self.min_free),
            (Key::Ratelimit, &self.ratelimit),
            (Key::TagTtl, &self.tag_ttl),
            (Key::GrantTtl, &self.grant_ttl),
            (Key::NegativeTtl, &self.negative_ttl),
            (Key::PublicMemory, &self.public_memory),
            (Key::StaleTag, &self.stale_tag),
            (Key::PublicRegistries, &self.public_registries),
            (Key::ChallengePing, &self.challenge_ping),
            (Key::Drain, &self.drain),
            (Key::Log, &self.log),
        ] {
            add(&mut layer, key, value.as_slice());
        }
        let place = Place::Flag(Key::Registry);
        for text in &self.registry {
            layer.registries.push(RegistryEntry::parse(text, &place)?);
        }
        Ok(layer)
    }
}

fn add(layer: &mut Layer, key: Key, values: &[String]) {
    if !values.is_empty() {
        layer.entries.push(Entry {
            key,
            values: values.to_vec(),
            place: Place::Flag(key),
        });
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::key::Role;

    #[test]
    fn every_setting_is_a_flag_of_the_commands_that_use_it() {
        let cli = Cli::command();
        for role in [Role::Up, Role::Proxy, Role::Supernode] {
            let command = cli.find_subcommand(role.name()).unwrap();
            let flags: Vec<&str> = command
                .get_arguments()
                .filter_map(|a| a.get_long())
                .collect();
            for key in Key::ALL {
                let has = flags.contains(&key.name());
                assert_eq!(has, key.serves(role), "{key} of {}", role.name());
            }
        }
        cli.clone().debug_assert();
    }
}
