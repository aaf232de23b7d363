//! A peer that lies: it stands in front of a node's peer port and turns over one bit of each body it passes on.
//!
//! The node behind it is honest and knows nothing of it, so no test-only switch is needed in the product.
//! Only answers 206 are changed, since pieces are asked for by Range.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::net::inside;
use crate::place::{PEER_PORT, Place};

/// Between looks for a new connection.
const ROUND: Duration = Duration::from_millis(2);

/// A running liar; its port is free again when it is dropped. A connection ends with its node or the asker.
pub(crate) struct Liar {
    /// When it lied.
    lies: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    /// Listens at the node's address; the node itself listens at the same port on loopback.
    pub(crate) fn start(node: Place) -> Result<Self> {
        let lies = Arc::<Mutex<Vec<Instant>>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (noted, stopped) = (Arc::clone(&lies), Arc::clone(&stop));
        let thread = inside(node.namespace(), move || {
            let listener = TcpListener::bind(node.port(PEER_PORT))?;
            listener.set_nonblocking(true)?;
            // Started from here, so that it and what it dials are within the namespace.
            let accept = move || accept(&listener, &noted, &stopped);
            Ok(std::thread::spawn(accept))
        })
        .context("starting the liar")?;
        Ok(Self {
            lies,
            stop,
            thread: Some(thread),
        })
    }

    /// The moments at which it lied so far.
    pub(crate) fn lies(&self) -> Vec<Instant> {
        lock(&self.lies).clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, lies: &Arc<Mutex<Vec<Instant>>>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((asker, _)) = listener.accept() else {
            std::thread::sleep(ROUND);
            continue;
        };
        let lies = Arc::clone(lies);
        std::thread::spawn(move || drop(pass(asker, &lies)));
    }
}

fn pass(mut asker: TcpStream, lies: &Mutex<Vec<Instant>>) -> Result<()> {
    asker.set_nonblocking(false)?;
    let node = SocketAddr::from((Ipv4Addr::LOCALHOST, PEER_PORT));
    // The node may not listen yet.
    let node = retry(|| TcpStream::connect(node))?;
    for socket in [&asker, &node] {
        socket.set_nodelay(true)?;
    }
    let (mut requests, mut to_node) = (asker.try_clone()?, node.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut requests, &mut to_node);
        let _ = to_node.shutdown(std::net::Shutdown::Write);
    });
    let mut answers = BufReader::with_capacity(256 << 10, node);
    while let Some(head) = head(&mut answers)? {
        asker.write_all(head.as_bytes())?;
        let small = head.to_ascii_lowercase();
        let length = small
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: u64 = length.and_then(|it| it.trim().parse().ok()).unwrap_or(0);
        let is_piece = small.split(' ').nth(1) == Some("206");
        body(&mut answers, &mut asker, length, is_piece.then_some(lies))?;
    }
    Ok(())
}

/// A head with its empty line; `None` at the end.
fn head(answers: &mut BufReader<TcpStream>) -> Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if answers.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

fn body(
    answers: &mut BufReader<TcpStream>,
    asker: &mut TcpStream,
    length: u64,
    lies: Option<&Mutex<Vec<Instant>>>,
) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let wrong = lies.map(|_| length / 2);
    let mut at = 0;
    while at < length {
        let most = buffer.len().min(usize::try_from(length - at)?);
        let read = answers.read(&mut buffer[..most])?;
        anyhow::ensure!(read > 0, "the node broke off");
        if let (Some(wrong), Some(lies)) = (wrong, lies)
            && (at..at + read as u64).contains(&wrong)
        {
            buffer[usize::try_from(wrong - at)?] ^= 1;
            lock(lies).push(Instant::now());
        }
        asker.write_all(&buffer[..read])?;
        at += read as u64;
    }
    Ok(())
}

fn retry(connect: impl Fn() -> std::io::Result<TcpStream>) -> Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match connect() {
            Ok(socket) => return Ok(socket),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
