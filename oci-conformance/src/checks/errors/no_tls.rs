//! A port that answers a TLS greeting with something else, as a misconfigured host does.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::check::Stop;

/// Ends with its drop.
pub(super) struct NoTls {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl NoTls {
    pub(super) async fn start() -> Result<Self, Stop> {
        let no_port = |error| Stop::Skip(format!("no free loopback port: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_port)?;
        let addr = listener.local_addr().map_err(no_port)?;
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // One after the other is enough; whoever leaves has what it wanted.
                _ = stream.read(&mut [0; 1024]).await;
                _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        Ok(Self { addr, task })
    }

    /// `https://127.0.0.1:port` and this path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for NoTls {
    fn drop(&mut self) {
        self.task.abort();
    }
}
