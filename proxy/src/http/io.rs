//! The socket under hyper: recognises slices of blob files by their address and sends the file.
//!
//! hyper queues body slices untouched because [`Io`] says that it writes vectored, so a slice of a
//! mapping arrives here as it left the store. hyper flushes only what it has written completely;
//! that flush tells [`Wire`] to let go of the files.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use swarm::BlobFile;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::wire::{Traffic, Wire};

/// The most that one `sendfile` is asked for; bounds the time a worker thread is kept.
const WINDOW_BYTES: usize = 2 << 20;

/// A connection's socket, with the bytes that were read ahead of it.
pub(super) struct Io {
    socket: TcpStream,
    read_ahead: Bytes,
    wire: Arc<Wire>,
    stall: Stall,
}

impl Io {
    pub(super) fn new(
        socket: TcpStream,
        read_ahead: Bytes,
        wire: Arc<Wire>,
        write_idle: Duration,
    ) -> Self {
        Self {
            socket,
            read_ahead,
            wire,
            stall: Stall::new(write_idle),
        }
    }

    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.socket, self.read_ahead)
    }

    fn poll_memory(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        let sent = if more {
            self.poll_with(cx, |socket| {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                let mut control = SendAncillaryBuffer::default();
                Ok(sendmsg(socket, buffers, &mut control, flags)?)
            })
        } else {
            Pin::new(&mut self.socket).poll_write_vectored(cx, buffers)
        };
        if let Poll::Ready(Ok(bytes)) = sent {
            Traffic::add(&self.wire.traffic().memory_bytes, bytes);
        }
        sent
    }

    fn poll_file(
        &mut self,
        cx: &mut Context<'_>,
        (file, offset): (Arc<BlobFile>, u64),
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let length = length.min(WINDOW_BYTES);
        let sent = self.poll_with(cx, |socket| {
            let mut offset = offset;
            match rustix::fs::sendfile(socket, file.fd(), Some(&mut offset), length)? {
                0 => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "blob file is shorter than it was",
                )),
                sent => Ok(sent),
            }
        });
        if let Poll::Ready(Ok(bytes)) = sent {
            Traffic::add(&self.wire.traffic().sendfile_bytes, bytes);
        }
        sent
    }

    fn poll_with(
        &mut self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            let result = self
                .socket
                .try_io(Interest::WRITABLE, || send(&self.socket));
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read_ahead.is_empty() {
            let length = self.read_ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.read_ahead[..length]);
            self.read_ahead.advance(length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut file = None;
        let mut in_memory = 0;
        for buffer in buffers {
            file = this.wire.locate(buffer);
            if file.is_some() {
                break;
            }
            in_memory += 1;
        }
        let sent = match file {
            // The head leaves in one segment with the beginning of the file.
            file if buffers[..in_memory].iter().any(|buffer| !buffer.is_empty()) => {
                this.poll_memory(cx, &buffers[..in_memory], file.is_some())
            }
            Some(place) => this.poll_file(cx, place, buffers[in_memory].len()),
            None => return Poll::Ready(Ok(0)),
        };
        this.stall.watch(cx, sent)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Ends writes to a client that takes nothing for too long. Its timer is made at the first full
/// socket buffer and then re-armed at most once per `limit`.
struct Stall {
    limit: Duration,
    stalled_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            stalled_since: None,
            timer: None,
        }
    }

    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        sent: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if sent.is_ready() {
            self.stalled_since = None;
            return sent;
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        let deadline = since + self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "client takes no more bytes",
                )));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
