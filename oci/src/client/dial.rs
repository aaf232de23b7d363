//! From an origin to a byte stream: resolve, check, dial the checked address, wrap in TLS.
//!
//! Through a forward proxy (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`) the name is resolved by the
//! proxy, so only what is written in the URL can be checked; the proxy's own address is the
//! operator's word. Not here: pooling.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::endpoint::{HostPort, Policy, UrlOrigin};
use super::error::{ClientError, chain};

/// How long one address is given before the next is tried beside it (RFC 8305 names 250 ms).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Longest answer to CONNECT that is read before giving up.
const CONNECT_HEAD_MAX: usize = 16 * 1024;

/// Turns names into addresses.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host, in the order of preference.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver (`getaddrinfo`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A connected byte stream, plain or TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

/// A dialled connection and how requests must be written on it.
pub(super) struct Dialled {
    pub(super) socket: Box<dyn Socket>,
    /// Requests carry the absolute URL, and this header if the proxy wants it.
    pub(super) via_proxy: Option<Option<HeaderValue>>,
}

/// Makes connections.
pub(super) struct Dialler {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) proxies: Matcher,
    pub(super) deadline: Duration,
}

impl Dialler {
    /// A connection for `url` under a policy, within the connect deadline.
    pub(super) async fn dial(
        &self,
        policy: Policy<'_>,
        url: &Uri,
        origin: &UrlOrigin,
    ) -> Result<Dialled, ClientError> {
        let dialling = async {
            match self.proxies.intercept(url) {
                Some(proxy) => self.through(proxy, policy, origin).await,
                None => self.straight(policy, origin).await,
            }
        };
        tokio::time::timeout(self.deadline, dialling)
            .await
            .unwrap_or_else(|_| Err(ClientError::stalled(&origin.at, "connecting")))
    }

    async fn straight(
        &self,
        policy: Policy<'_>,
        origin: &UrlOrigin,
    ) -> Result<Dialled, ClientError> {
        let found = self.addresses(&origin.at).await?;
        let named = policy.named(&origin.at);
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match named.allows(address) {
                Ok(()) => allowed.push(SocketAddr::new(address, origin.at.port)),
                Err(class) => refused = Some((address, class)),
            }
        }
        if let (true, Some((address, class))) = (allowed.is_empty(), refused) {
            let why = format!(
                "{address} is a {} address; if it is meant, name {} as the registry's endpoint or \
                 in its `allowed-hosts`",
                class.describe(),
                origin.at
            );
            return Err(ClientError::refused(&origin.at, why));
        }
        let socket = self.connect(&origin.at, &allowed).await?;
        let socket = if origin.tls {
            handshake(policy.tls_for(&origin.at), &origin.at, socket).await?
        } else {
            socket
        };
        Ok(Dialled {
            socket,
            via_proxy: None,
        })
    }

    async fn through(
        &self,
        proxy: hyper_util::client::proxy::matcher::Intercept,
        policy: Policy<'_>,
        origin: &UrlOrigin,
    ) -> Result<Dialled, ClientError> {
        let literal = match origin.at.host.as_str() {
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            _ => origin.at.address(),
        };
        if let Some(address) = literal
            && let Err(class) = policy.named(&origin.at).allows(address)
        {
            let why = format!("{address} is a {} address", class.describe());
            return Err(ClientError::refused(&origin.at, why));
        }
        let at = UrlOrigin::of(proxy.uri()).map_err(|_| {
            ClientError::unreachable(
                &origin.at,
                "only http:// and https:// proxies are supported",
            )
        })?;
        let addresses: Vec<_> = self
            .addresses(&at.at)
            .await?
            .into_iter()
            .map(|address| SocketAddr::new(address, at.at.port))
            .collect();
        let mut socket = self.connect(&at.at, &addresses).await?;
        if at.tls {
            socket = handshake(policy.endpoint.tls.clone(), &at.at, socket).await?;
        }
        if !origin.tls {
            return Ok(Dialled {
                socket,
                via_proxy: Some(proxy.basic_auth().cloned()),
            });
        }
        tunnel(&mut socket, &at.at, &origin.at, proxy.basic_auth()).await?;
        let socket = handshake(policy.tls_for(&origin.at), &origin.at, socket).await?;
        Ok(Dialled {
            socket,
            via_proxy: None,
        })
    }

    async fn addresses(&self, at: &HostPort) -> Result<Vec<IpAddr>, ClientError> {
        if let Some(address) = at.address() {
            return Ok(vec![address]);
        }
        let found = self.resolver.resolve(&at.host).await;
        let found = found.map_err(|e| ClientError::unreachable(at, format!("no address: {e}")))?;
        if found.is_empty() {
            return Err(ClientError::unreachable(at, "no address"));
        }
        Ok(found)
    }

    async fn connect(
        &self,
        at: &HostPort,
        addresses: &[SocketAddr],
    ) -> Result<Box<dyn Socket>, ClientError> {
        let stream = first_to_connect(addresses)
            .await
            .map_err(|e| ClientError::unreachable(at, e))?;
        // Requests are one write; without this a kept-alive one could wait for an old ACK.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        Ok(Box::new(stream))
    }
}

/// Tries addresses in order, each joined by the next one when it is slow; the first wins.
async fn first_to_connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(TcpStream::connect(*address));
        } else if attempts.is_empty() {
            return Err(last);
        }
        let outcome = if waiting.as_slice().is_empty() {
            attempts.next().await
        } else {
            match tokio::time::timeout(NEXT_ADDRESS_AFTER, attempts.next()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            }
        };
        match outcome {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last = error,
            None => return Err(last),
        }
    }
}

async fn handshake(
    config: Arc<rustls::ClientConfig>,
    at: &HostPort,
    socket: Box<dyn Socket>,
) -> Result<Box<dyn Socket>, ClientError> {
    let name = ServerName::try_from(at.host.clone())
        .map_err(|_| ClientError::refused(at, "not a name that a certificate can have"))?;
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(name, socket)
        .await
        .map_err(|e| ClientError::unreachable(at, format!("TLS: {}", chain(&e))))?;
    Ok(Box::new(stream))
}

/// CONNECT (RFC 9110, 9.3.6), by hand since hyper would keep the socket.
async fn tunnel(
    socket: &mut Box<dyn Socket>,
    proxy: &HostPort,
    target: &HostPort,
    auth: Option<&HeaderValue>,
) -> Result<(), ClientError> {
    let failed = |why: &str| ClientError::unreachable(target, format!("proxy {proxy}: {why}"));
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(auth) = auth {
        head.extend_from_slice(b"Proxy-Authorization: ");
        head.extend_from_slice(auth.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let written = socket.write_all(&head).await;
    written.map_err(|e| failed(&e.to_string()))?;

    // One byte at a time from the kernel's buffer: the first byte after the head belongs to TLS.
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = socket.read_u8().await.map_err(|e| failed(&e.to_string()))?;
        answer.push(byte);
        if answer.len() > CONNECT_HEAD_MAX {
            return Err(failed("its answer to CONNECT is too long"));
        }
    }
    let status = answer.split(|b| *b == b' ').nth(1).unwrap_or_default();
    if answer.starts_with(b"HTTP/1.") && status.first() == Some(&b'2') {
        return Ok(());
    }
    let status = String::from_utf8_lossy(&status[..status.len().min(3)]);
    Err(failed(&format!("it answered CONNECT with {status}")))
}
