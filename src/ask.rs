//! One small GET to the node on this machine, for `setup` and `status`.
//!
//! Invariant: bounded in time and size, and no connection is left behind. Deliberately not here:
//! TLS, redirects, proxies; registries are asked by the libraries.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A node on this machine answers in milliseconds; one that is stuck shall not stop a person.
const DEADLINE: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens, or the name leads nowhere.
    #[error("{0}")]
    Connect(std::io::Error),
    /// Something listens that does not speak HTTP, or too much of it.
    #[error("not an HTTP answer: {0}")]
    Answer(String),
    /// Nothing came in time.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
}

/// `GET http://authority/path`.
pub(crate) async fn get(authority: &str, path: &str) -> Result<(StatusCode, Bytes), AskError> {
    match tokio::time::timeout(DEADLINE, exchange(authority, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(AskError::Late),
    }
}

async fn exchange(authority: &str, path: &str) -> Result<(StatusCode, Bytes), AskError> {
    let answer = |error: &dyn std::fmt::Display| AskError::Answer(error.to_string());
    let stream = TcpStream::connect(authority)
        .await
        .map_err(AskError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| answer(&error))?;
    let request = Request::get(path)
        .header("host", authority)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| answer(&error))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| answer(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
        let body = body.collect().await.map_err(|error| answer(&error))?;
        Ok((status, body.to_bytes()))
    };
    // The connection is driven here and dropped with this future: nothing is spawned.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        closed = connection => match closed {
            Ok(()) => exchange.await,
            Err(error) => Err(AskError::Answer(error.to_string())),
        },
    }
}
