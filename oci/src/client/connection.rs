//! One HTTP/1.1 connection, driven by whoever awaits it.
//!
//! hyper splits a connection into a handle and a future that moves the bytes. Usually that future is
//! a task of its own; here the waiter polls both, so a body frame goes from the socket to its reader
//! without a wake-up in between, nothing runs that nobody owns, and dropping a request or a body
//! closes its connection.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::dial::{Dialled, Socket};
use super::outgoing::Outgoing;

/// What hyper lets its read buffer grow to while reads fill it; it allocates up to twice that, and a
/// frame is what one read gave. So frames of a fast body have about half a mebibyte, beyond which
/// `benches/frames.rs` shows no gain.
pub(super) const FRAME_MAX: usize = 256 * 1024;
/// Most header lines of an answer.
const HEADERS_MAX: usize = 128;
/// Longest head of an answer in bytes.
const HEAD_MAX: usize = 64 * 1024;

type Sender = http1::SendRequest<Outgoing>;
type Driver = http1::Connection<TokioIo<Box<dyn Socket>>, Outgoing>;

/// Why a request brought no answer.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// The request's body, if not a byte of the request has left: it can go over another connection.
    pub(super) unsent: Option<Outgoing>,
}

/// A connection that is between requests or on its way through one.
pub(super) struct Connection {
    sender: Sender,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    pub(super) via_proxy: Option<Option<HeaderValue>>,
    /// It has already answered a request, so an error may only mean that it was idle for too long.
    pub(super) reused: bool,
}

impl Connection {
    pub(super) async fn start(dialled: Dialled) -> hyper::Result<Self> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(FRAME_MAX)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_MAX)
            .handshake(TokioIo::new(dialled.socket))
            .await?;
        Ok(Self {
            sender,
            driver: Some(driver),
            via_proxy: dialled.via_proxy,
            reused: false,
        })
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut sending = std::pin::pin!(self.sender.try_send_request(request));
        let driver = &mut self.driver;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = sending.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            drive(driver, cx);
            sending.as_mut().poll(cx)
        })
        .await
        .map_err(|mut failed| Unanswered {
            unsent: failed.take_message().map(Request::into_body),
            error: failed.into_error(),
        })
    }

    /// Moves bytes; wakes `cx` when there is more to do.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether the next request can be sent: the last answer was read to its end and the other side
    /// has not closed meanwhile.
    pub(super) fn is_idle(&mut self) -> bool {
        // Nobody waits; this only looks at what has already happened.
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && let Poll::Ready(ended) = Pin::new(running).poll(cx)
    {
        // A fault reaches the waiter through the request or the body; this is only the hint why.
        if let Err(error) = ended {
            tracing::trace!(%error, "connection ended");
        }
        *driver = None;
    }
}
