//! A server with a few fixed answers, and a client that shows what the kernel says.

use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use proxy::http::{Limits, ResponseBody, Traffic};
use swarm::{BlobFile, Slice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; a test that waits so long has failed.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes of the blob that `/blob` answers with: several slices and an odd rest.
pub(super) const BLOB_BYTES: usize = (5 << 20) + 12_345;

/// What `/cut` gives before it gives up, of [`BLOB_BYTES`] announced.
pub(super) const CUT_AT: usize = (3 << 20) + 77;

pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) traffic: Arc<Traffic>,
    pub(super) blob: Arc<Blob>,
    pub(super) shutdown: CancellationToken,
    pub(super) server: JoinHandle<()>,
}

pub(super) struct Blob {
    pub(super) content: Bytes,
    pub(super) file: Arc<BlobFile>,
    /// Lets `/gated` go on after its first half.
    pub(super) gate: Notify,
}

impl Blob {
    fn new() -> Self {
        let content: Vec<u8> = (0..BLOB_BYTES).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        Self {
            content: content.into(),
            file: Arc::new(BlobFile::new(file).unwrap()),
            gate: Notify::new(),
        }
    }

    fn slices(&self, start: usize, end: usize) -> Vec<Slice> {
        let step = 2 << 20;
        (start..end)
            .step_by(step)
            .map(|at| {
                self.file
                    .slice(at as u64..end.min(at + step) as u64)
                    .unwrap()
            })
            .collect()
    }
}

impl Rig {
    pub(super) async fn start(limits: Limits) -> Self {
        let listener = proxy::http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let blob = Arc::new(Blob::new());
        let traffic = Arc::<Traffic>::default();
        let shutdown = CancellationToken::new();
        let service = {
            let blob = Arc::clone(&blob);
            move |request: Request<Incoming>, _| answer(request, Arc::clone(&blob))
        };
        let serving = proxy::http::serve(
            listener,
            service,
            limits,
            Arc::clone(&traffic),
            shutdown.clone(),
        );
        Self {
            address,
            traffic,
            blob,
            shutdown,
            server: tokio::spawn(serving),
        }
    }

    pub(super) async fn connect(&self) -> Client {
        Client {
            socket: TcpStream::connect(self.address).await.unwrap(),
            unread: Vec::new(),
        }
    }

    pub(super) fn count(&self, which: impl Fn(&Traffic) -> &AtomicU64) -> u64 {
        which(&self.traffic).load(Ordering::Relaxed)
    }
}

async fn answer(request: Request<Incoming>, blob: Arc<Blob>) -> Response<ResponseBody> {
    let whole = BLOB_BYTES as u64;
    let body = match request.uri().path() {
        "/small" => ResponseBody::Full(Bytes::from_static(b"small")),
        "/blob" => {
            let slices = blob
                .slices(0, BLOB_BYTES)
                .into_iter()
                .map(Ok::<_, std::io::Error>);
            ResponseBody::slices(stream::iter(slices), whole)
        }
        "/middle" => {
            let slices = blob
                .slices(4_097, 3_000_001)
                .into_iter()
                .map(Ok::<_, std::io::Error>);
            ResponseBody::slices(stream::iter(slices), 3_000_001 - 4_097)
        }
        "/cut" => {
            let slices = blob.slices(0, CUT_AT).into_iter().map(Ok);
            let error = std::io::Error::other("source is gone");
            ResponseBody::slices(stream::iter(slices.chain([Err(error)])), whole)
        }
        "/short" => {
            let slices = blob
                .slices(0, CUT_AT)
                .into_iter()
                .map(Ok::<_, std::io::Error>);
            ResponseBody::slices(stream::iter(slices), whole)
        }
        "/gated" => {
            let half = BLOB_BYTES / 2;
            let first = stream::iter(blob.slices(0, half));
            let rest = blob.slices(half, BLOB_BYTES);
            let gate = async move { blob.gate.notified().await };
            let rest = stream::once(gate).flat_map(move |()| stream::iter(rest.clone()));
            ResponseBody::slices(first.chain(rest).map(Ok::<_, std::io::Error>), whole)
        }
        "/panic" => panic!("asked for"),
        _ => {
            let mut response = Response::new(ResponseBody::Empty);
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    Response::new(body)
}

/// A client of raw bytes.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    unread: Vec<u8>,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
}

impl Client {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn get(&mut self, path: &str) -> (String, Vec<u8>) {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        self.response().await
    }

    /// One response with a Content-Length: its head and its body.
    pub(super) async fn response(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let length = content_length(&head);
        while self.unread.len() < length {
            assert!(self.read().await.unwrap() > 0, "end within a body");
        }
        (head, self.unread.drain(..length).collect())
    }

    pub(super) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|it| it == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.read().await.unwrap() > 0, "end within a head");
        }
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.read().await {
                Ok(0) => return (std::mem::take(&mut self.unread), End::Fin),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return (std::mem::take(&mut self.unread), End::Reset);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        let read = self.socket.read_buf(&mut self.unread);
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("no byte within the deadline")
    }
}

pub(super) fn content_length(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    line.expect("a length").parse().unwrap()
}

/// Waits for `condition`.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, wait).await.is_ok(),
        "never: {what}"
    );
}
