//! Requests as the mirror of these tests reads them, and what it answers.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::flaw::Flaw;
use crate::mirror::Mirror;

/// A request with its body.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| unescaped(value))
    }

    pub fn namespaces(&self) -> Vec<String> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let named = pairs.filter(|(key, _)| unescaped(key) == "ns");
        named.map(|(_, value)| unescaped(value)).collect()
    }

    pub fn query_without_ns(&self) -> String {
        let pairs = self
            .query
            .split('&')
            .filter(|pair| !pair.starts_with("ns="));
        pairs.collect::<Vec<_>>().join("&")
    }
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: Vec<u8> = rest.by_ref().take(2).collect();
        let digits = String::from_utf8_lossy(&digits).into_owned();
        bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'%'));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
        Self::new(status).body(body.into_bytes())
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

/// Answers one request and hangs up.
pub async fn serve(mirror: Arc<Mirror>, mut stream: TcpStream) {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    read.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    // The absolute form: whatever host it names, it is us.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut asked = Asked {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    let early = mirror.setting.read_only && !mirror.is(Flaw::ReadsWholeBody);
    if !early {
        let Some(body) = body(&asked, &mut stream, read).await else {
            return;
        };
        asked.body = body;
    }
    let reply = mirror.answer(&asked).await;
    let mut head = format!("HTTP/1.1 {} Wrong\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if reply.status != 204 {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    head += "\r\n";
    _ = stream.write_all(head.as_bytes()).await;
    if asked.method != "HEAD" {
        _ = stream.write_all(&reply.body).await;
    }
    _ = stream.shutdown().await;
    // Unread input would turn the FIN into an RST.
    let drain = async { while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
    _ = tokio::time::timeout(std::time::Duration::from_millis(200), drain).await;
}

async fn body(asked: &Asked, stream: &mut TcpStream, mut read: Vec<u8>) -> Option<Vec<u8>> {
    if asked.header("transfer-encoding").is_some() {
        let mut body = Vec::new();
        loop {
            let line = until(stream, &mut read, b"\r\n").await?;
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).ok()?;
            while read.len() < size + 2 {
                more(stream, &mut read).await?;
            }
            body.extend(read.drain(..size));
            read.drain(..2);
            if size == 0 {
                return Some(body);
            }
        }
    }
    let length: usize = asked.header("content-length").unwrap_or("0").parse().ok()?;
    while read.len() < length {
        more(stream, &mut read).await?;
    }
    read.truncate(length);
    Some(read)
}

async fn until(stream: &mut TcpStream, read: &mut Vec<u8>, mark: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = read.windows(mark.len()).position(|w| w == mark) {
            let line = read.drain(..at).collect();
            read.drain(..mark.len());
            return Some(line);
        }
        more(stream, read).await?;
    }
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let count = stream.read_buf(read).await.ok()?;
    (count > 0).then_some(())
}
