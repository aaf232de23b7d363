//! What a node is told: plain data with documented defaults, checked once.
//!
//! Where the values come from (flags, variables, a file) is the command's part.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use swarm::store::MinFree;

use crate::upstream::UpstreamsConfig;

/// Everything that one node needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses of the registry front door; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Address of `/metrics`, `/livez`, `/readyz` and `/status`.
    pub admin: SocketAddr,
    /// A second address of the same pages, for others: a supernode's control port.
    pub control: Option<SocketAddr>,
    /// Folder of the store and the catalog; made if missing.
    pub data_dir: PathBuf,
    /// The registries that may be asked, and how.
    pub registries: UpstreamsConfig,
    /// Bytes that the store may take on disk, partial blobs included.
    pub cache_size: u64,
    /// Disk space that the store leaves to others.
    pub min_free: MinFree,
    /// Bytes per second that the node downloads at most; `None` is no limit.
    pub ratelimit: Option<u64>,
    /// Control ports of the supernodes, `HOST:PORT`, that lead what this node shares with others;
    /// none: it shares nothing, and its peer port is closed.
    pub supernodes: Vec<String>,
    /// The name or address at which other nodes reach the peer port; `None`: the one that the
    /// supernode sees this node at.
    pub advertise: Option<String>,
    /// Where other nodes get pieces; `None`: port 65003 of the advertised address if that is this
    /// machine's, else of the one from which the first supernode is reached.
    pub peer_listen: Option<SocketAddr>,
    /// Where the node stands, for near before far; empty if nobody said.
    pub zone: String,
    /// Where in its zone; empty if nobody said.
    pub rack: String,
    /// Bytes per second that other nodes are given at most; `None` is no limit.
    pub upload_limit: Option<u64>,
    /// Whether this is a supernode's node: it gives pieces at its front door too, and says which
    /// manifests are public.
    pub seed: bool,
    /// How long things are believed.
    pub trust: Trust,
    /// How long a drain may take after the shutdown signal.
    pub drain: Duration,
    /// Bounds that keep one client, or one upstream, from taking everything.
    pub limits: Limits,
    /// Whether the ping repeats Docker Hub's challenge. dockerd and podman take a challenge from
    /// there alone, so their pulls of private images with the client's own account need it; then
    /// every such client asks Docker Hub's token server before each pull.
    pub challenge_ping: bool,
    /// Whether every write is refused; else pushes are relayed with the client's own rights.
    pub read_only: bool,
}

/// How long things are believed without asking upstream again.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    /// What a tag means.
    pub tag: Duration,
    /// That a credential may read a place.
    pub grant: Duration,
    /// That something is not there, or is refused; for the credential that was told so.
    pub negative: Duration,
    /// That a place is public, while upstream cannot be reached.
    pub public_memory: Duration,
    /// What a tag meant, while upstream cannot be reached; zero never serves stale tags.
    pub stale_tag: Duration,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A manifest's length in bytes: clients reject more than 4 MiB.
    pub manifest_bytes: u64,
    /// A page of tags or referrers in bytes.
    pub page_bytes: u64,
    /// Connections to the front door at a time.
    pub connections: usize,
    /// Time until a response's head: containerd 2.3 leaves after 30 s.
    pub head: Duration,
    /// Time that a revalidation may take when a stale answer is at hand.
    pub revalidation: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 65001))],
            admin: SocketAddr::from(([127, 0, 0, 1], 65002)),
            control: None,
            data_dir: PathBuf::from("/var/lib/darner"),
            registries: UpstreamsConfig::default(),
            cache_size: 20 << 30,
            min_free: MinFree::Percent(15),
            ratelimit: None,
            supernodes: Vec::new(),
            advertise: None,
            peer_listen: None,
            zone: String::new(),
            rack: String::new(),
            upload_limit: None,
            seed: false,
            trust: Trust::default(),
            drain: Duration::from_secs(30),
            limits: Limits::default(),
            challenge_ping: false,
            read_only: false,
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            tag: Duration::from_secs(30),
            grant: Duration::from_secs(5 * 60),
            negative: Duration::from_secs(5),
            public_memory: Duration::from_secs(24 * 3600),
            stale_tag: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 << 20,
            page_bytes: 4 << 20,
            connections: 4096,
            head: Duration::from_secs(20),
            revalidation: Duration::from_secs(5),
        }
    }
}

/// What is wrong with a configuration, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}\nhint: {hint}")]
pub struct ConfigError {
    /// The field, by the name of its flag.
    pub field: &'static str,
    /// What is wrong with it.
    pub what: String,
    /// What to do next.
    pub hint: &'static str,
}

/// Smallest store that makes sense: one large layer and its neighbours.
const CACHE_SIZE_MIN: u64 = 64 << 20;
/// A grant outlives a revocation at most so long.
const GRANT_MAX: Duration = Duration::from_secs(3600);

impl Config {
    /// Checks what can be checked without touching anything.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, what: String, hint| Err(ConfigError { field, what, hint });
        if self.listen.is_empty() {
            let hint = "give at least one, such as 127.0.0.1:65001";
            return wrong("listen", "no address to listen on".into(), hint);
        }
        let admin = (self.admin.port() != 0).then_some(self.admin);
        if let Some(same) = self.listen.iter().find(|address| Some(**address) == admin) {
            let hint = "give the admin port another number";
            return wrong("admin", format!("{same} is also in `listen`"), hint);
        }
        if self.cache_size < CACHE_SIZE_MIN {
            let what = format!("{} bytes cannot hold one image", self.cache_size);
            return wrong("cache-size", what, "give at least 64MiB");
        }
        if let MinFree::Percent(percent) = self.min_free
            && percent > 90
        {
            let what = format!("{percent}% leaves no room for the store");
            return wrong("min-free", what, "give 90% or less; the default is 15%");
        }
        if self.ratelimit == Some(0) {
            let hint = "leave it out for no limit, or give such as 400M";
            return wrong("ratelimit", "a limit of 0 downloads nothing".into(), hint);
        }
        if self.upload_limit == Some(0) {
            let hint = "leave it out for no limit, or give such as 400M";
            let what = "a limit of 0 gives other nodes nothing".into();
            return wrong("upload-limit", what, hint);
        }
        if self.peer_listen.is_some() && self.supernodes.is_empty() {
            let hint = "name a supernode with --supernode HOST:8002, or leave it out";
            let what = "without a supernode nobody asks there".into();
            return wrong("peer-listen", what, hint);
        }
        if self.trust.grant > GRANT_MAX {
            let what = format!("{} s is too long", self.trust.grant.as_secs());
            let hint = "a revoked right is served until its grant ends; give at most 1h";
            return wrong("grant-ttl", what, hint);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let mut config = Config::default();
        config.admin = config.listen[0];
        assert_eq!(config.check().unwrap_err().field, "admin");
        config = Config::default();
        config.listen.clear();
        assert_eq!(config.check().unwrap_err().field, "listen");
        config = Config::default();
        config.cache_size = 1;
        assert_eq!(config.check().unwrap_err().field, "cache-size");
        config = Config::default();
        config.min_free = MinFree::Percent(91);
        assert_eq!(config.check().unwrap_err().field, "min-free");
        config = Config::default();
        config.upload_limit = Some(0);
        assert_eq!(config.check().unwrap_err().field, "upload-limit");
        config = Config::default();
        config.peer_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        assert_eq!(config.check().unwrap_err().field, "peer-listen");
        config.supernodes.push("seed.lan:8002".into());
        assert_eq!(config.check(), Ok(()));
        config = Config::default();
        config.trust.grant = Duration::from_secs(86_400);
        assert_eq!(config.check().unwrap_err().field, "grant-ttl");
    }
}
