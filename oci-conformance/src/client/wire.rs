//! A connection, and how an answer is read from it: head, framing, and how it ended.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use super::site::Site;

/// Longest head that is read.
const HEAD_MAX: usize = 256 << 10;

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With all the bytes that its head announced.
    Complete,
    /// With FIN before that.
    Short,
    /// With RST before that.
    Reset,
    /// Not: no byte came for as long as the request waits.
    Stalled,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The target is no URL that can be asked.
    #[error("{0}")]
    Url(String),
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection ended before a head.
    #[error("the connection ended before an answer ({0:?})")]
    Ended(Ending),
    /// No head in time.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// What came is no HTTP/1.1 head.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
}

/// Status and headers of an answer.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// An answer to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// With chunks undone.
    pub body: Vec<u8>,
    /// How it ended.
    pub ending: Ending,
}

impl Response {
    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All headers of this lower-case name, in order.
    pub fn headers<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        let found = self.headers.iter().filter(move |(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the whole of it came.
    pub fn complete(&self) -> bool {
        self.ending == Ending::Complete
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn head_text(&self) -> String {
        let mut text = format!("HTTP/1.1 {}", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("\n{name}: {value}"));
        }
        if self.ending != Ending::Complete {
            text.push_str(&format!("\n(the body ended early: {:?})", self.ending));
        }
        text
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection to a registry.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Came, and is not part of an answer that was taken.
    read: Vec<u8>,
    ending: Option<Ending>,
    wait: Duration,
    head: Head,
    without_body: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, with TLS if the site wants it.
    ///
    /// # Errors
    /// If nobody answers there, or its certificate is not trusted by this machine.
    pub async fn open(site: &Site, wait: Duration) -> Result<Self, Trouble> {
        Self::open_from(site, wait, None).await
    }

    /// The same from this address of the machine.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_from(
        site: &Site,
        wait: Duration,
        from: Option<IpAddr>,
    ) -> Result<Self, Trouble> {
        let connected = timeout(wait, connect(site, from)).await;
        let stream = connected.map_err(|_| Trouble::Late(wait))?;
        let stream = stream.map_err(Trouble::Connect)?;
        // Small requests of one check must not wait for each other's acknowledgement.
        stream.set_nodelay(true).map_err(Trouble::Connect)?;
        let stream: Box<dyn Stream> = if site.tls() {
            let name = ServerName::try_from(site.host().to_owned());
            let name = name.map_err(|error| Trouble::Url(error.to_string()))?;
            let shaken = timeout(wait, connector().connect(name, stream)).await;
            Box::new(
                shaken
                    .map_err(|_| Trouble::Late(wait))?
                    .map_err(Trouble::Connect)?,
            )
        } else {
            Box::new(stream)
        };
        Ok(Self {
            stream,
            read: Vec::new(),
            ending: None,
            wait,
            head: Head::default(),
            without_body: false,
        })
    }

    /// Sends bytes as they are; that the other side has closed already is no error here.
    pub async fn write(&mut self, bytes: &[u8]) {
        let written = timeout(self.wait, self.stream.write_all(bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            // What was answered before the other side closed can still be read.
            return;
        }
        _ = self.stream.flush().await;
    }

    /// Sends a request and takes the answer to its end.
    ///
    /// # Errors
    /// If no head comes that can be read, or none in time.
    pub async fn exchange(
        &mut self,
        bytes: &[u8],
        without_body: bool,
    ) -> Result<Response, Trouble> {
        self.begin(bytes, without_body).await?;
        self.rest().await
    }

    /// Sends a request and waits for the answer's head.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn begin(&mut self, bytes: &[u8], without_body: bool) -> Result<(), Trouble> {
        self.send_watching(bytes).await;
        self.without_body = without_body;
        self.next_head().await
    }

    /// Sends bytes and reads what comes meanwhile: who has answered already, or has gone, need not
    /// be sent the rest.
    async fn send_watching(&mut self, bytes: &[u8]) {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let mut sent = 0;
        while sent < bytes.len() {
            tokio::select! {
                written = writer.write(&bytes[sent..]) => match written {
                    Ok(written) if written > 0 => sent += written,
                    // What was answered before the other side closed can still be read.
                    _ => break,
                },
                read = reader.read_buf(&mut self.read) => match read {
                    Ok(0) => self.ending = Some(Ending::Short),
                    Ok(_) => {}
                    Err(_) => self.ending = Some(Ending::Reset),
                },
                () = tokio::time::sleep(self.wait) => break,
            }
            let interim = self.read.starts_with(b"HTTP/1.1 1");
            if self.ending.is_some() || (!self.read.is_empty() && !interim) {
                break;
            }
        }
        _ = writer.flush().await;
    }

    /// Waits for the next head on this connection.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn next_head(&mut self) -> Result<(), Trouble> {
        loop {
            let end = self.read.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                self.head = parse_head(&head[..end])?;
                // Interim answers are not the answer (RFC 9110, 15.2).
                if self.head.status >= 200 {
                    return Ok(());
                }
            } else if let Some(ending) = self.ending {
                return Err(match ending {
                    Ending::Stalled => Trouble::Late(self.wait),
                    ending => Trouble::Ended(ending),
                });
            } else if self.read.len() > HEAD_MAX {
                return Err(Trouble::Malformed("the head has no end".to_owned()));
            } else {
                self.more().await;
            }
        }
    }

    /// Status and headers of the answer that is being read.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Reads on until `count` bytes of a body without chunks are there, or no more come.
    pub async fn at_least(&mut self, count: usize) -> &[u8] {
        while self.read.len() < count && self.ending.is_none() {
            self.more().await;
        }
        &self.read
    }

    /// Whether the other side has closed, waiting for it no longer than `wait`.
    pub async fn closes_within(&mut self, wait: Duration) -> bool {
        let kept = std::mem::replace(&mut self.wait, wait);
        while self.ending.is_none() {
            self.more().await;
        }
        self.wait = kept;
        match self.ending {
            Some(Ending::Stalled) => {
                self.ending = None;
                false
            }
            _ => true,
        }
    }

    /// Reads the answer to its end.
    ///
    /// # Errors
    /// If its framing makes no sense.
    pub async fn rest(&mut self) -> Result<Response, Trouble> {
        let no_body = self.without_body || matches!(self.head.status, 204 | 304);
        let length = match self.header("content-length") {
            _ if no_body => Some(0),
            Some(value) => Some(
                value
                    .parse::<usize>()
                    .map_err(|_| Trouble::Malformed(format!("Content-Length is `{value}`")))?,
            ),
            None => None,
        };
        let chunked = !no_body && self.header("transfer-encoding").is_some();
        let (body, whole) = loop {
            if chunked {
                if let Some((body, used)) = unchunk(&self.read)? {
                    self.read.drain(..used);
                    break (body, true);
                }
            } else if let Some(length) = length.filter(|length| self.read.len() >= *length) {
                break (self.read.drain(..length).collect(), true);
            }
            match self.ending {
                // Without a length the end of the connection is the end of the body.
                Some(Ending::Short) if length.is_none() && !chunked => {
                    break (std::mem::take(&mut self.read), true);
                }
                Some(_) => break (std::mem::take(&mut self.read), false),
                None => self.more().await,
            }
        };
        let ending = match (whole, self.ending) {
            (true, _) | (false, None) => Ending::Complete,
            (false, Some(ending)) => ending,
        };
        Ok(Response {
            status: self.head.status,
            headers: self.head.headers.clone(),
            body,
            ending,
        })
    }

    /// The answer as far as it is known.
    pub(super) fn so_far(&self) -> Response {
        Response {
            status: self.head.status,
            headers: self.head.headers.clone(),
            body: self.read.clone(),
            ending: Ending::Complete,
        }
    }

    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.head.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    async fn more(&mut self) {
        match timeout(self.wait, self.stream.read_buf(&mut self.read)).await {
            Err(_) => self.ending = Some(Ending::Stalled),
            Ok(Ok(0)) => self.ending = Some(Ending::Short),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => self.ending = Some(Ending::Reset),
        }
    }
}

async fn connect(site: &Site, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else {
        return TcpStream::connect((site.host(), site.port())).await;
    };
    let mut found = tokio::net::lookup_host((site.host(), site.port())).await?;
    let of_kind = found.find(|address| address.is_ipv4() == from.is_ipv4());
    let address = of_kind.ok_or_else(|| io::Error::other("no address of this kind there"))?;
    let socket = match from {
        IpAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        IpAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(address).await
}

fn parse_head(bytes: &[u8]) -> Result<Head, Trouble> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let malformed = || Trouble::Malformed(format!("`{first}` is no status line"));
    let mut parts = first.split(' ');
    let version = parts.next().unwrap_or_default();
    let status = parts.next().and_then(|status| status.parse().ok());
    let status = status.filter(|_| version.starts_with("HTTP/1."));
    let mut headers = Vec::new();
    for line in lines {
        let pair = line.split_once(':');
        let (name, value) =
            pair.ok_or_else(|| Trouble::Malformed(format!("`{line}` is no header")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Head {
        status: status.ok_or_else(malformed)?,
        headers,
    })
}

/// The body of complete chunks and how many bytes they took; `None` while the last one is missing.
fn unchunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Trouble> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..line]).unwrap_or_default();
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| Trouble::Malformed(format!("`{size}` is no chunk size")))?;
        let (start, end) = (line + 2, line + 2 + size);
        if size == 0 {
            // Trailers end with an empty line.
            let trailer = &rest[line..];
            let end = trailer.windows(4).position(|window| window == b"\r\n\r\n");
            return Ok(end.map(|end| (body, at + line + end + 4)));
        }
        let Some(chunk) = rest.get(start..end).filter(|_| rest.len() >= end + 2) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        at += end + 2;
    }
}

/// TLS with what this machine trusts.
fn connector() -> TlsConnector {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // A certificate of the machine's that cannot be read trusts nobody.
            _ = roots.add(certificate);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default protocol versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    TlsConnector::from(Arc::clone(config))
}
