//! What a node makes of other nodes' answers: right ones, wrong ones, none.

use oci::Digest;
use swarm::{Fault, FetchRange, Origin, PeerId, PeerMaker as _, PieceSource};

use crate::rig::{GivingNode, Liar, PIECE, body, content, get, peer_at, within};

fn any() -> Digest {
    Digest::sha256(b"any")
}

async fn fault_of(answer: &str, closes: bool) -> Fault {
    let liar = Liar::start(answer, closes).await;
    let peer = peer_at(liar.address, Origin::Peer);
    get(&*peer, &any(), 4..8).await.unwrap_err().fault
}

fn part(range: &str, length: usize, sent: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {range}\r\n\
         content-length: {length}\r\n\r\n{sent}"
    )
}

#[tokio::test]
async fn answers_that_are_not_what_was_asked_are_wrong() {
    for answer in [
        part("0-3/9", 4, "abcd"),
        part("4-8/9", 5, "abcde"),
        part("4-7/9", 5, "abcde"),
        part("4-7/9", 4, "abcdefgh"),
        part("4-7/*", 4, "abcd"),
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd".to_owned(),
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 4\r\n\r\nabcd".to_owned(),
        "SSH-2.0-OpenSSH\r\n".to_owned(),
    ] {
        let fault = fault_of(&answer, false).await;
        assert!(matches!(fault, Fault::Wrong(_)), "{answer}: {fault}");
    }
}

#[tokio::test]
async fn what_comes_after_a_body_is_nobodys() {
    // More than the first read takes: the rest stays on the wire and must not pass for an answer.
    let (length, more) = (200 << 10, "x".repeat(300 << 10));
    let head = format!("0-{}/999999", length - 1);
    let liar = Liar::start(part(&head, length, &more), false).await;
    let peer = peer_at(liar.address, Origin::Peer);
    let first = get(&*peer, &any(), 0..length as u64).await.unwrap();
    assert_eq!(first.len(), length);
    let fault = get(&*peer, &any(), 0..length as u64)
        .await
        .unwrap_err()
        .fault;
    assert!(matches!(fault, Fault::Wrong(_)), "{fault}");
}

#[tokio::test]
async fn who_breaks_off_or_is_not_there_is_unavailable() {
    for (answer, closes) in [
        (part("4-7/9", 4, "ab"), true),
        ("HTTP/1.1 206 Partial".to_owned(), true),
        (
            "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (
            "HTTP/1.1 429 Busy\r\ncontent-length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (String::new(), true),
        // Never answers: the deadline of the head.
        (String::new(), false),
    ] {
        let fault = fault_of(&answer, closes).await;
        assert!(matches!(fault, Fault::Unavailable(_)), "{answer}: {fault}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let refused = get(&*peer_at(address, Origin::Peer), &any(), 0..4).await;
    assert!(matches!(refused.unwrap_err().fault, Fault::Unavailable(_)));
}

#[tokio::test]
async fn a_body_in_drops_is_passed_on_as_it_comes() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = peer_at(listener.local_addr().unwrap(), Origin::Peer);
    let (more, mut wanted) = tokio::sync::mpsc::channel::<()>(1);
    let slow = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(socket.read(&mut head).await.unwrap() > 0);
        let head = part("0-99999/100000", 100_000, "first");
        socket.write_all(head.as_bytes()).await.unwrap();
        // The rest only after the beginning has arrived as a frame of its own.
        wanted.recv().await.unwrap();
        socket.write_all(&[7; 99_995]).await.unwrap();
    };
    let taking = async {
        use futures_util::StreamExt as _;
        let digest = any();
        let fetched = peer.fetch(&digest, FetchRange::Span(0..100_000));
        let mut fetched = within(fetched).await.unwrap();
        let first = within(fetched.body.next()).await.unwrap().unwrap();
        assert_eq!(first, "first");
        more.send(()).await.unwrap();
        let (rest, _) = body(fetched).await.unwrap();
        assert_eq!(rest.len(), 99_995);
    };
    within(async { tokio::join!(slow, taking) }).await;
}

#[tokio::test]
async fn a_connection_that_died_idle_is_replaced_without_a_fault() {
    // Closes after each answer without saying so, as a restarted node has.
    let liar = Liar::start(part("4-7/9", 4, "abcd"), true).await;
    let peer = peer_at(liar.address, Origin::Peer);
    for _ in 0..5 {
        assert_eq!(get(&*peer, &any(), 4..8).await.unwrap(), "abcd");
    }
}

#[tokio::test]
async fn many_requests_at_once_have_a_connection_each_and_keep_it() {
    let node = GivingNode::start();
    let blob = content(8 * PIECE as usize, 8);
    let digest = node.share(&blob);
    let peer = node.peer();
    for _ in 0..3 {
        let pieces = (0..8).map(|piece| {
            let (peer, digest) = (peer.clone(), &digest);
            async move { get(&*peer, digest, piece * PIECE..(piece + 1) * PIECE).await }
        });
        let pieces = futures_util::future::join_all(pieces).await;
        let pieces: Vec<_> = pieces.into_iter().map(Result::unwrap).collect();
        assert!(pieces.concat() == blob);
    }
    assert!(node.count(|it| &it.accepted) <= 8);
    node.stop().await;
}

#[tokio::test]
async fn what_lies_beyond_the_end_is_said_to() {
    let node = GivingNode::start();
    let digest = node.share(&content(1000, 9));
    let peer = node.peer();
    let refused = get(&*peer, &digest, 1000..1001).await.unwrap_err();
    assert_eq!(refused.fault, Fault::Unsatisfiable { total: 1000 });
    let last = within(peer.fetch(&digest, FetchRange::Last(10)));
    assert_eq!(last.await.unwrap().start, 990);
    node.stop().await;
}

#[tokio::test]
async fn a_peer_has_the_name_and_the_origin_it_was_made_with() {
    let id = PeerId("n1".into());
    let peer = proxy::peers::Peers::default().peer(id.clone(), Origin::Supernode, "host:1");
    assert_eq!(peer.id(), &id);
    assert_eq!(peer.piece_source(3).origin(), Origin::Supernode);
    assert_eq!(PieceSource::name(&*peer), "host:1");
}

/// Set by the test below for itself: variables of a process are not a thing to change at run time.
const CHILD: &str = "DARNER_TEST_BEHIND_A_PROXY";

#[test]
fn forward_proxies_do_not_apply_to_peers() {
    if std::env::var_os(CHILD).is_some() {
        return behind_a_proxy();
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        // Nobody listens there: whatever takes this way fails.
        child.env(name, "http://127.0.0.1:1");
    }
    child.env_remove("no_proxy").env_remove("NO_PROXY");
    let test = "taking::forward_proxies_do_not_apply_to_peers";
    let run = child.env(CHILD, "1").args(["--exact", test]).output();
    let run = run.unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::main]
async fn behind_a_proxy() {
    let node = GivingNode::start();
    let digest = node.share(&content(1000, 10));
    let piece = get(&*node.peer(), &digest, 0..1000).await.unwrap();
    assert_eq!(piece.len(), 1000);
    node.stop().await;
}
