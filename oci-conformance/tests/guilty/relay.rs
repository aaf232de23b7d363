//! The plainest mirror: it sends each request on as it is and gives back what comes, unless a test
//! makes it wrong. Threads and blocking sockets, so that it never shares a turn with the origin.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A relay hangs up on its client when upstream says nothing for this long.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request on its way.
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// As the client wrote it.
    as_head: bool,
}

/// An answer on its way.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) status: u16,
    /// Names in lower case, without the length.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Announced instead of the body's own.
    pub(crate) length: Option<usize>,
    /// Sent even to HEAD and with 304.
    pub(crate) body_anyway: bool,
}

impl Said {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(own, _)| own != name);
    }

    pub(crate) fn json(&mut self, status: u16, body: &str) {
        self.status = status;
        self.headers.clear();
        self.set("content-type", "application/json");
        self.body = body.as_bytes().to_vec();
        self.length = None;
    }
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }
}

type Asks = dyn Fn(&mut Heard) + Send + Sync;
type Says = dyn Fn(&Heard, &mut Said) + Send + Sync;

/// What a relay does wrong.
#[derive(Clone)]
pub(crate) struct Wrong {
    asks: Arc<Asks>,
    says: Arc<Says>,
}

impl Wrong {
    pub(crate) fn nothing() -> Self {
        Self::says(|_, _| {})
    }

    pub(crate) fn asks(asks: impl Fn(&mut Heard) + Send + Sync + 'static) -> Self {
        Self {
            asks: Arc::new(asks),
            says: Arc::new(|_, _| {}),
        }
    }

    pub(crate) fn says(says: impl Fn(&Heard, &mut Said) + Send + Sync + 'static) -> Self {
        Self {
            asks: Arc::new(|_| {}),
            says: Arc::new(says),
        }
    }

    pub(crate) fn and_says(
        mut self,
        says: impl Fn(&Heard, &mut Said) + Send + Sync + 'static,
    ) -> Self {
        self.says = Arc::new(says);
        self
    }
}

/// Starts a relay of `upstream`; it lives as long as the test's process.
pub(crate) fn start(upstream: SocketAddr, wrong: &Wrong) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let wrong = wrong.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let wrong = wrong.clone();
            thread::spawn(move || serve(stream, upstream, &wrong));
        }
    });
    addr
}

fn serve(mut client: TcpStream, upstream: SocketAddr, wrong: &Wrong) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = end_of_head(&read) {
                break end;
            }
            more(&mut client, &mut read)?;
        };
        let (first, headers) = parse(&read[..end]);
        read.drain(..end + 4);
        let mut words = first.split(' ');
        let method = words.next()?.to_owned();
        let mut heard = Heard {
            as_head: method == "HEAD",
            method,
            target: words.next()?.to_owned(),
            headers,
        };
        let keep = heard.header("connection") != Some("close");
        (wrong.asks)(&mut heard);
        let mut said = ask(upstream, &heard)?;
        (wrong.says)(&heard, &mut said);
        client.write_all(&written(&heard, &said, keep)).ok()?;
        if !keep {
            return Some(());
        }
    }
}

fn ask(upstream: SocketAddr, heard: &Heard) -> Option<Said> {
    let mut stream = TcpStream::connect(upstream).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = format!("{} {} HTTP/1.1\r\n", heard.method, heard.target);
    for (name, value) in &heard.headers {
        // What upstream is asked for is never coded.
        if name != "connection" && name != "accept-encoding" {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).ok()?;
    let mut read = Vec::new();
    while more(&mut stream, &mut read).is_some() {}
    let end = end_of_head(&read)?;
    let (first, mut headers) = parse(&read[..end]);
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok());
    headers.retain(|(name, _)| name != "content-length" && name != "connection");
    Some(Said {
        status: first.split(' ').nth(1)?.parse().ok()?,
        headers,
        body: read.split_off(end + 4),
        length: length.filter(|_| heard.method == "HEAD"),
        body_anyway: false,
    })
}

fn written(heard: &Heard, said: &Said, keep: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} Relayed\r\n", said.status);
    for (name, value) in &said.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = said.length.unwrap_or(said.body.len());
    text.push_str(&format!("Content-Length: {length}\r\n"));
    if !keep {
        text.push_str("Connection: close\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if said.body_anyway || !(heard.as_head || said.status == 304) {
        bytes.extend_from_slice(&said.body);
    }
    bytes
}

fn parse(head: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    (first, headers.collect())
}

fn end_of_head(read: &[u8]) -> Option<usize> {
    read.windows(4).position(|window| window == b"\r\n\r\n")
}

fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 64 << 10];
    let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
    read.extend_from_slice(&buffer[..count]);
    Some(())
}
