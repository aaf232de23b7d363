//! Request heads that are too large, or that can be read in two ways.

use std::time::Duration;

use crate::check::{Finding, Stop, must};
use crate::client::{Exchange, Response, Trouble};
use crate::stage::Stage;

/// More than any server should take.
const LARGE: usize = 2 << 20;
/// Longest wait for the end of a connection.
const CLOSES: Duration = Duration::from_secs(10);
/// What must not be taken for a request. Nobody has such a repository.
const SMUGGLED: &str = "GET /v2/smuggled/manifests/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

pub(super) async fn too_large(stage: &Stage) -> Finding {
    let long = "x".repeat(LARGE);
    let many: String = (0..LARGE / 16)
        .map(|number| format!("X-{number:07}: yyyy\r\n"))
        .collect();
    for (told, statuses, target, headers) in [
        (
            "one header of 2 MiB",
            &[431][..],
            "/v2/".to_owned(),
            format!("X-Long: {long}\r\n"),
        ),
        ("131,072 headers", &[431], "/v2/".to_owned(), many),
        (
            "a URI of 2 MiB",
            &[414, 431],
            format!("/v2/?{long}"),
            String::new(),
        ),
    ] {
        let host = stage.mirror.site().authority();
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
        let answer = stage.mirror.raw(head.as_bytes()).await;
        match answer {
            Ok(answer) => must!(
                statuses.contains(&answer.status),
                "{told}: {}, not {statuses:?}",
                answer.status
            ),
            Err(trouble) => must!(false, "{told}: {trouble}, not {statuses:?}"),
        }
        serves(stage, told).await?;
    }
    Ok(())
}

/// The next client is answered.
pub(super) async fn serves(stage: &Stage, after: &str) -> Finding {
    let answer = stage.mirror.request("GET", "/v2/").plain().send().await;
    match answer {
        Ok(answer) => {
            let served = answer.status < 500;
            must!(served, "after {after} /v2/ is {}", answer.status);
            Ok(())
        }
        Err(trouble) => Err(Stop::Fail(format!(
            "after {after} /v2/ is not answered: {trouble}"
        ))),
    }
}

pub(super) async fn ambiguous(stage: &Stage) -> Finding {
    for (told, headers, body) in [
        (
            "Content-Length beside chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
        ),
        (
            "chunks beside Content-Length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "0\r\n\r\n",
        ),
        (
            "two lengths",
            "Content-Length: 5\r\nContent-Length: 6",
            "hello",
        ),
        ("two lengths in one", "Content-Length: 5, 6", "hello"),
        ("a length with a sign", "Content-Length: +5", "hello"),
        ("a length that is no number", "Content-Length: 0x5", "hello"),
        ("a folded header", "X-Folded: a\r\n b", ""),
        (
            "a folded Transfer-Encoding",
            "Transfer-Encoding:\r\n chunked",
            "0\r\n\r\n",
        ),
        (
            "a space before the colon",
            "Transfer-Encoding : chunked",
            "0\r\n\r\n",
        ),
        (
            "a coding after chunked",
            "Transfer-Encoding: chunked, identity",
            "0\r\n\r\n",
        ),
    ] {
        let (answers, closed) = said(stage, "GET", headers, body, true).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        // 501 is the answer to a coding that is not known (RFC 9112, 6.1).
        let refused = statuses == [400] || (statuses == [501] && told.contains("coding"));
        must!(refused, "{told}: {statuses:?}, not one 400");
        must!(closed, "{told}: the connection stays open");
    }
    for (told, body) in [
        ("a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-1\r\nhello\r\n0\r\n\r\n"),
        ("a size with a space in it", "5 5\r\nhello\r\n0\r\n\r\n"),
        ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
        (
            "a size beyond 64 bits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        ("no line end after the chunk", "5\r\nhelloXX0\r\n\r\n"),
    ] {
        let (answers, closed) = said(stage, "POST", "Transfer-Encoding: chunked", body, true).await;
        must!(
            answers.len() <= 1,
            "chunks with {told}: {} answers",
            answers.len()
        );
        must!(closed, "chunks with {told}: the connection stays open");
    }
    serves(stage, "them").await
}

pub(super) async fn never_a_request(stage: &Stage) -> Finding {
    let length = format!("Content-Length: {}", SMUGGLED.len());
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    let h2c =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__";
    for (told, headers, body) in [
        ("a GET with a body", length.as_str(), SMUGGLED),
        (
            "a GET with chunks",
            "Transfer-Encoding: chunked",
            chunked.as_str(),
        ),
        ("an Upgrade to h2c", h2c, ""),
        (
            "an Upgrade to websocket",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "",
        ),
        (
            "an Upgrade with a body",
            &format!("Connection: Upgrade\r\nUpgrade: other\r\n{length}"),
            SMUGGLED,
        ),
    ] {
        let (answers, _) = said(stage, "GET", headers, body, false).await;
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        must!(!statuses.contains(&101), "{told}: 101 Switching Protocols");
        // One for itself, one for the request behind it, unless the connection was closed.
        must!((1..=2).contains(&statuses.len()), "{told}: {statuses:?}");
        if let [first, second] = &answers[..] {
            must!(
                first.status == second.status,
                "{told}: {statuses:?}, though both requests are the same"
            );
        }
    }
    serves(stage, "them").await
}

/// Sends a request with these headers and this body, then another one on the same connection:
/// one that nobody made if it is smuggled, else a ping. Returns all answers, and whether the
/// connection was closed then.
async fn said(
    stage: &Stage,
    method: &str,
    headers: &str,
    body: &str,
    smuggled: bool,
) -> (Vec<Response>, bool) {
    let host = stage.mirror.site().authority();
    let prefix = stage.mirror.site().prefix();
    let path = if method == "GET" {
        "/v2/"
    } else {
        "/v2/a/b/blobs/uploads/"
    };
    let next = match smuggled {
        true => SMUGGLED.to_owned(),
        false => format!("GET {prefix}/v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    };
    let text = format!(
        "{method} {prefix}{path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n\r\n{body}{next}"
    );
    let mut answers = Vec::new();
    let Ok(mut connection) = stage.mirror.connect().await else {
        return (answers, true);
    };
    let mut answer = connection.exchange(text.as_bytes(), false).await;
    stage
        .log()
        .add(Exchange::of_bytes(text.as_bytes(), answer.as_ref()));
    loop {
        match answer {
            Ok(taken) if answers.len() < 4 => answers.push(taken),
            Ok(_) | Err(Trouble::Late(_)) => return (answers, false),
            Err(_) => return (answers, true),
        }
        let next = async {
            connection.next_head().await?;
            connection.rest().await
        };
        let next = tokio::time::timeout(CLOSES, next).await;
        answer = next.unwrap_or(Err(Trouble::Late(CLOSES)));
    }
}
