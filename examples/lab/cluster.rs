//! The darners of one run: a supernode and nodes on empty folders, as a user starts them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, Usage};
use crate::http;
use crate::liar::Liar;
use crate::net::inside;
use crate::options::{Mode, Options};
use crate::place::{self, CONTROL_PORT, ORIGIN_PORT, PEER_PORT, Place, SEED_PORT};

/// What is expected of a start, also of thirty at once on two cores.
const START_LIMIT: Duration = Duration::from_secs(30);
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// What a run starts.
pub(crate) struct Setup<'a> {
    pub(crate) options: &'a Options,
    pub(crate) program: &'a Path,
    pub(crate) mode: Mode,
    pub(crate) nodes: usize,
    /// Where data and logs go; empty.
    pub(crate) folder: PathBuf,
    /// The node whose peer port lies.
    pub(crate) liar: Option<usize>,
}

/// One darner.
struct Member {
    place: Place,
    daemon: Daemon,
    /// What was last seen, since it may be killed.
    usage: Usage,
}

/// All of them. Killed when dropped: their data is thrown away anyhow.
pub(crate) struct Cluster {
    members: Vec<Member>,
    folder: PathBuf,
    pub(crate) liar: Option<Liar>,
}

impl Setup<'_> {
    /// Starts what the mode needs and waits until it is ready.
    pub(crate) fn start(&self) -> Result<Cluster> {
        std::fs::create_dir_all(&self.folder)?;
        let mut cluster = Cluster {
            members: Vec::new(),
            folder: self.folder.clone(),
            liar: None,
        };
        if self.mode != Mode::Direct {
            self.add(&mut cluster, Place::Supernode, self.supernode_args())?;
            let ready = Place::Supernode.port(CONTROL_PORT);
            cluster.wait(Place::Supernode, |place| is_ready(place, ready))?;
        }
        if self.mode == Mode::Swarm {
            if let Some(liar) = self.liar {
                cluster.liar = Some(Liar::start(Place::Node(liar))?);
            }
            for node in (0..self.nodes).map(Place::Node) {
                self.add(&mut cluster, node, self.node_args(node))?;
            }
            for node in (0..self.nodes).map(Place::Node) {
                cluster.wait(node, |place| {
                    is_ready(place, place::admin())
                        && status(place).is_some_and(|status| attends(&status))
                })?;
            }
        }
        Ok(cluster)
    }

    /// Whom the client of a node asks.
    pub(crate) fn door(&self) -> SocketAddr {
        match self.mode {
            Mode::Swarm => place::door(),
            Mode::Relay => Place::Supernode.port(SEED_PORT),
            Mode::Direct => Place::Origin.port(ORIGIN_PORT),
        }
    }

    fn add(&self, cluster: &mut Cluster, place: Place, args: Vec<String>) -> Result<()> {
        let log = self.folder.join(format!("{}.log", place.name()));
        let daemon = Daemon::start(place, self.program, &args, &log)?;
        cluster.members.push(Member {
            place,
            daemon,
            usage: Usage::default(),
        });
        Ok(())
    }

    fn supernode_args(&self) -> Vec<String> {
        let mut args = words(&format!(
            "supernode --listen 0.0.0.0:{SEED_PORT} --control 0.0.0.0:{CONTROL_PORT} --advertise {}",
            Place::Supernode.address()
        ));
        args.extend(self.common_args(Place::Supernode));
        args.extend(self.options.supernode_flag.iter().cloned());
        args
    }

    fn node_args(&self, node: Place) -> Vec<String> {
        let mut args = words(&format!(
            "proxy --listen {} --admin {} --supernode {} --advertise {}",
            place::door(),
            place::admin(),
            Place::Supernode.port(CONTROL_PORT),
            node.address(),
        ));
        if self.liar.map(Place::Node) == Some(node) {
            // The liar listens at the advertised address, the node behind it on loopback.
            args.extend(words(&format!("--peer-listen 127.0.0.1:{PEER_PORT}")));
        }
        args.extend(self.common_args(node));
        args.extend(self.options.node_flag.iter().cloned());
        args
    }

    fn common_args(&self, place: Place) -> Vec<String> {
        let origin = Place::Origin.port(ORIGIN_PORT);
        let mut args = words(&format!(
            "--registry lab.example=http://{origin} --public-registries false --cache-size 20GiB --min-free 0%"
        ));
        let data = self.folder.join(place.name());
        args.extend(["--data-dir".to_owned(), data.display().to_string()]);
        args.extend(["--log".to_owned(), self.options.log.clone()]);
        args
    }
}

impl Cluster {
    /// Looks what everybody has used.
    pub(crate) fn look(&mut self) {
        for member in &mut self.members {
            member.usage = member.usage.max(member.daemon.usage());
        }
    }

    /// What one of them had used when last looked at.
    pub(crate) fn usage(&self, place: Place) -> Usage {
        self.member(place)
            .map(|member| member.usage)
            .unwrap_or_default()
    }

    /// Sends a signal to one of them.
    pub(crate) fn signal(&mut self, place: Place, signal: Signal) {
        self.look();
        if let Some(member) = self.member(place) {
            member.daemon.signal(signal);
        }
    }

    /// Lines of all logs, with the name of who wrote them, that hold all `words`.
    pub(crate) fn log_lines(&self, words: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for member in &self.members {
            let log = member.daemon.log();
            let lines = log
                .lines()
                .filter(|line| words.iter().all(|word| line.contains(word)));
            found.extend(lines.map(|line| format!("{}: {line}", member.place.name())));
        }
        found
    }

    /// Keeps the logs beyond the run.
    pub(crate) fn copy_logs(&self, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to)?;
        for member in &self.members {
            let name = format!("{}.log", member.place.name());
            std::fs::copy(self.folder.join(&name), to.join(&name))?;
        }
        Ok(())
    }

    /// Those that ended by themselves.
    pub(crate) fn ended(&mut self) -> Vec<Place> {
        let mut ended = Vec::new();
        for member in &mut self.members {
            if !member.daemon.runs() {
                ended.push(member.place);
            }
        }
        ended
    }

    fn member(&self, place: Place) -> Option<&Member> {
        self.members.iter().find(|member| member.place == place)
    }

    fn wait(&mut self, place: Place, ready: impl Fn(Place) -> bool) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let Some(member) = self.members.iter_mut().find(|it| it.place == place) else {
            return Ok(());
        };
        while !ready(place) {
            ensure!(
                member.daemon.runs() && Instant::now() < deadline,
                "{} does not get ready:\n{}",
                place.name(),
                member.daemon.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The state of a node as its admin port shows it; `None` if it does not answer.
pub(crate) fn status(node: Place) -> Option<Value> {
    let body = inside(node.namespace(), || {
        let answer = http::ask(place::admin(), "GET /status", "", &[], &ASK_LIMIT)?;
        answer.small_body(&ASK_LIMIT)
    });
    serde_json::from_slice(&body.ok()?).ok()
}

fn is_ready(place: Place, page: SocketAddr) -> bool {
    let asked = inside(place.namespace(), move || {
        Ok(http::ask(page, "GET /readyz", "", &[], &ASK_LIMIT)?.status == 200)
    });
    asked.unwrap_or(false)
}

/// Whether a node is connected to its supernode.
fn attends(status: &Value) -> bool {
    let supernodes = status["swarm"]["supernodes"].as_array();
    supernodes.is_some_and(|all| all.iter().any(|it| it["live"] == true))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
