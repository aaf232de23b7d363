//! HTTP/1.1 on a plain socket, just enough of it, and with full control of how it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::fault::{End, Framing, Reply};
use super::gate::Gate;
use super::incoming::{self, Length};
use super::record::{Outcome, Seen};

/// Largest request head; a client that sends more is broken.
const HEAD_MAX: usize = 1 << 20;
/// Body bytes per write.
const CHUNK: usize = 64 * 1024;
/// What a huge body is made of.
static SPACES: [u8; CHUNK] = [b' '; CHUNK];
/// How long a client may keep its half of a connection after ours is closed.
const LINGER: Duration = Duration::from_secs(5);

pub(super) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// The client has gone.
struct Left;

impl From<std::io::Error> for Left {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// The head of the next request, and how its body is framed; `None` at the connection's end, or
    /// if it makes no sense.
    pub(super) async fn request(&mut self) -> Option<(Seen, Length)> {
        let end = loop {
            let found = self
                .read
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(end) = found {
                break end;
            }
            self.more().await?;
            if self.read.len() > HEAD_MAX {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?, first.next()?);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let seen = Seen::new(method, target, headers);
        let length = incoming::length(&seen)?;
        Some((seen, length))
    }

    /// Takes in a request's body, as fast as the gate lets it; `None` if it breaks off.
    pub(super) async fn body(
        &mut self,
        seen: &Seen,
        length: Length,
        gate: Option<&Gate>,
    ) -> Option<()> {
        if length != Length::Known(0) && seen.header("expect") == Some("100-continue") {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            self.stream.write_all(go_on).await.ok()?;
        }
        let mut body = incoming::Incoming::new(length);
        loop {
            let room = match gate {
                Some(gate) if !body.is_whole() => gate.beyond(seen.received_bytes()).await,
                _ => u64::MAX,
            };
            let room = room.saturating_sub(seen.received_bytes());
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            seen.add_received(body.take(&mut self.read, room)?);
            if body.is_whole() {
                seen.set_body(body.into_bytes());
                return Some(());
            }
            if !body.has_more(&self.read) {
                self.more().await?;
            }
        }
    }

    async fn more(&mut self) -> Option<()> {
        self.read.reserve(CHUNK);
        let read = self.stream.read_buf(&mut self.read).await.ok()?;
        (read > 0).then_some(())
    }

    /// Sends an answer as far as it goes.
    pub(super) async fn send(&mut self, seen: &Seen, reply: Reply) -> Outcome {
        self.try_send(seen, reply)
            .await
            .unwrap_or(Outcome::ClientLeft)
    }

    async fn try_send(&mut self, seen: &Seen, reply: Reply) -> Result<Outcome, Left> {
        if let Some(gate) = &reply.hold {
            self.pass(gate, 0).await?;
        }
        match reply.end {
            End::HangUp => return Ok(Outcome::Cut),
            End::Reset => return self.reset(),
            _ => {}
        }
        self.stream.write_all(head(&reply).as_bytes()).await?;
        if seen.method == "HEAD" || reply.status == 304 {
            return Ok(Outcome::Whole);
        }
        let length = reply.body.len();
        let stop = match reply.end {
            End::Fin(at) | End::Rst(at) | End::Stall(at) => {
                usize::try_from(at).unwrap_or(length).min(length)
            }
            _ => length,
        };
        let mut sent = 0;
        while sent < stop {
            let mut end = stop.min(sent + CHUNK);
            if let Some(gate) = &reply.pace {
                let limit = self.pass(gate, sent as u64).await?;
                end = end.min(usize::try_from(limit).unwrap_or(end));
            }
            self.write(&reply.body[sent..end], reply.framing).await?;
            seen.add_sent((end - sent) as u64);
            sent = end;
        }
        self.write_spaces(seen, &reply).await?;
        match reply.end {
            End::Rst(_) => return self.reset(),
            End::Fin(_) => return Ok(Outcome::Cut),
            End::Stall(_) => return Err(self.left().await),
            _ => {}
        }
        match reply.framing {
            Framing::Length => {}
            Framing::Chunked => self.stream.write_all(b"0\r\n\r\n").await?,
            Framing::Close => self.stream.shutdown().await?,
        }
        Ok(Outcome::Whole)
    }

    async fn write_spaces(&mut self, seen: &Seen, reply: &Reply) -> Result<(), Left> {
        let mut left = reply.spaces;
        while left > 0 {
            let count = left.min(CHUNK as u64);
            let part = &SPACES[..usize::try_from(count).unwrap_or(CHUNK)];
            self.write(part, reply.framing).await?;
            seen.add_sent(count);
            left -= count;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8], framing: Framing) -> Result<(), Left> {
        if framing == Framing::Chunked {
            let size = format!("{:x}\r\n", bytes.len());
            self.stream.write_all(size.as_bytes()).await?;
        }
        self.stream.write_all(bytes).await?;
        if framing == Framing::Chunked {
            self.stream.write_all(b"\r\n").await?;
        }
        Ok(())
    }

    /// Waits at a gate, or for the client to leave.
    async fn pass(&self, gate: &Gate, passed: u64) -> Result<u64, Left> {
        tokio::select! {
            limit = gate.beyond(passed) => Ok(limit),
            left = self.left() => Err(left),
        }
    }

    /// Waits until the client closes its side.
    async fn left(&self) -> Left {
        match self.stream.peek(&mut [0]).await {
            Ok(0) | Err(_) => Left,
            // It has sent the next request already, so it waits for this answer.
            Ok(_) => std::future::pending().await,
        }
    }

    /// Makes the coming close of the socket an RST.
    fn reset(&self) -> Result<Outcome, Left> {
        self.stream.set_zero_linger()?;
        Ok(Outcome::Cut)
    }

    /// Ends the connection with FIN, unless it was reset, and takes in what the client still
    /// sends, because unread input would turn the FIN into an RST.
    pub(super) async fn finish(mut self) {
        let reset = self.stream.linger().is_ok_and(|linger| linger.is_some());
        if reset || self.stream.shutdown().await.is_err() {
            return;
        }
        let drain = async {
            while self
                .stream
                .read(&mut [0; 1024])
                .await
                .is_ok_and(|read| read > 0)
            {}
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

fn head(reply: &Reply) -> String {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match reply.framing {
        // RFC 9110, 8.6: 204 has none.
        Framing::Length if reply.status == 204 => {}
        Framing::Length => {
            let length = reply.body.len() as u64 + reply.spaces;
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => head.push_str("Connection: close\r\n"),
    }
    head.push_str("\r\n");
    head
}
