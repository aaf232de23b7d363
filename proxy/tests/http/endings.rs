//! How connections end: by FIN after all that was written, whoever ends them.

use std::time::Duration;

use proxy::http::Limits;
use tokio::io::AsyncWriteExt as _;

use super::rig::{CUT_AT, DEADLINE, End, Rig, content_length, until};

#[tokio::test]
async fn a_response_given_up_keeps_what_came_before_and_ends_with_fin() {
    let rig = Rig::start(Limits::default()).await;
    for path in ["/cut", "/short"] {
        let mut client = rig.connect().await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        let head = client.head().await;
        let (body, end) = client.rest().await;
        assert!(content_length(&head) > CUT_AT);
        assert_eq!((body.len(), end), (CUT_AT, End::Fin), "{path}");
        assert!(body == rig.blob.content[..CUT_AT]);
    }
}

#[tokio::test]
async fn unread_input_does_not_turn_fin_into_reset() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client.send("GET /cut HTTP/1.1\r\nhost: x\r\n\r\n").await;
    // More than the server reads ahead, sent before it gives up, and then some more.
    let many = "GET /small HTTP/1.1\r\nhost: x\r\n\r\n".repeat(10_000);
    client.send(&many).await;
    client.head().await;
    let (body, end) = client.rest().await;
    assert_eq!((body.len(), end), (CUT_AT, End::Fin));
}

#[tokio::test]
async fn a_tls_hello_is_answered_in_plain_words() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(517, 0x5a);
    client.send(&hello).await;
    let (answer, end) = client.rest().await;
    assert!(
        answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"),
        "{answer:?}"
    );
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn a_stuck_client_is_let_go() {
    let limits = Limits {
        write_idle_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let rig = Rig::start(limits).await;
    let mut client = rig.connect().await;
    // More than the socket buffers of both sides hold.
    let request = "GET /blob HTTP/1.1\r\nhost: x\r\n\r\n";
    client.send(request.repeat(8)).await;
    until("served", || rig.count(|it| &it.sendfile_bytes) > 0).await;
    until("cut", || rig.count(|it| &it.in_flight) == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let rig = Rig::start(limits).await;
    let mut client = rig.connect().await;
    client.get("/small").await;
    assert_eq!(client.rest().await, (vec![], End::Fin));
}

#[tokio::test]
async fn a_slow_head_is_timed_out() {
    let limits = Limits {
        head_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let rig = Rig::start(limits).await;
    let mut client = rig.connect().await;
    client.send("GET /small HTTP/1.1\r\nhos").await;
    let (answer, end) = client.rest().await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn shutdown_lets_responses_finish_and_closes_the_idle() {
    let rig = Rig::start(Limits::default()).await;
    let mut idle = rig.connect().await;
    idle.get("/small").await;
    let mut busy = rig.connect().await;
    busy.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n").await;
    busy.head().await;
    rig.shutdown.cancel();
    assert_eq!(idle.rest().await, (vec![], End::Fin));
    rig.blob.gate.notify_one();
    let (body, end) = busy.rest().await;
    assert!(body == rig.blob.content);
    assert_eq!(end, End::Fin);
    drop((idle, busy));
    tokio::time::timeout(DEADLINE, rig.server)
        .await
        .unwrap()
        .unwrap();
    assert!(tokio::net::TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let limits = Limits {
        drain: Duration::from_millis(200),
        ..Limits::default()
    };
    let rig = Rig::start(limits).await;
    let mut busy = rig.connect().await;
    busy.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n").await;
    busy.head().await;
    rig.shutdown.cancel();
    tokio::time::timeout(DEADLINE, rig.server)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_panic_ends_one_connection() {
    let rig = Rig::start(Limits::default()).await;
    let mut unlucky = rig.connect().await;
    unlucky.send("GET /panic HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(unlucky.rest().await.0, b"");
    assert_eq!(rig.connect().await.get("/small").await.1, b"small");
    until("let go", || rig.count(|it| &it.in_flight) == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_response() {
    let rig = Rig::start(Limits::default()).await;
    let mut client = rig.connect().await;
    client.send("GET /gated HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.head().await;
    client.socket.shutdown().await.unwrap();
    drop(client);
    until("noticed", || rig.count(|it| &it.open) == 0).await;
}
