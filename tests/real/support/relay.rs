//! A TCP relay before the upstream: counts the bytes that pass, slows them, refuses.
//!
//! Knows nothing of HTTP; what must be seen of requests is in docker-registry's own log.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;

/// How often a slowed connection gets its share.
const TICK: Duration = Duration::from_millis(10);

/// A running relay; its connections end with it.
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// Bytes that came from upstream.
    down: AtomicU64,
    /// Bytes per second and connection; 0 is as fast as it goes.
    rate: AtomicU64,
    ended: AtomicBool,
}

impl Relay {
    /// Relays connections to `to`.
    pub(crate) fn start(to: SocketAddr) -> Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), to)
    }

    /// The same for those who can reach `ip`.
    pub(crate) fn start_on(ip: IpAddr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to,
            down: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(&client, &shared));
            }
        });
        Ok(Self { addr, shared })
    }

    /// What `--registry NAME=` takes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Slows each connection to this many bytes per second; 0 lifts it.
    pub(crate) fn limit(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Ends every connection where it is; new ones are refused.
    pub(crate) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which closes the listening socket.
        let _ = TcpStream::connect(self.addr);
    }

    /// Bytes from upstream so far, heads included.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.down.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(client: &TcpStream, shared: &Arc<Shared>) {
    let Ok(upstream) = TcpStream::connect(shared.to) else {
        return;
    };
    let (Ok(mut from_client), Ok(mut to_upstream)) = (client.try_clone(), upstream.try_clone())
    else {
        return;
    };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_upstream);
        let _ = to_upstream.shutdown(std::net::Shutdown::Write);
    });
    let _ = copy_down(&upstream, client, shared);
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = upstream.shutdown(std::net::Shutdown::Both);
}

fn copy_down(
    mut upstream: &TcpStream,
    mut client: &TcpStream,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    while !shared.ended.load(Ordering::Relaxed) {
        let rate = shared.rate.load(Ordering::Relaxed);
        let share = usize::try_from(rate / 100)
            .unwrap_or(usize::MAX)
            .clamp(1, buffer.len());
        let most = if rate == 0 { buffer.len() } else { share };
        let got = upstream.read(&mut buffer[..most])?;
        if got == 0 {
            return Ok(());
        }
        // Counted when handed on, so that what is counted has been offered to the other side.
        client.write_all(&buffer[..got])?;
        shared.down.fetch_add(got as u64, Ordering::Relaxed);
        if rate != 0 {
            std::thread::sleep(TICK);
        }
    }
    Ok(())
}
