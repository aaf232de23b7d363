//! Which way the bytes leave, and that they are the right ones.

use std::sync::Arc;

use proxy::http::Limits;

use super::rig::{BLOB_BYTES, Rig, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_leave_by_sendfile_only_and_whole() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    for round in 1..=3_u64 {
        let (head, body) = client.get("/blob").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(body == rig.blob.content, "wrong bytes in round {round}");
        assert_eq!(
            rig.count(|it| &it.sendfile_bytes),
            round * BLOB_BYTES as u64
        );
        assert!(rig.count(|it| &it.memory_bytes) < round * 300);
    }
}

#[tokio::test]
async fn a_part_of_a_file_is_that_part() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    let (_, body) = client.get("/middle").await;
    assert!(body == rig.blob.content[4_097..3_000_001]);
    let (_, body) = client.get("/small").await;
    assert_eq!(body, b"small");
}

#[tokio::test]
async fn an_idle_connection_holds_no_file() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client.get("/blob").await;
    until("the file is released", || {
        Arc::strong_count(&rig.blob.file) == 1
    })
    .await;
    let (_, body) = client.get("/small").await;
    assert_eq!(body, b"small");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    let one = |path| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    client
        .send(one("/small") + &one("/middle") + &one("/small") + &one("/blob"))
        .await;
    assert_eq!(client.response().await.1, b"small");
    assert!(client.response().await.1 == rig.blob.content[4_097..3_000_001]);
    assert_eq!(client.response().await.1, b"small");
    assert!(client.response().await.1 == rig.blob.content);
}

#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client.send("HEAD /blob HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = client.head().await;
    assert!(
        head.contains(&format!("content-length: {BLOB_BYTES}\r\n")),
        "{head}"
    );
    assert_eq!(client.get("/small").await.1, b"small");
}

#[tokio::test]
async fn targets_and_versions_that_clients_use() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client
        .send("GET http://[::1]:65001/small HTTP/1.1\r\nhost: [::1]:65001\r\n\r\n")
        .await;
    assert_eq!(client.response().await.1, b"small");
    client
        .send("GET /small HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let (head, body) = client.response().await;
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert_eq!(body, b"small");
    assert_eq!(client.rest().await.0, b"");

    let mut client = rig.connect().await;
    client.send("GET /small HTTP/1.0\r\n\r\n").await;
    let (all, _) = client.rest().await;
    assert!(all.ends_with(b"\r\n\r\nsmall"));
}

#[tokio::test]
async fn a_slow_request_head_survives_parking() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    for part in [
        "GET /sm",
        "all HTTP/1.1\r\nho",
        "st: x\r\n",
        "\r\nGET /small",
        " HTTP/1.1\r\n\r\n",
    ] {
        client.send(part).await;
        // The pace of a slow client: longer than the server keeps an idle connection awake.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    assert_eq!(client.response().await.1, b"small");
    assert_eq!(client.response().await.1, b"small");
    until("parked", || rig.count(|it| &it.parked) == 1).await;
    assert_eq!(client.get("/small").await.1, b"small");
}
