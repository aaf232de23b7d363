//! Requests that never come to their end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::check::{Finding, must};
use crate::checks::limits::heads::serves;
use crate::stage::Stage;

/// Longest life of such a request.
const BOUND: Duration = Duration::from_secs(60);
/// For a server that has just been woken up.
const CATCHES_UP: Duration = Duration::from_secs(5);
/// From one byte to the next: more than most servers' ticks, less than their patience.
const PACE: Duration = Duration::from_secs(1);

pub(super) async fn closed_in_time(stage: &Stage) -> Finding {
    let host = stage.mirror.site().authority();
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n");
    let stalled = drip(stage, head("GET /v2/"), "");
    let header = drip(stage, format!("{}X-Slow: ", head("GET /v2/")), "y");
    let headers = drip(stage, head("GET /v2/"), "X-Slow: y\r\n");
    let length = "Content-Length: 100000\r\n\r\n";
    let upload = head("POST /v2/a/b/blobs/uploads/?digest=sha256:00");
    let upload = drip(stage, format!("{upload}{length}"), "z");
    let body = drip(stage, format!("{}{length}", head("GET /v2/")), "z");
    let chunks = head("POST /v2/a/b/blobs/uploads/");
    let chunks = drip(
        stage,
        format!("{chunks}Transfer-Encoding: chunked\r\n\r\n"),
        "1\r\nz\r\n",
    );
    let all = tokio::join!(stalled, header, headers, upload, body, chunks);
    for (told, closed) in [
        ("a head that stops", all.0),
        ("a header that comes byte by byte", all.1),
        ("headers that come one by one", all.2),
        ("an upload that comes byte by byte", all.3),
        ("the body of a GET that comes byte by byte", all.4),
        ("chunks that come one by one", all.5),
    ] {
        must!(closed, "{told} keeps its connection open after {BOUND:?}");
    }
    serves(stage, "them").await
}

/// Sends a beginning and then a bit at a time; whether the other side closed within the bound.
async fn drip(stage: &Stage, beginning: String, bit: &str) -> bool {
    let Ok(mut connection) = stage.mirror.connect().await else {
        return true;
    };
    connection.write(beginning.as_bytes()).await;
    let begun = Instant::now();
    let mut next = begun + PACE;
    while next < begun + BOUND {
        if connection
            .closes_within(next.saturating_duration_since(Instant::now()))
            .await
        {
            return true;
        }
        sleep_until(next).await;
        connection.write(bit.as_bytes()).await;
        next += PACE;
    }
    // Both sides may have stood still meanwhile; the other one's deadline is over by now.
    connection.closes_within(CATCHES_UP).await
}
