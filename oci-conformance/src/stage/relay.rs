//! Stands between two processes, counts what passes, and spoils it when told.
//!
//! What the dialled side sends is not read as anything: one byte in so many is flipped. Of what the
//! other side asks the targets are kept, so that a check can ask the same.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The first byte of a connection that is spoiled: past any head, and in the first piece.
const FIRST: u64 = 20_000;
/// From one to the next. Fewer than the bytes of any piece.
const EVERY: u64 = 60_000;

/// Most bytes of requests that are kept.
const KEPT: usize = 1 << 20;

/// A listening socket whose connections go to another. It ends when dropped.
pub struct Relay {
    traffic: Arc<Traffic>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Traffic {
    passed: AtomicU64,
    /// Bytes that are still to be flipped.
    spoils: AtomicU64,
    asked: Mutex<Vec<u8>>,
}

impl Relay {
    /// Listens here for what goes there.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(at: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let traffic = Arc::<Traffic>::default();
        let shared = Arc::clone(&traffic);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                connections.spawn(pass(near, to, Arc::clone(&shared)));
            }
        });
        Ok(Self { traffic, task })
    }

    /// Flips so many bytes, one in a while, from now on.
    pub fn spoil(&self, bytes: u64) {
        self.traffic.spoils.store(bytes, Ordering::Release);
    }

    /// Bytes that the dialled side has sent so far.
    pub fn passed(&self) -> u64 {
        self.traffic.passed.load(Ordering::Acquire)
    }

    /// Targets of the GETs that were sent so far, oldest first.
    pub fn targets(&self) -> Vec<String> {
        let asked = self.traffic.asked.lock();
        let asked = asked.unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&asked);
        let lines = text.lines().filter_map(|line| line.strip_prefix("GET "));
        let targets = lines.filter_map(|line| line.strip_suffix(" HTTP/1.1"));
        targets.map(str::to_owned).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(near: TcpStream, to: SocketAddr, traffic: Arc<Traffic>) {
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    let asking = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = near_read.read(&mut buffer).await {
            traffic.keep(&buffer[..read]);
            if far_write.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        _ = far_write.shutdown().await;
    };
    let answering = async {
        let mut buffer = vec![0; 64 << 10];
        let mut at = 0;
        while let Ok(read @ 1..) = far_read.read(&mut buffer).await {
            let bytes = &mut buffer[..read];
            flip(bytes, at, &traffic.spoils);
            at += read as u64;
            traffic.passed.fetch_add(read as u64, Ordering::AcqRel);
            if near_write.write_all(bytes).await.is_err() {
                break;
            }
        }
        _ = near_write.shutdown().await;
    };
    tokio::join!(asking, answering);
}

impl Traffic {
    fn keep(&self, bytes: &[u8]) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() + bytes.len() <= KEPT {
            asked.extend_from_slice(bytes);
        }
    }
}

/// Flips those of these bytes whose turn it is, as long as some are to be; `at` is where they are
/// in their stream.
fn flip(bytes: &mut [u8], at: u64, left: &AtomicU64) {
    for (offset, byte) in (at..).zip(bytes) {
        let turn = offset >= FIRST && (offset - FIRST).is_multiple_of(EVERY);
        let fewer = |left: u64| left.checked_sub(1);
        if turn
            && left
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer)
                .is_ok()
        {
            *byte ^= 0xff;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_flipped_however_they_come() {
        let mut whole = vec![0; 100_000];
        flip(&mut whole, 0, &AtomicU64::new(5));
        let mut parts = vec![0; 100_000];
        let left = AtomicU64::new(5);
        for (number, part) in parts.chunks_mut(7_000).enumerate() {
            flip(part, number as u64 * 7_000, &left);
        }
        assert_eq!(left.into_inner(), 3);
        assert_eq!(whole, parts);
        assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), 2);
    }
}
