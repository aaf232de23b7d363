//! The control port and all that is behind it: the service, the leader, the seeding.
//!
//! [`Control::attach`] gives a node the tasks to run beside its own. Nodes' streams end when the
//! shutdown begins, so that nodes notice at once; the pages stay until the drain is over.

mod serve;
mod service;

use std::net::SocketAddr;
use std::time::Duration;

use proxy::App;
use swarm::attend::address;
use swarm::wire::swarm_server::SwarmServer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::{Book, SwarmStatus};
use crate::leader::{Leader, Shared};
use crate::scheduler::Options;
use crate::seeding::Seeding;
use serve::{Door, serve};
use service::Service;

/// Commands that wait for the leader. When it is behind, nodes are read more slowly.
const COMMANDS: usize = 1024;

/// How a supernode leads.
#[derive(Clone, Debug)]
pub(crate) struct ControlOptions {
    /// What it calls itself; nodes rank it by this.
    pub(crate) name: String,
    /// `host:port` of its front door, if that is known.
    pub(crate) reached_at: Option<String>,
    /// How long upstream's yes is believed.
    pub(crate) grant: Duration,
    pub(crate) scheduler: Options,
}

/// A look at a running supernode.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    book: Shared,
}

impl Control {
    /// Gives `node` its tasks and takes its control port.
    pub(crate) fn attach(node: &mut App, options: ControlOptions) -> Self {
        let book = Book::new(options.scheduler, seed_of(&options.name), options.grant);
        let book = Shared::new(book);
        let (commands, commanded) = mpsc::channel(COMMANDS);
        let tasks = TaskTracker::new();
        let ending = CancellationToken::new();
        let seeding = Seeding {
            seed: node.seed(),
            commands: commands.clone(),
            tasks: tasks.clone(),
            ending: ending.clone(),
        };
        let listen = node.addrs().listen.first().map_or(0, SocketAddr::port);
        let service = Service {
            commands,
            name: options.name,
            bytes_address: options
                .reached_at
                .unwrap_or_else(|| address::join("", listen)),
            tasks,
            ending,
        };
        let looked_at = book.clone();
        let status = move || {
            let status = looked_at.lock().status();
            serde_json::to_value(status).unwrap_or_default()
        };
        let door = Door {
            grpc: SwarmServer::new(service),
            pages: node.pages().with_swarm(status),
        };
        node.give_control(|listener| Box::new(|ends| Box::pin(serve(listener, door, ends))));
        let leader = Leader::new(book.clone(), seeding);
        node.run_beside(Box::new(|ends| Box::pin(leader.run(commanded, ends))));
        Self { book }
    }

    pub(crate) fn status(&self) -> SwarmStatus {
        self.book.lock().status()
    }
}

/// Two supernodes make different choices among equals; one makes the same again after a restart.
fn seed_of(name: &str) -> u64 {
    swarm::attend::weight(&oci::Digest::sha256(b"choices"), name)
}
