//! What setup would do, before it does it: the changes, what is wrong on this machine, and what
//! the operator has to do afterwards.

use std::path::{Path, PathBuf};

use oci::reference::Registry;

use crate::config::key::Key;
use crate::config::layer::Place;
use crate::config::registry::{check_endpoint, parse_name};
use crate::failure::Failure;
use crate::setup::journal::{Change, Journal};

/// Something that makes pulls go past the node, or will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trap {
    /// What it is and what happens because of it.
    pub(crate) what: String,
    /// How to mend it.
    pub(crate) mend: String,
}

impl Trap {
    /// A trap with its mend.
    pub(crate) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// All that setup has to say and do for one client.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The files that will change.
    pub(crate) changes: Vec<Change>,
    /// The files that already say it.
    pub(crate) settled: Vec<PathBuf>,
    /// What was found wrong.
    pub(crate) traps: Vec<Trap>,
    /// What to restart or reload, and why; or that nothing needs it.
    pub(crate) after: Vec<String>,
}

impl Plan {
    /// Has `path` say `content`, unless it does already.
    pub(crate) fn put(&mut self, path: PathBuf, content: String) -> Result<(), Failure> {
        let now = crate::setup::files::read(&path)?;
        if now.is_some_and(|now| now.bytes == content.as_bytes()) {
            self.settled.push(path);
        } else {
            self.changes.push(Change { path, content });
        }
        Ok(())
    }

    /// Notes a trap.
    pub(crate) fn trap(&mut self, what: impl Into<String>, mend: impl Into<String>) {
        self.traps.push(Trap::new(what, mend));
    }
}

/// A registry that a client shall ask the node for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Which.
    pub(crate) registry: Registry,
    /// The URL behind the node that the operator named.
    pub(crate) server: Option<String>,
}

impl Wanted {
    /// `NAME` or `NAME=URL`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let place = Place::Flag(Key::Registry);
        let (name, server) = match text.split_once('=') {
            Some((name, url)) => (name, Some(url)),
            None => (text, None),
        };
        if let Some(url) = server {
            check_endpoint(url, &place)?;
        }
        Ok(Self {
            registry: parse_name(name, &place)?,
            server: server.map(str::to_owned),
        })
    }

    /// Without an own word about it.
    pub(crate) fn of(name: &str) -> Result<Self, Failure> {
        Self::parse(name)
    }

    /// The URL of the real registry; Docker Hub's differs from its name.
    pub(crate) fn server(&self) -> String {
        match (&self.server, self.registry.as_str()) {
            (Some(url), _) => url.clone(),
            (None, "docker.io") => "https://registry-1.docker.io".to_owned(),
            (None, name) => format!("https://{name}"),
        }
    }
}

/// What a planner needs to know.
pub(crate) struct Context<'a> {
    /// The root of the file system, `/` but in tests and image builds.
    pub(crate) root: &'a Path,
    /// Another folder than the client's usual one.
    pub(crate) config_path: Option<&'a Path>,
    /// The node as the client reaches it: `http://127.0.0.1:65001`.
    pub(crate) address: &'a NodeAddress,
    /// The registries asked for; empty: the client's default.
    pub(crate) wanted: &'a [Wanted],
    /// What earlier runs did.
    pub(crate) journal: &'a Journal,
    /// The client's version, if it could be learnt.
    pub(crate) version: Option<(u32, u32)>,
}

impl Context<'_> {
    /// An absolute path below the root.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// `HOST:PORT` of the node, as a client's configuration can hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeAddress(String);

impl NodeAddress {
    /// A host name or an IPv4 address with a port. IPv6 literals are refused: containerd 1.x
    /// cannot parse a file that holds one and then goes past the node without a word.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format!("--address: `{text}` {why}"))
                .hint("write HOST:PORT as the client reaches the node: 127.0.0.1:65001")
        };
        if text.contains("://") {
            return Err(wrong("carries a scheme"));
        }
        if text.contains(['[', ']']) || text.matches(':').count() > 1 {
            return Err(wrong(
                "is an IPv6 literal, which containerd 1.x cannot read in hosts.toml",
            ));
        }
        match text.split_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
                if host.is_empty() || !host.chars().all(fits) {
                    return Err(wrong("has no valid host"));
                }
                Ok(Self(text.to_owned()))
            }
            _ => Err(wrong("has no port")),
        }
    }

    /// `HOST:PORT`.
    pub(crate) fn authority(&self) -> &str {
        &self.0
    }

    /// `http://HOST:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0)
    }
}
