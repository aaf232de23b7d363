//! Keeping connections, deadlines, encodings, odd heads.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use http::Method;
use oci::client::{Client, ClientError, Redirects, Request};

use super::server::{Answer, Server, answer, ok};
use super::{config, get, named, text};

#[tokio::test]
async fn a_connection_is_kept_and_replaced_when_it_died() {
    let count = AtomicUsize::new(0);
    let server = Server::plain(move |_| {
        // The third answer is followed by the end of the connection.
        let close = count.fetch_add(1, Ordering::SeqCst) == 2;
        Answer { close, ..ok("x") }
    })
    .await;
    let client = Client::new(config());
    let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
    for _ in 0..3 {
        assert_eq!(text(get(&client, &endpoint, "/").await).await, "x");
    }
    assert_eq!(server.connections(), 1);
    assert_eq!(text(get(&client, &endpoint, "/").await).await, "x");
    assert_eq!(server.connections(), 2);
    // Another endpoint, even of the same host, shares nothing.
    let other = client.endpoint(&server.url("http"), named(&[])).unwrap();
    assert_eq!(text(get(&client, &other, "/").await).await, "x");
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_head_keeps_its_connection_and_a_dropped_body_does_not() {
    let server = Server::plain(|head| {
        if head.starts_with("HEAD") {
            let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
            return Answer {
                bytes,
                close: false,
            };
        }
        ok(&"x".repeat(100_000))
    })
    .await;
    let client = Client::new(config());
    let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
    for _ in 0..2 {
        let request = Request {
            endpoint: &endpoint,
            method: Method::HEAD,
            url: endpoint.url("/").unwrap(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            also_allowed: None,
            redirects: Redirects::Follow,
        };
        let response = client.send(request).await.unwrap();
        assert_eq!(response.headers["content-length"], "1000");
        assert_eq!(response.body.length(), Some(0));
    }
    assert_eq!(server.connections(), 1);
    let mut body = get(&client, &endpoint, "/").await.unwrap().body;
    assert!(body.next().await.unwrap().is_ok());
    drop(body);
    let length = text(get(&client, &endpoint, "/").await).await.len();
    assert_eq!(length, 100_000);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn silence_has_an_end() {
    let server = Server::plain(|head| {
        let bytes = match head.split(' ').nth(1) {
            Some("/body") => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123".to_vec(),
            _ => Vec::new(),
        };
        Answer {
            bytes,
            close: false,
        }
    })
    .await;
    let client = Client::new(config());
    let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
    let error = get(&client, &endpoint, "/head").await.unwrap_err();
    assert!(matches!(error, ClientError::Stalled { .. }), "{error}");
    let mut body = get(&client, &endpoint, "/body").await.unwrap().body;
    assert_eq!(body.next().await.unwrap().unwrap(), "123");
    let error = body.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Stalled { .. }), "{error}");
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn identity_is_asked_for_and_anything_else_refused() {
    let server = Server::plain(|head| {
        let status = match head.split(' ').nth(1) {
            Some("/good") => "200 OK",
            _ => "404 Not Found",
        };
        answer(status, "Content-Encoding: gzip\r\n", "\x1f\x0b")
    })
    .await;
    let client = Client::new(config());
    let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
    let error = get(&client, &endpoint, "/good").await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid { .. }), "{error}");
    let missing = get(&client, &endpoint, "/missing").await.unwrap();
    assert_eq!(missing.status, 404);
    assert_eq!(missing.body.length(), Some(0));
    let head = &server.heads()[0].to_ascii_lowercase();
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: darner/"), "{head}");
}

#[tokio::test]
async fn heads_have_a_limit() {
    let server = Server::plain(|head| match head.split(' ').nth(1) {
        Some("/many") => answer("200 OK", &"X-Header: y\r\n".repeat(1000), ""),
        _ => answer(
            "200 OK",
            &format!("X-Header: {}\r\n", "y".repeat(200_000)),
            "",
        ),
    })
    .await;
    let client = Client::new(config());
    let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
    for path in ["/many", "/long"] {
        let error = get(&client, &endpoint, path).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Unreachable { .. }),
            "{path}: {error}"
        );
    }
}

#[tokio::test]
async fn a_body_is_collected_up_to_a_limit() {
    let server = Server::plain(|head| match head.split(' ').nth(1) {
        Some("/chunked") => {
            let body = "4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n";
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let bytes = format!("{head}{body}").into();
            Answer {
                bytes,
                close: false,
            }
        }
        _ => ok("0123456789"),
    })
    .await;
    let client = Client::new(config());
    let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
    for path in ["/", "/chunked"] {
        let collect = async |max| {
            let response = get(&client, &endpoint, path).await.unwrap();
            response.body.collect(max).await.unwrap()
        };
        assert_eq!(collect(10).await.as_deref(), Some(&b"0123456789"[..]));
        assert_eq!(collect(9).await, None);
    }
}
