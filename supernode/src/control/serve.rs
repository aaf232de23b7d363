//! The control port: gRPC for nodes over HTTP/2, the pages for people and scrapers over either.
//!
//! Invariant: every connection has a place among a bounded number and an owner, and one that is dead
//! is noticed by HTTP/2 pings.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use proxy::Pages;
use swarm::wire::swarm_server::SwarmServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service as _;

use super::service::{Caller, Service};

/// Connections at a time, each a node or somebody who looks at a page.
const CONNECTIONS_MAX: usize = 16_384;
/// How long a connection may be silent before its first byte, and a request head may take.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// How often a connection's other end is asked whether it is there, and how long it may take.
const PING: Duration = Duration::from_secs(10);
/// Bytes in flight from a node: what it reports in a round trip.
const WINDOW: u32 = 1 << 20;
/// After a failed accept (no descriptors left, say): long enough for one to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long connections may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// What is behind the port.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) grpc: SwarmServer<Service>,
    pub(crate) pages: Pages,
}

impl Door {
    async fn answer(
        mut self,
        mut request: Request<Incoming>,
        caller: SocketAddr,
    ) -> Result<Response<Body>, Infallible> {
        if is_grpc(request.headers()) {
            request.extensions_mut().insert(Caller(caller));
            return self.grpc.call(request).await;
        }
        let (head, body) = self.pages.answer(&request).into_parts();
        // Pages are in memory, so that this waits for nothing and cannot fail.
        let bytes = body.collect().await.unwrap_or_default();
        Ok(Response::from_parts(head, Body::new(Full::new(bytes))))
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Serves every connection of `listener` until `shutdown`; returns when none is left.
pub(crate) async fn serve(listener: TcpListener, door: Door, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let builder = builder();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let (socket, caller, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (door, builder) = (door.clone(), builder.clone());
        let watcher = graceful.watcher();
        connections.spawn(async move {
            let _place = place;
            let first = tokio::time::timeout(FIRST_BYTE, socket.readable()).await;
            if !matches!(first, Ok(Ok(()))) {
                return;
            }
            let service = service_fn(move |request| door.clone().answer(request, caller));
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%caller, error, "a control connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::debug!(open = connections.len(), "control connections cut");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await;
    let place = place.map_err(io::Error::other)?;
    let (socket, caller) = listener.accept().await?;
    socket.set_nodelay(true)?;
    Ok((socket, caller, place))
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_BYTE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    builder
}
