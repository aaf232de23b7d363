//! One connection to a peer, read in few large steps.
//!
//! A shaped link brings a piece in many small segments, and each would cost a wake-up, a read and a
//! frame. So the socket is told how many bytes are worth a wake-up (`SO_RCVLOWAT`): a piece of
//! 512 KiB then comes in two reads into one buffer. Whatever is there after [`PATIENCE`] is taken all
//! the same, so that a slow peer still shows progress.
//!
//! Invariant: a link is given back for another request only after the last byte of its answer, and
//! only if nothing came after it.
//! TLS will stand between the socket and `recv`; then the low-water mark stays at one byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::buffer::Buffer;
use super::head::{self, Head};

/// Bytes that are worth a wake-up: below what the kernel's receive window holds, so that the sender
/// does not wait for us.
const LOW_WATER: usize = 256 << 10;
/// After so long what is there is taken, however little.
const PATIENCE: Duration = Duration::from_millis(250);
/// Longest head; what is read with it of the body is copied once.
const HEAD_MAX: usize = 4 << 10;

/// A connection between requests, or on its way through one.
#[derive(Debug)]
pub(super) struct Link {
    socket: TcpStream,
    /// Read already: a head, then the beginning of its body.
    ahead: Vec<u8>,
    /// It has answered before, so an error may only mean that it was idle for too long.
    pub(super) reused: bool,
}

/// Why a link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The transport's word; before the first byte of an answer.
    #[error("no answer: {0}")]
    Unanswered(io::Error),
    /// The transport's word, within an answer.
    #[error("broke off: {0}")]
    Cut(#[from] io::Error),
    /// The answer makes no sense.
    #[error("{0}")]
    Wrong(&'static str),
}

impl Link {
    /// Connects; the caller has the deadline.
    pub(super) async fn dial(addresses: &[SocketAddr]) -> io::Result<Self> {
        let socket = TcpStream::connect(addresses).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            ahead: Vec::new(),
            reused: false,
        })
    }

    /// Sends a request and reads the head of its answer; the caller has the deadline.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Head, Broken> {
        self.send(request).await.map_err(Broken::Unanswered)?;
        self.ahead.clear();
        self.ahead.reserve_exact(HEAD_MAX);
        loop {
            self.expect(1);
            self.socket.readable().await.map_err(Broken::Unanswered)?;
            let (socket, ahead) = (&self.socket, &mut self.ahead);
            let read = socket.try_io(Interest::READABLE, || {
                let room = spare_capacity(ahead);
                Ok(rustix::net::recv(socket, room, RecvFlags::DONTWAIT)?.1)
            });
            match read {
                Ok(0) if self.ahead.is_empty() => {
                    return Err(Broken::Unanswered(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(0) => return Err(Broken::Cut(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if self.ahead.is_empty() => return Err(Broken::Unanswered(error)),
                Err(error) => return Err(error.into()),
            }
            if let Some((head, size)) = head::parse(&self.ahead).map_err(Broken::Wrong)? {
                self.ahead.drain(..size);
                if self.ahead.len() as u64 > head.length {
                    return Err(Broken::Wrong("its answer is longer than it said"));
                }
                return Ok(head);
            }
            if self.ahead.len() == self.ahead.capacity() {
                return Err(Broken::Wrong("the head of its answer is too long"));
            }
        }
    }

    /// Appends at most `wanted` bytes of the body to `frame`, or what it has room for: all of them,
    /// unless the peer is slow. Fails after `idle` without a byte.
    pub(super) async fn fill(
        &mut self,
        frame: &mut Buffer,
        wanted: usize,
        idle: Duration,
    ) -> Result<(), Broken> {
        frame.append(&mut self.ahead);
        let started = Instant::now();
        while frame.len() < wanted {
            let missing = wanted - frame.len();
            self.expect(missing.min(LOW_WATER));
            let socket = &self.socket;
            let read = match timeout(PATIENCE, socket.readable()).await {
                Ok(ready) => {
                    ready?;
                    let room = frame.room(missing);
                    socket.try_io(Interest::READABLE, || recv(socket, room))
                }
                Err(_) => recv(socket, frame.room(missing)),
            };
            match read {
                Ok(0) => return Err(Broken::Cut(io::ErrorKind::UnexpectedEof.into())),
                Ok(bytes) => frame.grow(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            let took = started.elapsed();
            if !frame.is_empty() && took >= PATIENCE {
                return Ok(());
            }
            if took >= idle {
                return Err(Broken::Cut(io::ErrorKind::TimedOut.into()));
            }
        }
        Ok(())
    }

    async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.socket.writable().await?;
            match self.socket.try_write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets the next `readable` resolve when so many bytes are there (or the end is).
    ///
    /// The order matters: what the runtime remembers of readiness is dropped first, then the kernel
    /// is told, which signals anew if enough is there already.
    fn expect(&self, bytes: usize) {
        let stale = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = self.socket.try_io(Interest::READABLE, stale);
        // A kernel that refuses wakes us for every byte: slower, not wrong.
        let _ = low_water(&self.socket, bytes);
    }
}

/// What is there; never waits.
fn recv(socket: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, room, RecvFlags::DONTWAIT)?.1)
}

fn low_water(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    #[expect(unsafe_code, reason = "no safe crate at hand sets SO_RCVLOWAT")]
    // SAFETY: the descriptor is open, and the pointer is to an integer of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
