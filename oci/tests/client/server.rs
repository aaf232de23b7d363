//! A server that writes what the test says, over plain TCP or TLS, and remembers what it was sent.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use rcgen::{CertifiedIssuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What to write for a request's head, and whether the connection ends then.
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) close: bool,
}

/// An answer with this status line's rest, headers and body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer {
        bytes: format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .into(),
        close: false,
    }
}

pub(crate) fn ok(body: &str) -> Answer {
    answer("200 OK", "", body)
}

pub(crate) fn redirect(to: &str) -> Answer {
    answer("307 Temporary Redirect", &format!("Location: {to}\r\n"), "")
}

type Script = dyn Fn(&str) -> Answer + Send + Sync;

/// Runs until it is dropped.
pub(crate) struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<(usize, String)>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn plain(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(script)).await
    }

    pub(crate) async fn tls(
        authority: &Authority,
        script: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(authority.acceptor()), Arc::new(script)).await
    }

    async fn start(tls: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let seen = heads.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, seen, tls) = (script.clone(), seen.clone(), tls.clone());
                connections.spawn(async move {
                    let head = |head: &str| {
                        seen.lock().unwrap().push((number, head.to_owned()));
                        script(head)
                    };
                    match tls {
                        None => serve(stream, head).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, head).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            port,
            heads,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Request heads so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|(_, head)| head.clone()).collect()
    }

    /// Over how many connections they came.
    pub(crate) fn connections(&self) -> usize {
        let heads = self.heads.lock().unwrap();
        let numbers: std::collections::HashSet<_> = heads.iter().map(|(n, _)| *n).collect();
        numbers.len()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: impl Fn(&str) -> Answer) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let answer = script(&String::from_utf8(head).unwrap());
        if stream.write_all(&answer.bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if answer.close {
            drop(stream.shutdown().await);
            return;
        }
    }
}

/// A forward proxy's tunnel: answers CONNECT and joins both ends.
pub(crate) async fn tunnel_proxy(heads: Arc<Mutex<Vec<String>>>) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let heads = heads.clone();
            connections.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                heads.lock().unwrap().push(head);
                let mut to = TcpStream::connect(target).await.unwrap();
                let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
                stream.write_all(established).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut stream, &mut to).await);
            });
        }
    });
    (port, tasks)
}

/// A certificate authority with one certificate for 127.0.0.1 and localhost.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let parameters = rcgen::CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
