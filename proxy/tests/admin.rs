//! The admin port on a real socket.
#![expect(clippy::unwrap_used, reason = "a failed test says where")]

use std::net::SocketAddr;
use std::sync::Arc;

use proxy::admin::{About, Pages, Status};
use proxy::metrics::Metrics;
use swarm::{EngineStats, Usage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

async fn admin() -> (SocketAddr, Arc<Metrics>, DropGuard) {
    let usage = Usage {
        held_bytes: 42,
        ..Usage::default()
    };
    let metrics = Metrics::new(Box::new(move || (usage, EngineStats::default())));
    let listener = proxy::http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let about = About {
        version: "1.2.3".into(),
        listen: vec!["127.0.0.1:65001".parse().unwrap()],
        registries: vec!["docker.io".into()],
    };
    let pages = Pages::new(about, metrics.clone());
    let shutdown = CancellationToken::new();
    let run = proxy::admin::run(listener, pages, shutdown.clone());
    tokio::spawn(run);
    (address, metrics, shutdown.drop_guard())
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn every_page_is_there_and_others_are_not() {
    let (address, metrics, _guard) = admin().await;
    let (head, body) = ask(address, "GET", "/metrics").await;
    assert!(
        head.contains("content-type: application/openmetrics-text"),
        "{head}"
    );
    assert!(body.contains("darner_store_held_bytes 42\n"), "{body}");
    assert!(
        ask(address, "GET", "/livez")
            .await
            .0
            .starts_with("http/1.1 200 ")
    );
    assert!(
        ask(address, "GET", "/readyz")
            .await
            .0
            .starts_with("http/1.1 503 ")
    );
    metrics.set_ready(true);
    assert!(
        ask(address, "GET", "/readyz")
            .await
            .0
            .starts_with("http/1.1 200 ")
    );
    let (head, body) = ask(address, "GET", "/v2/").await;
    assert!(
        head.starts_with("http/1.1 404 ") && body.contains("hint: "),
        "{head} {body}"
    );
}

#[tokio::test]
async fn the_status_can_be_read_back() {
    let (address, metrics, _guard) = admin().await;
    metrics.pulled("quay.io", "org/app", "sha256:0");
    let (head, body) = ask(address, "GET", "/status").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(status.about.version, "1.2.3");
    assert_eq!(status.counts.store.held_bytes, 42);
    let last = status.counts.last_pull.unwrap();
    assert_eq!(last.image(), "quay.io/org/app@sha256:0");
}

#[tokio::test]
async fn it_is_read_only() {
    let (address, _metrics, _guard) = admin().await;
    let (head, body) = ask(address, "HEAD", "/metrics").await;
    assert!(head.starts_with("http/1.1 200 ") && body.is_empty());
    assert!(!head.contains("content-length: 0"), "{head}");
    let (head, _) = ask(address, "DELETE", "/status").await;
    assert!(
        head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"),
        "{head}"
    );
}
