//! A client on a plain socket that sees how a connection ends.
//!
//! HTTP libraries hide whether a body ended with FIN or RST; to container runtimes the two are
//! worlds apart. One connection per request, a deadline on every wait.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the next bytes; a test that waits longer has failed.
const WAIT: Duration = Duration::from_secs(20);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With all the bytes that its head announced.
    Complete,
    /// With FIN before that.
    Short,
    /// With RST before that.
    Reset,
}

/// An answer to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 0 if there was no head.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// With chunks undone.
    pub body: Vec<u8>,
    /// How it ended.
    pub ending: Ending,
}

impl Answer {
    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first error code of a JSON error body; empty if it is none.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A request being made.
#[derive(Clone, Debug)]
pub struct Request {
    addr: SocketAddr,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Begins a GET.
pub fn get(addr: SocketAddr, target: &str) -> Request {
    request(addr, "GET", target)
}

/// Begins a HEAD.
pub fn head(addr: SocketAddr, target: &str) -> Request {
    request(addr, "HEAD", target)
}

/// Begins a request of any method.
pub fn request(addr: SocketAddr, method: &str, target: &str) -> Request {
    Request {
        addr,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

impl Request {
    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body, with its length.
    #[must_use]
    pub fn body(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.body = bytes.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// A body without its length, in chunks of these.
    #[must_use]
    pub fn chunks<'c>(mut self, chunks: impl IntoIterator<Item = &'c [u8]>) -> Self {
        for chunk in chunks {
            let size = format!("{:x}\r\n", chunk.len());
            self.body.extend_from_slice(size.as_bytes());
            self.body.extend_from_slice(chunk);
            self.body.extend_from_slice(b"\r\n");
        }
        self.body.extend_from_slice(b"0\r\n\r\n");
        self.header("Transfer-Encoding", "chunked")
    }

    /// Sends it and takes the answer to its end.
    ///
    /// # Panics
    /// If nothing comes for twenty seconds, or no head that can be read.
    pub async fn send(self) -> Answer {
        self.open().await.rest().await
    }

    /// Sends it and waits for the head only.
    ///
    /// # Panics
    /// If nothing comes for twenty seconds, or no head that can be read.
    pub async fn open(self) -> Exchange {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.method, self.target, self.addr
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        Exchange::begin(self.addr, &bytes, self.method == "HEAD").await
    }
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub struct Exchange {
    stream: TcpStream,
    read: Vec<u8>,
    ending: Option<Ending>,
    /// 0 if there was no head.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    without_body: bool,
}

impl Exchange {
    /// Sends these very bytes and waits for a head; `100 Continue` is passed over.
    ///
    /// # Panics
    /// If nothing comes for twenty seconds, or no head that can be read.
    pub async fn begin(addr: SocketAddr, bytes: &[u8], without_body: bool) -> Self {
        let connected = timeout(WAIT, TcpStream::connect(addr))
            .await
            .expect("connects in time");
        let mut stream = connected.expect("somebody listens");
        stream.write_all(bytes).await.expect("the request is taken");
        let mut exchange = Self {
            stream,
            read: Vec::new(),
            ending: None,
            status: 0,
            headers: Vec::new(),
            without_body,
        };
        loop {
            let end = exchange
                .read
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            match end {
                Some(end) => {
                    let head: Vec<u8> = exchange.read.drain(..end + 4).collect();
                    exchange.take_head(&String::from_utf8_lossy(&head[..end]));
                    if exchange.status != 100 {
                        return exchange;
                    }
                }
                None if exchange.ending.is_some() => return exchange,
                None => exchange.more().await,
            }
        }
    }

    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Reads on until `count` bytes of the (not chunked) body are there, or its end; returns all.
    ///
    /// # Panics
    /// If nothing comes for twenty seconds.
    pub async fn at_least(&mut self, count: usize) -> &[u8] {
        while self.read.len() < count && self.ending.is_none() {
            self.more().await;
        }
        &self.read
    }

    /// Reads to the end.
    ///
    /// # Panics
    /// If nothing comes for twenty seconds, or the body's framing makes no sense.
    pub async fn rest(mut self) -> Answer {
        let no_body = self.without_body || matches!(self.status, 204 | 304);
        let length: Option<usize> = match self.header("content-length") {
            _ if no_body => Some(0),
            value => value.map(|value| value.parse().expect("Content-Length is a number")),
        };
        let chunked = !no_body && self.header("transfer-encoding").is_some();
        let (body, whole) = loop {
            if chunked {
                if let Some(body) = unchunk(&self.read) {
                    break (body, true);
                }
            } else if length.is_some_and(|length| self.read.len() >= length) && self.status != 0 {
                break (self.read.clone(), true);
            }
            match self.ending {
                Some(Ending::Short) if length.is_none() && !chunked && self.status != 0 => {
                    break (self.read.clone(), true);
                }
                Some(_) => break (self.read.clone(), false),
                None => self.more().await,
            }
        };
        let ending = if whole {
            Ending::Complete
        } else {
            self.ending.unwrap_or(Ending::Short)
        };
        Answer {
            status: self.status,
            headers: self.headers,
            body,
            ending,
        }
    }

    async fn more(&mut self) {
        let read = timeout(WAIT, self.stream.read_buf(&mut self.read)).await;
        match read.unwrap_or_else(|_| panic!("no bytes come; have {}", self.read.len())) {
            Ok(0) => self.ending = Some(Ending::Short),
            Ok(_) => {}
            Err(_) => self.ending = Some(Ending::Reset),
        }
    }

    fn take_head(&mut self, head: &str) {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        self.status = status
            .and_then(|status| status.parse().ok())
            .expect("a status line");
        let pairs = lines.filter_map(|line| line.split_once(':'));
        self.headers = pairs
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
    }
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    let found = headers.iter().find(|(own, _)| own == name);
    found.map(|(_, value)| value.as_str())
}

/// The body of complete chunks; `None` while the last one is missing.
fn unchunk(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
