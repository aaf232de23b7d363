//! One connection from accept to FIN: parked while idle, driven by hyper while not.
//!
//! Invariants: a parked connection holds only its socket; nothing a client has sent is lost between
//! the two states; however it ends, what was written is followed by FIN and the client's unread
//! bytes are taken in first, because closing over unread bytes would send RST and destroy what the
//! client has not read yet.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::ResponseBody;
use super::io::Io;
use super::server::{ConnInfo, Shared};
use super::service::Guarded;
use super::wire::{Activity, Traffic, Wire};

/// An idle connection is parked after this long; a pause between two layers or manifests is longer,
/// one between two requests of a benchmark is not.
const PARK_AFTER: Duration = Duration::from_millis(100);

/// How often a busy connection looks at the time and at the shutdown.
const BUSY_TICK: Duration = Duration::from_millis(250);

/// How often a partial request head is looked at.
const HEAD_TICK: Duration = Duration::from_secs(1);

/// How long a client may take to close its side after our FIN.
const LINGER: Duration = Duration::from_secs(3);

/// The same for one that was idle: nothing of it is unread, so it only has to notice.
const IDLE_LINGER: Duration = Duration::from_millis(250);

/// How much a client may still send after our FIN before we stop listening.
const LINGER_BYTES: usize = 4 << 20;

/// Serves `socket` until either side ends it.
pub(super) async fn run<F, Fut>(mut socket: TcpStream, conn: ConnInfo, shared: Arc<Shared<F>>)
where
    F: Fn(Request<Incoming>, ConnInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let mut read_ahead = Bytes::new();
    let mut head_since = None;
    loop {
        if read_ahead.is_empty() {
            if !parked(&socket, &shared).await {
                return close(&socket, IDLE_LINGER).await;
            }
            head_since = None;
        }
        let since = *head_since.get_or_insert_with(Instant::now);
        // Boxed, so that a parked connection does not keep the room for it.
        let active = Box::pin(active(socket, read_ahead, conn, &shared, since));
        let (back, rest, end) = active.await;
        socket = back;
        read_ahead = rest;
        match end {
            End::Idle { served } => {
                if served {
                    head_since = Some(Instant::now());
                } else if since.elapsed() >= shared.limits.head_timeout {
                    say_timeout(&socket);
                    break;
                }
            }
            End::Closed => break,
        }
        if shared.shutdown.is_cancelled() {
            break;
        }
    }
    close(&socket, LINGER).await;
}

enum End {
    /// Nothing is going on; `served` tells whether a request was answered meanwhile.
    Idle {
        served: bool,
    },
    Closed,
}

/// Waits for the first byte of a request; `false` when the connection is to be closed.
async fn parked<F>(socket: &TcpStream, shared: &Shared<F>) -> bool {
    let _parked = Traffic::one(&shared.traffic.parked);
    tokio::select! {
        biased;
        ready = socket.readable() => ready.is_ok(),
        () = shared.shutdown.cancelled() => false,
        () = shared.crowded.notified() => false,
        () = tokio::time::sleep(shared.limits.idle_timeout) => false,
    }
}

async fn active<F, Fut>(
    socket: TcpStream,
    read_ahead: Bytes,
    conn: ConnInfo,
    shared: &Arc<Shared<F>>,
    head_since: Instant,
) -> (TcpStream, Bytes, End)
where
    F: Fn(Request<Incoming>, ConnInfo) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<ResponseBody>> + Send + 'static,
{
    let limits = &shared.limits;
    let wire = Wire::new(Arc::clone(&shared.traffic));
    let partial_head = !read_ahead.is_empty();
    let io = TokioIo::new(Io::new(
        socket,
        read_ahead,
        Arc::clone(&wire),
        limits.write_idle_timeout,
    ));
    let service = Guarded {
        service: Arc::clone(&shared.service),
        conn,
        wire: Arc::clone(&wire),
        max_target_bytes: limits.max_target_bytes,
    };
    let mut connection = http1::Builder::new()
        .max_header_size(limits.max_head_bytes)
        .max_buf_size(limits.max_head_bytes)
        // Partial heads are timed by `run`: hyper's own timer costs an allocation per request.
        .header_read_timeout(None)
        .serve_connection(io, service);

    let head_left = limits.head_timeout.saturating_sub(head_since.elapsed());
    let first_tick = if partial_head {
        HEAD_TICK.min(head_left)
    } else {
        PARK_AFTER
    };
    let mut tick = pin!(tokio::time::sleep(first_tick));
    let mut rest = Rest::default();
    let end = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                if let Err(error) = result {
                    tracing::debug!(peer = %conn.peer, %error, "connection ended");
                }
                return Poll::Ready(End::Closed);
            }
            if tick.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let stopping = shared.shutdown.is_cancelled();
            if stopping {
                Pin::new(&mut connection).graceful_shutdown();
            }
            match rest.after_tick(wire.activity(), limits.idle_timeout, stopping) {
                Ok(next) => tick.as_mut().reset(Instant::now() + next),
                Err(end) => return Poll::Ready(end),
            }
        }
    })
    .await;
    let parts = connection.into_parts();
    let (socket, mut rest) = parts.io.into_inner().into_parts();
    if !parts.read_buf.is_empty() {
        rest = parts.read_buf;
    }
    (socket, rest, end)
}

/// Decides at each tick whether a connection is at rest.
#[derive(Default)]
struct Rest {
    seen_requests: u64,
    idle_since: Option<Instant>,
}

impl Rest {
    /// How long until the next tick, or how the active time ends.
    fn after_tick(
        &mut self,
        activity: Activity,
        idle_timeout: Duration,
        stopping: bool,
    ) -> Result<Duration, End> {
        let Activity::Idle { requests, parkable } = activity else {
            self.idle_since = None;
            return Ok(BUSY_TICK);
        };
        if requests != self.seen_requests {
            self.seen_requests = requests;
            return Ok(PARK_AFTER);
        }
        if parkable {
            let served = requests > 0;
            return Err(End::Idle { served });
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        if stopping || since.elapsed() >= idle_timeout {
            return Err(End::Closed);
        }
        Ok(BUSY_TICK)
    }
}

fn say_timeout(socket: &TcpStream) {
    let _ = socket.try_write(
        b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
}

/// FIN, then take in what the client still sends until it closes too.
async fn close(socket: &TcpStream, linger: Duration) {
    if rustix::net::shutdown(socket, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let drained = async {
        let mut scratch = vec![0; 16 << 10];
        let mut taken = 0;
        while taken < LINGER_BYTES && socket.readable().await.is_ok() {
            match socket.try_read(&mut scratch) {
                Ok(0) => break,
                Ok(bytes) => taken += bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    let _ = tokio::time::timeout(linger, drained).await;
}
