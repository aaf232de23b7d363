//! What a check finds: the registry under test, what stands behind it, and content to ask for.
//!
//! Each check has repositories of its own, so that none sees what another left, and a record of its
//! own. The scripted origin behaves again before each check.

mod cold;
pub(crate) mod content;
mod memory;
mod process;
mod relay;
mod swarm;
pub(crate) mod user;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

pub use content::{Part, Sample};
pub use process::{Process, ProcessError};
pub use relay::Relay;
pub use swarm::{Swarm, SwarmCommands};
pub use user::User;

use crate::check::{Check, Stop};
use crate::client::{Client, Log, Site};
use crate::origin::Origin;

/// What stands behind the registry under test, as far as the suite may touch it.
#[derive(Clone)]
pub enum Behind {
    /// Unknown: content is what `--repository` and `--tag` name there.
    Given {
        /// A repository that holds an image.
        repository: String,
        /// A tag of that image.
        tag: String,
        /// Whom to believe about it; the registry itself if there is nobody else.
        reference: Option<Client>,
    },
    /// A registry that can be written to: directly, or through the registry under test.
    Writable(Client),
    /// The suite's own origins, which do what a check says.
    Scripted(Scripted),
}

/// Two origins and the names under which the mirror knows them.
#[derive(Clone)]
pub struct Scripted {
    /// The one that most checks use.
    pub first: Arc<Origin>,
    /// Another, for checks that need two.
    pub second: Arc<Origin>,
    /// The first one's name, the value of `ns`.
    pub name: String,
    /// The second one's.
    pub second_name: String,
}

/// What one run of the suite works with.
pub struct Scene {
    /// Asks the registry under test.
    pub mirror: Client,
    /// What stands behind it.
    pub behind: Behind,
    /// The registry's process, if the suite started it.
    pub process: Option<Process>,
    /// Whether writes to the registry under test are tried.
    pub writable: bool,
    /// How long the registry may believe a tag, a "not found" or a right; checks that wait for a
    /// change wait for it.
    pub ttl: Duration,
    /// Where the mirror gives bytes to its peers, if it does.
    pub peer_port: Option<Client>,
    /// How a node and its supernode are started, if that was told.
    pub swarm: Option<SwarmCommands>,
    /// Begins the names of all repositories that are made.
    pub prefix: String,
}

/// What one check works with.
pub struct Stage {
    /// Asks the registry under test.
    pub mirror: Client,
    scene: Arc<Scene>,
    id: String,
    made: Cell<u32>,
}

impl Stage {
    /// A stage for one check; the origins behave again.
    pub fn new(scene: &Arc<Scene>, check: &Check) -> Self {
        if let Behind::Scripted(scripted) = &scene.behind {
            scripted.first.reset();
            scripted.second.reset();
        }
        Self {
            mirror: scene.mirror.recording(),
            scene: Arc::clone(scene),
            id: check.id().to_ascii_lowercase(),
            made: Cell::new(0),
        }
    }

    /// What was said so far.
    pub fn log(&self) -> &Log {
        self.mirror.log()
    }

    /// A repository that no other check uses.
    pub fn repository(&self) -> String {
        self.made.set(self.made.get() + 1);
        format!("{}/{}-{}", self.scene.prefix, self.id, self.made.get())
    }

    /// Whom to believe about content: what stands behind the registry under test, or that itself
    /// where nothing else is known.
    pub fn reference(&self) -> Client {
        let behind = match &self.scene.behind {
            Behind::Scripted(scripted) => Site::parse(&scripted.first.url()).ok().map(Client::new),
            Behind::Writable(client) => Some(client.recording()),
            Behind::Given { reference, .. } => reference.as_ref().map(Client::recording),
        };
        behind.unwrap_or_else(|| self.mirror.recording())
    }

    /// The scripted origins.
    ///
    /// # Errors
    /// Skips the check where there are none.
    pub fn scripted(&self) -> Result<&Scripted, Stop> {
        match &self.scene.behind {
            Behind::Scripted(scripted) => Ok(scripted),
            _ => Err(Stop::Skip("needs --upstream scripted".to_owned())),
        }
    }

    /// The scripted origin that most checks use.
    ///
    /// # Errors
    /// Skips the check where there is none.
    pub fn origin(&self) -> Result<&Origin, Stop> {
        Ok(&self.scripted()?.first)
    }

    /// The registry's process.
    ///
    /// # Errors
    /// Skips the check where the suite did not start it.
    pub fn process(&self) -> Result<&Process, Stop> {
        let process = self.scene.process.as_ref();
        process.ok_or_else(|| Stop::Skip("needs --run, which starts the registry".to_owned()))
    }

    /// The registry's command once more, as a process beside the first one with its own data; see
    /// [`Process::another`]. The client asks it.
    ///
    /// # Errors
    /// Skips the check where the suite starts nothing, or if it does not start this way.
    pub async fn another(
        &self,
        name: &str,
        changes: &[(&str, String)],
        around: &str,
    ) -> Result<(Process, Client), Stop> {
        let started = self.process()?.another(name, changes, around).await;
        let process = started.map_err(|error| Stop::Skip(error.to_string()))?;
        let client = self.mirror.at(Site::loopback(process.listen()));
        Ok((process, client))
    }

    /// The mirror's peer port.
    ///
    /// # Errors
    /// Skips the check where it is not told.
    pub fn peer_port(&self) -> Result<&Client, Stop> {
        let port = self.scene.peer_port.as_ref();
        port.ok_or_else(|| Stop::Skip("needs --peer-port".to_owned()))
    }

    /// Goes on only if writes to the registry under test are tried.
    ///
    /// # Errors
    /// Skips the check otherwise.
    pub fn writable(&self) -> Result<(), Stop> {
        if self.scene.writable {
            return Ok(());
        }
        Err(Stop::Skip("needs --write".to_owned()))
    }

    /// Whether the registry under test stands in front of another one, which the suite knows.
    pub fn is_mirror(&self) -> bool {
        match &self.scene.behind {
            Behind::Scripted(_) => true,
            Behind::Writable(client) => client.site() != self.mirror.site(),
            Behind::Given { reference, .. } => reference.is_some(),
        }
    }

    /// Whether writes are tried.
    pub fn is_writable(&self) -> bool {
        self.scene.writable
    }

    /// How long the registry may believe what it was told before.
    pub fn ttl(&self) -> Duration {
        self.scene.ttl
    }

    /// Tries again and again until `held` says yes, for the stated lifetime and some seconds more.
    ///
    /// # Errors
    /// Fails the check with these words if it never does.
    pub async fn within_ttl<F>(&self, what: &str, mut held: F) -> Result<(), Stop>
    where
        F: AsyncFnMut() -> Result<bool, Stop>,
    {
        let end = tokio::time::Instant::now() + self.scene.ttl + Duration::from_secs(10);
        loop {
            if held().await? {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                let ttl = self.scene.ttl;
                return Err(Stop::Fail(format!(
                    "not within {ttl:?} and 10 s more: {what}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
