//! What is refused, and how many are served.

use proxy::http::Limits;

use super::rig::{End, Rig, until};

async fn refused(request: String) -> String {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client.send(request).await;
    let (answer, end) = client.rest().await;
    assert_eq!(end, End::Fin);
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn heads_have_bounds() {
    let pad = "x".repeat(70 << 10);
    let big = format!("GET /small HTTP/1.1\r\nhost: x\r\npad: {pad}\r\n\r\n");
    assert_eq!(
        refused(big).await,
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let many = "a: b\r\n".repeat(200);
    let many = format!("GET /small HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    assert_eq!(
        refused(many).await,
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(9 << 10));
    assert_eq!(refused(long).await, "HTTP/1.1 414 URI Too Long");
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    for headers in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: -1\r\n",
        "transfer-encoding: gzip\r\n",
        "a: b\r\n folded: c\r\n",
        "bad header: c\r\n",
    ] {
        let rest = "0\r\n\r\nGET /small HTTP/1.1\r\nhost: x\r\n\r\n";
        let request = format!("GET /small HTTP/1.1\r\nhost: x\r\n{headers}\r\n{rest}");
        assert_eq!(
            refused(request).await,
            "HTTP/1.1 400 Bad Request",
            "{headers}"
        );
    }
}

#[tokio::test]
async fn a_body_is_never_the_next_request() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    let inner = "GET /middle HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = inner.len();
    client
        .send(format!(
            "GET /small HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.1, b"small");
    // The pace of a slow client: longer than the server keeps an idle connection awake.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    client.send(inner).await;
    let ended = client.rest().await.0;
    assert_eq!(ended, b"", "the body was answered as a request");
}

#[tokio::test]
async fn idle_connections_make_room() {
    let limits = Limits {
        max_connections: 3,
        ..Limits::default()
    };
    let rig = Rig::start(limits).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = rig.connect().await;
        assert_eq!(client.get("/small").await.1, b"small");
        clients.push(client);
    }
    assert!(rig.count(|it| &it.open) <= 3);
    until("parked or closed", || rig.count(|it| &it.in_flight) == 0).await;
}

#[tokio::test]
async fn a_burst_is_served() {
    let rig = Rig::start(Limits::default()).await;
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(rig.connect().await);
    }
    for client in &mut clients {
        assert_eq!(client.get("/small").await.1, b"small");
    }
    until("all parked", || rig.count(|it| &it.parked) == 300).await;
}
