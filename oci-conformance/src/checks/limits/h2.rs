//! HTTP/2 floods, frame by frame (RFC 9113). A mirror without HTTP/2 closes or answers 400.

use std::time::Duration;

use crate::check::{Finding, must, skip};
use crate::checks::limits::heads::serves;
use crate::client::{Connection, Trouble};
use crate::stage::Stage;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method GET`, `:scheme http`, `:path /` of the static table, and `:authority x` as a literal.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'x'];
/// The same with `:method POST`.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'x'];
/// Frames of each flood; more than any server lets pass.
const FLOOD: u32 = 20_000;
/// What a flood may cost in memory.
const MEMORY: u64 = 128 << 20;
/// Longest wait for the server's own settings.
const GREETS: Duration = Duration::from_secs(10);

pub(super) async fn floods(stage: &Stage) -> Finding {
    if stage.mirror.site().tls() {
        skip!("HTTP/2 within TLS is negotiated by ALPN, which is not tried");
    }
    let Some(_) = greeted(stage).await? else {
        return serves(stage, "a preface of HTTP/2").await;
    };
    let before = stage
        .process()
        .ok()
        .and_then(|process| process.peak_memory());
    let reset: fn(u32) -> Vec<u8> = |number| {
        let stream = 2 * number + 1;
        let mut frames = frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
        frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        frames
    };
    let continuation: fn(u32) -> Vec<u8> = |number| match number {
        0 => frame(HEADERS, 0, 1, GET),
        // A literal header without indexing: `a: b`.
        _ => frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b'].repeat(1000)),
    };
    let empty: fn(u32) -> Vec<u8> = |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, POST),
        _ => frame(DATA, 0, 1, &[]),
    };
    for (told, made) in [
        ("streams that are reset at once", reset),
        ("CONTINUATIONs without an end", continuation),
        ("empty DATA", empty),
    ] {
        let Some(mut connection) = greeted(stage).await? else {
            must!(false, "before {told}: no HTTP/2 any more");
            return Ok(());
        };
        // It may close at any point of it, and should.
        for start in (0..FLOOD).step_by(100) {
            let frames: Vec<u8> = (start..start + 100).flat_map(made).collect();
            connection.write(&frames).await;
            if connection.closes_within(Duration::ZERO).await {
                break;
            }
        }
        serves(stage, told).await?;
    }
    let after = stage
        .process()
        .ok()
        .and_then(|process| process.peak_memory());
    let grown = after
        .zip(before)
        .map_or(0, |(after, before)| after.saturating_sub(before));
    must!(
        grown < MEMORY,
        "its memory grew by {grown} bytes at its peak"
    );
    Ok(())
}

/// A connection that speaks HTTP/2; `None` if the server does not.
async fn greeted(stage: &Stage) -> Result<Option<Connection>, Trouble> {
    let mut connection = stage.mirror.connect().await?;
    connection.write(PREFACE).await;
    connection.write(&frame(SETTINGS, 0, 0, &[])).await;
    let came = tokio::time::timeout(GREETS, connection.at_least(9)).await;
    // Length, type: the server's preface is a SETTINGS frame.
    let speaks = came.is_ok_and(|bytes| bytes.len() >= 9 && bytes[3] == SETTINGS);
    Ok(speaks.then_some(connection))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
