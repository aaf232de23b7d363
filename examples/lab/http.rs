//! A blocking HTTP/1.1 client that shares no code with Darner: one connection for each request.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// The largest head that is understood.
const HEAD_BYTES: usize = 16 << 10;

/// How often a waiting reader looks whether it should give up.
const ROUND: Duration = Duration::from_millis(100);

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// When a reader gives up.
pub(crate) trait Patience {
    /// Whether to wait on, when nothing has come for `silent`.
    fn waits(&self, silent: Duration) -> bool;
}

impl Patience for Duration {
    fn waits(&self, silent: Duration) -> bool {
        silent < *self
    }
}

/// An answer whose body has not been read yet.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    socket: TcpStream,
    early: Vec<u8>,
}

/// Sends a request with a body (empty for none) and reads the head of the answer.
pub(crate) fn ask(
    addr: SocketAddr,
    first: &str,
    headers: &str,
    body: &[u8],
    patience: &impl Patience,
) -> Result<Answer> {
    let mut socket = TcpStream::connect_timeout(&addr, CONNECT_LIMIT)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(ROUND))?;
    let length = match first.split(' ').next() {
        Some("GET") => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let head =
        format!("{first} HTTP/1.1\r\nhost: {addr}\r\n{headers}{length}connection: close\r\n\r\n");
    socket.write_all(head.as_bytes())?;
    socket.write_all(body)?;
    let mut buffer = vec![0; HEAD_BYTES];
    let mut filled = 0;
    loop {
        ensure!(filled < HEAD_BYTES, "the head is too long");
        let read = receive(&mut socket, &mut buffer[filled..], patience)?;
        ensure!(read > 0, "closed within the head");
        filled += read;
        if let Some(at) = buffer[..filled].windows(4).position(|it| it == b"\r\n\r\n") {
            let early = buffer[at + 4..filled].to_vec();
            let head = String::from_utf8_lossy(&buffer[..at]).into_owned();
            let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
            return Ok(Answer {
                status: status.context("no status")?,
                head,
                socket,
                early,
            });
        }
    }
}

/// Reads what is there, waiting for it with patience.
fn receive(socket: &mut TcpStream, into: &mut [u8], patience: &impl Patience) -> Result<usize> {
    let since = Instant::now();
    loop {
        match socket.read(into) {
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !patience.waits(since.elapsed()) {
                    bail!("no byte for {:.1} s", since.elapsed().as_secs_f64());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Answer {
    /// A header's first value, whatever the case of its name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (have, value) = line.split_once(':')?;
            have.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Gives each part of the body to `take` as it comes; how many bytes there were.
    ///
    /// # Errors
    /// When it ends before its Content-Length.
    pub(crate) fn body(
        mut self,
        buffer: &mut [u8],
        patience: &impl Patience,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let length: Option<u64> = self.header("content-length").and_then(|it| it.parse().ok());
        let mut got = self.early.len() as u64;
        if got > 0 {
            take(&self.early)?;
        }
        while length.is_none_or(|length| got < length) {
            let read = receive(&mut self.socket, buffer, patience)?;
            if read == 0 {
                break;
            }
            take(&buffer[..read])?;
            got += read as u64;
        }
        let whole = length.is_none_or(|length| got == length);
        ensure!(whole, "the body ended after {got} bytes");
        Ok(got)
    }

    /// The whole of a small body.
    pub(crate) fn small_body(self, patience: &impl Patience) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.body(&mut vec![0; HEAD_BYTES], patience, |part| {
            all.extend_from_slice(part);
            Ok(())
        })?;
        Ok(all)
    }
}
