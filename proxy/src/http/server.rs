//! The accept loop: a bounded number of connections, each a task that is joined at the end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::body::ResponseBody;
use super::wire::Traffic;
use super::{connection, listen};

/// After a failed accept (no descriptors left, say): long enough for one to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of a server. The default suits a node's front door.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections served at once; more wait in the backlog, and idle ones make room for them.
    pub max_connections: usize,
    /// Request head in bytes, at least 8 KiB; beyond it 431. Tokens of some registries take 8 KiB.
    pub max_head_bytes: usize,
    /// Path and query in bytes; beyond it 414.
    pub max_target_bytes: usize,
    /// How long a request head may take from its first byte on; after it 408.
    pub head_timeout: Duration,
    /// How long an idle connection is kept. Clients keep theirs for 30 s (containerd) to 90 s
    /// (podman); ours must be longer, or we close just when they send.
    pub idle_timeout: Duration,
    /// How long a client may take no byte of a response.
    pub write_idle_timeout: Duration,
    /// How long responses may go on after the shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_head_bytes: 64 << 10,
            max_target_bytes: 8 << 10,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(180),
            write_idle_timeout: Duration::from_secs(120),
            drain: Duration::from_secs(30),
        }
    }
}

/// Who is asking, and at which of our addresses.
#[derive(Debug, Clone, Copy)]
pub struct ConnInfo {
    /// The client's address.
    pub peer: SocketAddr,
    /// Our address, as the client dialled it.
    pub local: SocketAddr,
}

/// What all connections of a server share.
pub(super) struct Shared<F> {
    pub(super) service: Arc<F>,
    pub(super) limits: Limits,
    pub(super) traffic: Arc<Traffic>,
    pub(super) shutdown: CancellationToken,
    /// Asks the connection that was parked first to close, for another that waits.
    pub(super) crowded: Notify,
}

/// Serves every connection of `listener` until `shutdown`, then lets responses go on for at most
/// [`Limits::drain`]. Returns when no connection is left. Dropping it ends all connections at once.
pub async fn serve<F, Fut>(
    listener: TcpListener,
    service: F,
    limits: Limits,
    traffic: Arc<Traffic>,
    shutdown: CancellationToken,
) where
    F: Fn(Request<Incoming>, ConnInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    listen::tune(&listener);
    let drain = limits.drain;
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let shared = Arc::new(Shared {
        service: Arc::new(service),
        limits,
        traffic,
        shutdown: shutdown.clone(),
        crowded: Notify::new(),
    });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = next(&listener, &places, &shared.crowded) => accepted,
        };
        match accepted {
            Ok((socket, conn, place)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let traffic = Arc::clone(&shared.traffic);
                    Traffic::add(&traffic.accepted, 1);
                    let _open = (Traffic::one(&traffic.open), place);
                    connection::run(socket, conn, shared).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(drain, rest).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections cut at the end of the drain"
        );
        connections.shutdown().await;
    }
}

/// Takes a place, then a connection. Dropping it loses neither.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    crowded: &Notify,
) -> io::Result<(TcpStream, ConnInfo, OwnedSemaphorePermit)> {
    let place = match Arc::clone(places).try_acquire_owned() {
        Ok(place) => place,
        Err(_) => {
            crowded.notify_one();
            let wait = Arc::clone(places).acquire_owned();
            wait.await.map_err(io::Error::other)?
        }
    };
    let (socket, peer) = listener.accept().await?;
    let local = socket.local_addr()?;
    Ok((socket, ConnInfo { peer, local }, place))
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}
