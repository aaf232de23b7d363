//! An origin that knows when it let the first byte of a blob go, and how many it sent.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Between the head of a blob and its first byte, so that a proxy that waits for either is seen.
const HELD_BACK: Duration = Duration::from_millis(100);

/// A registry-shaped file server for one measurement. Its threads end with it.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    files: PathBuf,
    opened: Mutex<Option<Instant>>,
    sent: AtomicU64,
    stop: AtomicBool,
}

impl Gate {
    pub(crate) fn start(files: &Path) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            files: files.to_owned(),
            opened: Mutex::default(),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&accepting);
                // An error here is a client that went away.
                std::thread::spawn(move || drop(state.serve(socket)));
            }
        });
        Ok(Self { address, state })
    }

    /// When the first byte of a big blob went out, if one did since the last call.
    pub(crate) fn opened(&self) -> Option<Instant> {
        self.state
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Body bytes given to the kernel so far.
    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn serve(&self, mut socket: TcpStream) -> Result<()> {
        let mut input = BufReader::new(socket.try_clone()?);
        loop {
            let mut first = String::new();
            if input.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut range = None;
            loop {
                let mut line = String::new();
                input.read_line(&mut line)?;
                let line = line.trim_end().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("range: bytes=") {
                    range = Some(value.to_owned());
                }
            }
            let mut words = first.split(' ');
            let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let path = target.split('?').next().unwrap_or("");
            self.answer(&mut socket, method, path, range.as_deref())?;
        }
    }

    fn answer(
        &self,
        socket: &mut TcpStream,
        method: &str,
        path: &str,
        range: Option<&str>,
    ) -> Result<()> {
        if path == "/v2/" {
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            return Ok(socket.write_all(answer.as_bytes())?);
        }
        let Ok(mut file) = File::open(self.files.join(path.trim_start_matches('/'))) else {
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            return Ok(socket.write_all(answer.as_bytes())?);
        };
        let total = file.metadata()?.len();
        let (start, end) = range.and_then(|it| span(it, total)).unwrap_or((0, total));
        let status = match range {
            Some(_) => format!(
                "206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}",
                end - 1
            ),
            None => "200 OK".to_owned(),
        };
        let digest = path.rsplit('/').next().unwrap_or("");
        let kind = match path.contains("/manifests/") {
            true => "application/vnd.oci.image.manifest.v1+json",
            false => "application/octet-stream",
        };
        let length = end - start;
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Accept-Ranges: bytes\r\nDocker-Content-Digest: {digest}\r\n\r\n"
        );
        socket.write_all(head.as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        if total > 1 << 20 {
            std::thread::sleep(HELD_BACK);
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.get_or_insert_with(Instant::now);
        }
        file.seek(SeekFrom::Start(start))?;
        let mut left = length;
        while left > 0 {
            // File to socket: the standard library uses sendfile.
            let sent = std::io::copy(&mut (&mut file).take(left.min(1 << 20)), socket)?;
            self.sent.fetch_add(sent, Ordering::Relaxed);
            left -= sent;
        }
        Ok(())
    }
}

fn span(range: &str, total: u64) -> Option<(u64, u64)> {
    let (first, last) = range.split_once('-')?;
    let start = first.parse().ok()?;
    let end = last.parse::<u64>().map_or(total, |last| last + 1);
    Some((start, end.min(total)))
}
