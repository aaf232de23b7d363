//! A client that throws bodies away as fast as it can, and knows when the first byte came.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use oci::Digest;
use oci::digest::{Algorithm, Hasher};

/// Longest wait for one read: a system that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The largest head that is understood.
const HEAD_BYTES: usize = 16 << 10;

/// What came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) first_byte: Instant,
    pub(crate) last_byte: Instant,
}

/// Gets `path`, or `range` of it (as the header says it), and gives each part of the body to `take`.
pub(crate) fn get(
    address: SocketAddr,
    path: &str,
    range: Option<&str>,
    mut take: impl FnMut(&[u8]),
) -> Result<Answer> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_nodelay(true)?;
    let range = range.map_or(String::new(), |range| format!("range: {range}\r\n"));
    let accept = "application/vnd.oci.image.manifest.v1+json, */*";
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\n{range}connection: close\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;

    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    let head_end = loop {
        let read = socket.read(&mut buffer[filled..HEAD_BYTES])?;
        ensure!(read > 0, "{path}: closed within the head");
        filled += read;
        if let Some(at) = buffer[..filled].windows(4).position(|it| it == b"\r\n\r\n") {
            break at + 4;
        }
        ensure!(filled < HEAD_BYTES, "{path}: head too long");
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).to_ascii_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|it| it.parse().ok())
        .context("no status")?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: u64 = length
        .with_context(|| format!("no length in {head}"))?
        .trim()
        .parse()?;

    let mut bytes = (filled - head_end) as u64;
    take(&buffer[head_end..filled]);
    let mut first_byte = (bytes > 0).then(Instant::now);
    while bytes < length {
        let read = socket
            .read(&mut buffer)
            .with_context(|| format!("{path} after {bytes} bytes"))?;
        ensure!(read > 0, "{path}: closed after {bytes} of {length} bytes");
        first_byte.get_or_insert_with(Instant::now);
        take(&buffer[..read]);
        bytes += read as u64;
    }
    let last_byte = Instant::now();
    Ok(Answer {
        status,
        bytes,
        first_byte: first_byte.unwrap_or(last_byte),
        last_byte,
    })
}

/// Gets `path` and throws it away; anything but 200 is an error.
pub(crate) fn swallow(address: SocketAddr, path: &str) -> Result<Answer> {
    let answer = get(address, path, None, |_| {})?;
    ensure!(answer.status == 200, "{path}: {}", answer.status);
    Ok(answer)
}

/// Gets `path` and compares it with its digest.
pub(crate) fn verify(address: SocketAddr, path: &str, digest: &Digest) -> Result<()> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let answer = get(address, path, None, |part| hasher.update(part))?;
    ensure!(answer.status == 200, "{path}: {}", answer.status);
    ensure!(hasher.finish() == *digest, "{path}: wrong bytes");
    Ok(())
}
