//! The settings as they are in effect: defaults, then the file, the variables and the flags on top.
//!
//! Invariant: whatever a layer says is checked when it is applied, even if a later one overrides
//! it, and the message names the place. Deliberately not here: what the node does with them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::reference::Registry;
use proxy::config::MinFree;
use proxy::upstream::RegistryConfig;

use crate::config::key::{Key, Role};
use crate::config::layer::{Entry, Layer};
use crate::config::quantity::{parse_duration, parse_percent, parse_size};
use crate::config::registry::{RegistryEntry, overlay};
use crate::config::swarm;
use crate::failure::Failure;

/// The front door's port, the seed's.
pub(crate) const LISTEN_PORT: u16 = 65001;
/// The admin port.
pub(crate) const ADMIN_PORT: u16 = 65002;

const CACHE_SIZE: u64 = 20 << 30;
const MIN_FREE_PERCENT: u8 = 15;
/// Beyond this a duration is a slip.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// All settings, in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The command.
    pub(crate) role: Role,
    /// The front door.
    pub(crate) listen: Vec<SocketAddr>,
    /// The admin port; of a supernode its control port.
    pub(crate) admin: SocketAddr,
    /// The name others reach this machine by.
    pub(crate) advertise: Option<String>,
    /// `up` only: the address on which the supernode's ports are opened.
    pub(crate) swarm: Option<IpAddr>,
    /// `host:port` of the supernodes that lead this node; none: it is alone.
    pub(crate) supernodes: Vec<String>,
    /// The peer port; `None`: the usual one, on the address from which the supernode is reached.
    pub(crate) peer_listen: Option<SocketAddr>,
    /// Where this machine stands; empty: not told.
    pub(crate) zone: String,
    /// The same within the zone.
    pub(crate) rack: String,
    /// Bytes per second given to peers; `None`: as fast as it goes.
    pub(crate) upload_limit: Option<u64>,
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Most bytes kept.
    pub(crate) cache_size: u64,
    /// Free disk that is left alone.
    pub(crate) min_free: MinFree,
    /// Bytes per second downloaded; `None`: as fast as it comes.
    pub(crate) ratelimit: Option<u64>,
    /// How long a tag's answer is believed.
    pub(crate) tag_ttl: Duration,
    /// How long a right to read is believed.
    pub(crate) grant_ttl: Duration,
    /// How long "not found" is believed.
    pub(crate) negative_ttl: Duration,
    /// How long public stays public while upstream cannot be reached.
    pub(crate) public_memory: Duration,
    /// How long an old tag is served while upstream cannot answer; zero: never.
    pub(crate) stale_tag: Duration,
    /// Whether the well-known public registries are served.
    pub(crate) public_registries: bool,
    /// Whether the ping carries Docker Hub's challenge, for private images of dockerd and podman.
    pub(crate) challenge_ping: bool,
    /// Whether pushes are refused; a supernode always does.
    pub(crate) read_only: bool,
    /// How long requests may go on after a stop.
    pub(crate) drain: Duration,
    /// A level or `target=level,...`.
    pub(crate) log: String,
    /// What the operator says about registries.
    pub(crate) registries: BTreeMap<Registry, RegistryConfig>,
}

impl Settings {
    /// The documented defaults of a command.
    pub(crate) fn defaults(role: Role, data_dir: PathBuf) -> Self {
        let (host, listen, admin) = match role {
            Role::Up | Role::Proxy => (Ipv4Addr::LOCALHOST, LISTEN_PORT, ADMIN_PORT),
            Role::Supernode => (
                Ipv4Addr::UNSPECIFIED,
                supernode::LISTEN_PORT,
                supernode::CONTROL_PORT,
            ),
        };
        Self {
            role,
            listen: vec![SocketAddr::from((host, listen))],
            admin: SocketAddr::from((host, admin)),
            advertise: None,
            swarm: None,
            supernodes: Vec::new(),
            peer_listen: None,
            zone: String::new(),
            rack: String::new(),
            upload_limit: None,
            data_dir,
            cache_size: CACHE_SIZE,
            min_free: MinFree::Percent(MIN_FREE_PERCENT),
            ratelimit: None,
            tag_ttl: Duration::from_secs(30),
            grant_ttl: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(5),
            public_memory: Duration::from_secs(86_400),
            stale_tag: Duration::from_secs(86_400),
            public_registries: true,
            challenge_ping: false,
            read_only: role == Role::Supernode,
            drain: Duration::from_secs(30),
            log: "info".to_owned(),
            registries: BTreeMap::new(),
        }
    }

    /// Whether other nodes are led from here, and the first to have a blob is this machine.
    pub(crate) fn leads(&self) -> bool {
        self.role == Role::Supernode || self.swarm.is_some()
    }

    /// Puts one layer on top; sentences about what this command does not use come back.
    pub(crate) fn apply(&mut self, layer: Layer) -> Result<Vec<String>, Failure> {
        let mut unused = Vec::new();
        for entry in layer.entries {
            if entry.key.serves(self.role) {
                self.set(&entry)?;
            } else {
                let command = self.role.name();
                unused.push(format!("{} is not used by `darner {command}`", entry.place));
            }
        }
        for RegistryEntry { name, config } in layer.registries {
            overlay(self.registries.entry(name).or_default(), config);
        }
        Ok(unused)
    }

    fn set(&mut self, entry: &Entry) -> Result<(), Failure> {
        match entry.key {
            Key::Listen => self.listen = addresses(entry)?,
            Key::Admin | Key::Control => self.admin = address(entry, single(entry)?)?,
            Key::Advertise => self.advertise = Some(swarm::host(entry)?),
            Key::Swarm => self.swarm = Some(swarm_address(entry)?),
            Key::Supernode => self.supernodes = swarm::supernodes(entry)?,
            Key::PeerListen => self.peer_listen = Some(address(entry, single(entry)?)?),
            Key::Zone => self.zone = swarm::label(entry)?,
            Key::Rack => self.rack = swarm::label(entry)?,
            Key::UploadLimit => self.upload_limit = Some(size(entry)?).filter(|rate| *rate > 0),
            Key::DataDir => self.data_dir = data_dir(entry)?,
            Key::CacheSize => self.cache_size = size(entry)?,
            Key::MinFree => self.min_free = min_free(entry)?,
            Key::Ratelimit => self.ratelimit = Some(size(entry)?).filter(|rate| *rate > 0),
            Key::TagTtl => self.tag_ttl = duration(entry)?,
            Key::GrantTtl => self.grant_ttl = duration(entry)?,
            Key::NegativeTtl => self.negative_ttl = duration(entry)?,
            Key::PublicMemory => self.public_memory = duration(entry)?,
            Key::StaleTag => self.stale_tag = duration(entry)?,
            Key::PublicRegistries => self.public_registries = truth(entry)?,
            Key::ChallengePing => self.challenge_ping = truth(entry)?,
            Key::ReadOnly => self.read_only = truth(entry)?,
            Key::Drain => self.drain = duration(entry)?,
            Key::Log => self.log = log(entry)?,
            // The registries have a list of their own in a layer.
            Key::Registry => {}
        }
        Ok(())
    }
}

/// The folder used when none is named: root's under /var, anybody else's under their home.
pub(crate) fn default_data_dir(
    root: bool,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/darner"));
    }
    let absolute = |path: &PathBuf| path.is_absolute();
    let data = variable("XDG_DATA_HOME").filter(absolute).or_else(|| {
        let home = variable("HOME").filter(absolute)?;
        Some(home.join(".local/share"))
    })?;
    Some(data.join("darner"))
}

pub(super) fn single(entry: &Entry) -> Result<&str, Failure> {
    match entry.values.as_slice() {
        [value] => Ok(value.trim()),
        _ => Err(Failure::usage(format!(
            "{} is one value, not a list",
            entry.place
        ))),
    }
}

pub(super) fn wrong(entry: &Entry, value: &str, is_not: &str) -> Failure {
    Failure::usage(format!("{}: `{value}` is not {is_not}", entry.place))
}

fn addresses(entry: &Entry) -> Result<Vec<SocketAddr>, Failure> {
    let texts = entry.values.iter().flat_map(|value| value.split(','));
    let list: Vec<SocketAddr> = texts
        .map(|text| address(entry, text.trim()))
        .collect::<Result<_, _>>()?;
    if list.is_empty() {
        return Err(Failure::usage(format!("{} names no address", entry.place))
            .hint("for example 127.0.0.1:65001"));
    }
    Ok(list)
}

fn address(entry: &Entry, text: &str) -> Result<SocketAddr, Failure> {
    text.parse().map_err(|_| {
        let failure = wrong(entry, text, "an address with a port");
        let (host, port) = match entry.key {
            Key::Admin => (Ipv4Addr::LOCALHOST, ADMIN_PORT),
            Key::Control => (Ipv4Addr::UNSPECIFIED, supernode::CONTROL_PORT),
            Key::PeerListen => (Ipv4Addr::UNSPECIFIED, swarm::PEER_PORT),
            _ => (Ipv4Addr::LOCALHOST, LISTEN_PORT),
        };
        let meant = match (text.parse::<u16>(), text.parse::<IpAddr>()) {
            (Ok(port), _) => SocketAddr::from((host, port)),
            (_, Ok(ip)) => SocketAddr::new(ip, port),
            _ => {
                let v6 = if host.is_loopback() { "[::1]" } else { "[::]" };
                return failure.hint(format!(
                    "write an IP address and a port: {host}:{port} or {v6}:{port}"
                ));
            }
        };
        failure.hint(format!("did you mean {meant}?"))
    })
}

fn swarm_address(entry: &Entry) -> Result<IpAddr, Failure> {
    let text = single(entry)?;
    text.parse().map_err(|_| {
        wrong(entry, text, "an IP address").hint(format!(
            "give this machine's address without a port; {} and {} are opened there",
            supernode::LISTEN_PORT,
            supernode::CONTROL_PORT
        ))
    })
}

fn data_dir(entry: &Entry) -> Result<PathBuf, Failure> {
    let text = single(entry)?;
    if text.is_empty() {
        return Err(Failure::usage(format!("{} is empty", entry.place)));
    }
    std::path::absolute(Path::new(text))
        .map_err(|error| Failure::usage(format!("{}: `{text}`: {error}", entry.place)))
}

fn size(entry: &Entry) -> Result<u64, Failure> {
    let text = single(entry)?;
    parse_size(text).ok_or_else(|| {
        wrong(entry, text, "a size")
            .hint("write 20GiB (powers of 1024), 400M (powers of 1000) or bytes")
    })
}

fn min_free(entry: &Entry) -> Result<MinFree, Failure> {
    let text = single(entry)?;
    if text.parse::<u64>().is_ok_and(|number| number <= 100) {
        // Taken as bytes it would switch the floor off without a word.
        return Err(wrong(entry, text, "a share of the disk or a size")
            .hint(format!("did you mean {text}%?")));
    }
    parse_percent(text)
        .map(MinFree::Percent)
        .or_else(|| parse_size(text).map(MinFree::Bytes))
        .ok_or_else(|| {
            wrong(entry, text, "a share of the disk or a size")
                .hint("write 15% or 50GiB; a share is at most 100%")
        })
}

fn duration(entry: &Entry) -> Result<Duration, Failure> {
    let text = single(entry)?;
    parse_duration(text)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| {
            wrong(entry, text, "a duration").hint("write 500ms, 30s, 5m or 24h; at most 365d")
        })
}

fn truth(entry: &Entry) -> Result<bool, Failure> {
    let text = single(entry)?;
    text.parse()
        .map_err(|_| wrong(entry, text, "true or false").hint("write true or false"))
}

fn log(entry: &Entry) -> Result<String, Failure> {
    let text = single(entry)?;
    let filter = tracing_subscriber::EnvFilter::builder().parse(text);
    let bare = text.chars().all(|c| c.is_ascii_alphabetic());
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A bare word that is no level would be taken for a target and switch everything off.
    let level = LEVELS.contains(&text.to_ascii_lowercase().as_str());
    if filter.is_ok() && (!bare || level) {
        return Ok(text.to_owned());
    }
    Err(wrong(entry, text, "a level or filter")
        .hint("write error, warn, info, debug, trace, or proxy=debug,warn"))
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
