//! A node's part in a swarm: its place at its supernodes, what it tells them of what it holds, and
//! what they ask of it.
//!
//! Invariant: nothing here stands in a pull's way; a node whose supernodes are all away is a node
//! alone. Deliberately not here: the wire (`swarm::attend`) and the pieces (`peers`).

mod preheat;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use swarm::{AttendOptions, Attendance, Preheat, Tracker};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Config;
use crate::front::{Front, unix_now};
use crate::peers::Peers;

pub use status::{Reach, SupernodeView, SwarmStatus};

/// Blobs that are told of after a restart: beyond any node's store.
const SHARED_AGAIN_MAX: usize = 65_536;

/// A place at the supernodes. Dropping it leaves them.
pub(crate) struct Attending {
    attendance: Arc<Attendance>,
    preheats: mpsc::Receiver<Preheat>,
    leave: DropGuard,
    peer_listen: SocketAddr,
}

impl Attending {
    /// Begins to dial the supernodes. Must be called within a tokio runtime.
    pub(crate) fn start(config: &Config, peer_listen: SocketAddr, peers: &Peers) -> Self {
        let leave = CancellationToken::new();
        let own = peer_listen.ip();
        let told = (!own.is_unspecified() && !own.is_loopback()).then(|| own.to_string());
        // An address to listen on is one to be reached at only if somebody chose it.
        let told = told.filter(|_| config.peer_listen.is_some());
        let options = AttendOptions {
            supernodes: config.supernodes.clone(),
            name: host_name(),
            advertise: config.advertise.clone().or(told),
            peer_port: peer_listen.port(),
            zone: config.zone.clone(),
            rack: config.rack.clone(),
            peers: Arc::new(peers.clone()),
        };
        let (attendance, preheats) = Attendance::start(options, &leave);
        Self {
            attendance,
            preheats,
            leave: leave.drop_guard(),
            peer_listen,
        }
    }

    pub(crate) fn attendance(&self) -> Arc<Attendance> {
        self.attendance.clone()
    }

    /// What `/status` says of it.
    pub(crate) fn teller(&self) -> impl Fn() -> SwarmStatus + Send + Sync + use<> {
        let (attendance, peer_listen) = (self.attendance.clone(), self.peer_listen);
        move || SwarmStatus::of(&attendance, peer_listen)
    }

    /// Does what supernodes ask until `shutdown`.
    pub(crate) async fn run(&mut self, front: Arc<Front>, shutdown: CancellationToken) {
        let attendance = self.attendance.clone();
        let sharing = share_again(front.clone(), attendance, shutdown.clone());
        let preheating = preheat::run(front, &mut self.preheats);
        tokio::select! {
            () = shutdown.cancelled() => {}
            ((), ()) = async { tokio::join!(sharing, preheating) } => {}
        }
    }

    /// Leaves, and waits until nothing of it is left.
    pub(crate) async fn end(self) {
        drop(self.leave);
        self.attendance.ended().await;
    }
}

/// Supernodes live, and other nodes known, for the metrics.
pub(crate) fn counts(attendance: &Attendance) -> (u64, u64) {
    let all = attendance.status();
    let live = all.iter().filter(|one| one.live).count();
    let known = all.iter().map(|one| one.nodes).max();
    (live as u64, known.unwrap_or(0) as u64)
}

/// Shares what was shared before a restart: what is held of places that upstream served to anybody a
/// short while ago.
async fn share_again(front: Arc<Front>, attendance: Arc<Attendance>, shutdown: CancellationToken) {
    let sharing = tokio::task::spawn_blocking(move || {
        let memory: Duration = front.trust.public_memory;
        let since = unix_now().saturating_sub(memory.as_secs());
        for digest in front.catalog.of_public(since, SHARED_AGAIN_MAX) {
            if shutdown.is_cancelled() {
                return;
            }
            if let Some(held) = front.engine.held(&digest) {
                front.engine.share(&digest);
                attendance.held(&digest, held.total());
            }
        }
    });
    if let Err(error) = sharing.await {
        tracing::error!(%error, "what was shared before cannot be shared again");
    }
}

fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}
