//! Bodies on their way: at the pace of the slower side, wanted or not, and broken off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oci_conformance::origin::{Outcome, content, sha256};
use oci_conformance::{Ask, Fault, Gate, Origin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{UPLOADS, and, ask, location, post, put_manifest};
use crate::rig::{Node, REPOSITORY, is_error, manifest_path};

/// No wait is longer: then it is for something that does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection on which a test says every byte.
struct Talk(TcpStream);

impl Talk {
    async fn begin(addr: SocketAddr, method: &str, target: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: node\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// The next head, and not a byte more.
    async fn head(&mut self) -> String {
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await.unwrap());
            }
            String::from_utf8(head).unwrap()
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("a head")
    }
}

async fn session(node: &Node) -> String {
    location(&post(node, UPLOADS).await)
}

#[tokio::test]
async fn a_body_waits_for_the_registry_and_is_not_gathered() {
    const STEP: u64 = 1 << 20;
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let to = session(&node).await;
    let gate = Gate::closed();
    let patches = || Ask::uploads().method("PATCH");
    origin.when(patches()).answer(Fault::PaceBody(gate.clone()));
    let length = format!("Content-Length: {}\r\n", 1 << 30);
    let mut talk = Talk::begin(node.addr, "PATCH", &to, &length).await;
    let given = Arc::new(AtomicU64::new(0));
    let counted = given.clone();
    let client = tokio::spawn(async move {
        let chunk = content(1, 64 << 10);
        loop {
            talk.0.write_all(&chunk).await.unwrap();
            counted.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        }
    });
    let seen = origin.wait_for(1, patches()).await.remove(0);
    for step in 1..=32 {
        gate.allow(step * STEP);
        seen.received(step * STEP).await;
        let given = given.load(Ordering::SeqCst);
        let ahead = given.saturating_sub(seen.received_bytes());
        // What the kernel keeps of two loopback connections, and little more.
        assert!(ahead < 48 << 20, "{ahead} bytes are somewhere between");
    }
    // The client leaves, and with it the registry's request.
    client.abort();
    gate.open();
    assert_eq!(seen.ended().await, Outcome::ClientLeft);
    node.stop().await;
}

#[tokio::test]
async fn an_answer_before_the_body_s_end_reaches_the_client() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let to = session(&node).await;
    for (fault, status) in [(Fault::Status(413), 413), (Fault::Status(500), 502)] {
        origin.behave();
        let patches = Ask::uploads().method("PATCH");
        origin.when(patches).answer_all([Fault::Early, fault]);
        // A gibibyte is announced, and this much of it comes.
        let request = ask(node.addr, "PATCH", &to).header("Content-Length", "1073741824");
        let answer = request.send().await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (status, Some("close"))
        );
    }
    origin.behave();
    origin.require_basic();
    let request = ask(node.addr, "PATCH", &to).header("Content-Length", "1073741824");
    let answer = request.send().await;
    is_error(&answer, 401, "UNAUTHORIZED");
    assert!(answer.header("www-authenticate").is_some());
    node.stop().await;
}

#[tokio::test]
async fn leave_to_continue_comes_from_the_registry() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let digest = sha256(b"hello");
    let target = format!("{UPLOADS}?digest={digest}");
    let headers = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let mut talk = Talk::begin(node.addr, "POST", &target, headers).await;
    assert_eq!(talk.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    talk.0.write_all(b"hello").await.unwrap();
    let head = talk.head().await;
    assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    assert!(origin.blob(REPOSITORY, &digest).is_some());
    assert_eq!(
        origin.seen(Ask::uploads())[0].header("expect"),
        Some("100-continue")
    );
    // One that refuses does so although the body never comes.
    origin.require_basic();
    let mut talk = Talk::begin(node.addr, "POST", &target, headers).await;
    let mut head = talk.head().await;
    if head.starts_with("HTTP/1.1 100") {
        head = talk.head().await;
    }
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_registry_s_request() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let to = session(&node).await;
    for (number, headers) in [
        "Content-Length: 1000000\r\n",
        "Transfer-Encoding: chunked\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut talk = Talk::begin(node.addr, "PATCH", &to, headers).await;
        let part = match number {
            0 => "x".repeat(1000),
            _ => format!("3e8\r\n{}\r\n", "x".repeat(1000)),
        };
        talk.0.write_all(part.as_bytes()).await.unwrap();
        let seen = origin
            .wait_for(number + 1, Ask::uploads().method("PATCH"))
            .await
            .remove(number);
        seen.received(1000).await;
        drop(talk);
        assert_eq!(seen.ended().await, Outcome::ClientLeft);
    }
    // While the registry makes up its mind, too.
    let gate = Gate::closed();
    let puts = || Ask::manifest("x").method("PUT");
    origin.when(puts()).answer(Fault::HoldHead(gate));
    let talk = Talk::begin(
        node.addr,
        "PUT",
        &manifest_path("x"),
        "Content-Length: 0\r\n",
    )
    .await;
    let seen = origin.wait_for(1, puts()).await.remove(0);
    drop(talk);
    assert_eq!(seen.ended().await, Outcome::ClientLeft);
    node.stop().await;
}

#[tokio::test]
async fn a_registry_that_breaks_off_is_told() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let bytes = content(2, 2_000_000);
    let to = session(&node).await;
    let puts = Ask::uploads().method("PUT");
    origin
        .when(puts)
        .once()
        .answer_all([Fault::Early, Fault::Reset]);
    let digest = sha256(&bytes);
    let end = and(&to, &format!("digest={digest}"));
    let request = ask(node.addr, "PUT", &end).header("Content-Length", "2000000");
    is_error(&request.send().await, 502, "UNAVAILABLE");
    // The upload is still there.
    assert_eq!(
        ask(node.addr, "PUT", &end).body(&bytes).send().await.status,
        201
    );
    node.stop().await;
}

#[tokio::test]
async fn a_connection_is_used_for_many_writes() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let config = origin.push_blob(REPOSITORY, "{}");
    let bytes = crate::client::manifest(&config, 2, "");
    let mut socket = TcpStream::connect(node.addr).await.unwrap();
    for number in 0..20 {
        let path = manifest_path(&format!("t{number}"));
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: node\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            crate::client::MANIFEST,
            bytes.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(bytes.as_bytes()).await.unwrap();
        let mut talk = Talk(socket);
        let answer = talk.head().await;
        assert!(
            answer.starts_with("HTTP/1.1 201") && !answer.contains("close"),
            "{answer}"
        );
        socket = talk.0;
    }
    drop(socket);
    // A connection that upstream has closed meanwhile is no failure.
    origin.stop().await;
    origin.start_again().await;
    let made = put_manifest(&node, &manifest_path("last"), &bytes).await;
    assert_eq!(made.status, 201, "{}", made.text());
    node.stop().await;
}
