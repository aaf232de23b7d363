//! What a run of the suite is given, and the scene that this makes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Client, Site};
use crate::origin::Origin;
use crate::stage::{Behind, Process, ProcessError, Scene, Scripted, SwarmCommands};

/// The name of the first scripted origin, unless another is given.
pub const FIRST: &str = "one.conformance.test";
/// The name of the second one.
pub const SECOND: &str = "two.conformance.test";

/// The account, user and password, that a mirror may be given for the first origin.
pub const ACCOUNT: (&str, &str) = ("suite-robot", "suite-robot-password");

/// What is told on the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is tested.
    pub target: Target,
    /// What stands behind it.
    pub upstream: Upstream,
    /// The value of `ns` on pull operations.
    pub namespace: Option<String>,
    /// User and password for what is tested; challenges are answered.
    pub login: Option<(String, String)>,
    /// Whether writes are tried.
    pub write: bool,
    /// How long what is tested may believe what it was told before.
    pub ttl: Duration,
    /// Where a mirror gives bytes to its peers.
    pub peer_port: Option<Site>,
    /// How a node and its supernode are started, for checks of bytes between peers.
    pub swarm: Option<SwarmCommands>,
    /// A repository with an image (read-only), or the beginning of all names that are made.
    pub repository: String,
    /// The image's tag.
    pub tag: String,
}

/// What is tested.
#[derive(Clone, Debug)]
pub enum Target {
    /// A registry that runs already.
    Url(Site),
    /// A command that starts one, and the folder it may use. In the command `{listen}` is where it must listen,
    /// `{data}` a folder of its own, `{upstream}` and `{upstream2}` the scripted origins' URLs,
    /// `{name}` and `{name2}` the names it must know them by, `{user}` and `{password}` the account
    /// that it may use at the first. Where they are there, `{admin}` is where it must show its metrics,
    /// `{peer}` where it gives bytes to peers, `{cache}` the bytes that its cache may take and `{stale}`
    /// how long a tag is served while its registry is away (`1h`, `5s`).
    Run {
        /// For the shell.
        command: String,
        /// For its data and its log.
        folder: PathBuf,
    },
}

/// What stands behind what is tested.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// Nothing that the suite may touch.
    Unknown,
    /// This registry: content is put there if writes are tried, and believed in any case.
    Registry(Site),
    /// The suite's own origins, at these addresses; port 0 means a free one.
    Scripted(SocketAddr, SocketAddr),
}

/// Why there is no scene.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A scripted origin cannot listen.
    #[error("the scripted origin cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The command.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Options {
    /// Starts what is to be started.
    ///
    /// # Errors
    /// If a port is taken or the command does not listen.
    pub async fn build(&self) -> Result<Arc<Scene>, SetupError> {
        let scripted = match self.upstream {
            Upstream::Scripted(first, second) => Some(Scripted {
                first: Arc::new(origin(first).await?),
                second: Arc::new(origin(second).await?),
                name: self.namespace.clone().unwrap_or_else(|| FIRST.to_owned()),
                second_name: SECOND.to_owned(),
            }),
            Upstream::Unknown | Upstream::Registry(_) => None,
        };
        let (site, process) = match &self.target {
            Target::Url(site) => (site.clone(), None),
            Target::Run { command, folder } => {
                let process = self.start(command, folder, scripted.as_ref()).await?;
                (Site::loopback(process.listen()), Some(process))
            }
        };
        let namespace = scripted.as_ref().map(|scripted| scripted.name.clone());
        let mut mirror = Client::new(site).with_namespace(namespace.or(self.namespace.clone()));
        if scripted.is_none() {
            mirror = mirror.with_account(self.login.clone());
        }
        let peer_port = process.as_ref().and_then(|process| process.address("peer"));
        let peer_port = peer_port.map(Site::loopback).or(self.peer_port.clone());
        Ok(Arc::new(Scene {
            behind: self.behind(scripted, &mirror),
            mirror,
            process,
            writable: self.write,
            ttl: self.ttl,
            peer_port: peer_port.map(Client::new),
            swarm: self.swarm.clone(),
            prefix: self.repository.clone(),
        }))
    }

    async fn start(
        &self,
        command: &str,
        folder: &Path,
        scripted: Option<&Scripted>,
    ) -> Result<Process, ProcessError> {
        let mut names = Vec::new();
        if let Some(scripted) = scripted {
            names.push(("upstream", scripted.first.url()));
            names.push(("upstream2", scripted.second.url()));
            names.push(("name", scripted.name.clone()));
            names.push(("name2", scripted.second_name.clone()));
            names.push(("user", ACCOUNT.0.to_owned()));
            names.push(("password", ACCOUNT.1.to_owned()));
        }
        if let Upstream::Registry(site) = &self.upstream {
            names.push(("upstream", site.to_string()));
        }
        Process::start(command, folder, &names).await
    }

    fn behind(&self, scripted: Option<Scripted>, mirror: &Client) -> Behind {
        let upstream = match &self.upstream {
            Upstream::Registry(site) => {
                Some(Client::new(site.clone()).with_account(self.login.clone()))
            }
            Upstream::Unknown | Upstream::Scripted(..) => None,
        };
        match (scripted, self.write) {
            (Some(scripted), _) => Behind::Scripted(scripted),
            (None, true) => Behind::Writable(upstream.unwrap_or_else(|| mirror.clone())),
            (None, false) => Behind::Given {
                repository: self.repository.clone(),
                tag: self.tag.clone(),
                reference: upstream,
            },
        }
    }
}

async fn origin(addr: SocketAddr) -> Result<Origin, SetupError> {
    let started = Origin::start_at(addr).await;
    started.map_err(|error| SetupError::Listen(addr, error))
}
