//! One client on one node: manifest by tag, then the layers, some at a time, each compared byte for byte.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::content::{Blob, Image, MANIFEST, TAG};
use crate::http::{self, Patience};
use crate::net;
use crate::place::Place;

/// A client that gets nothing for so long gives up: it hangs.
const HANGS: Duration = Duration::from_secs(60);

const BUFFER_BYTES: usize = 256 << 10;

/// What a client is to do.
#[derive(Clone)]
pub(crate) struct Pull {
    pub(crate) image: Arc<Image>,
    /// Whom it asks.
    pub(crate) door: SocketAddr,
    pub(crate) layers_at_once: usize,
    /// The moment at which it begins.
    pub(crate) start: Instant,
}

/// A client at work, as others see it.
#[derive(Default)]
pub(crate) struct Progress {
    received: AtomicU64,
    gives_up: AtomicBool,
}

impl Progress {
    /// Body bytes of layers so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Makes it end soon, with an error.
    pub(crate) fn give_up(&self) {
        self.gives_up.store(true, Ordering::Relaxed);
    }
}

impl Patience for Progress {
    fn waits(&self, silent: Duration) -> bool {
        silent < HANGS && !self.gives_up.load(Ordering::Relaxed)
    }
}

/// How it went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulled {
    /// From the start to the first byte of a layer.
    pub(crate) first_byte: Option<Duration>,
    /// From the start to the last byte of the last layer.
    pub(crate) end: Option<Duration>,
    /// The longest time for which any GET of a layer got nothing, its first byte included.
    pub(crate) longest_gap: Duration,
    /// What went wrong; empty when every byte came and was right.
    pub(crate) errors: Vec<String>,
    /// Whether a wrong byte came.
    pub(crate) wrong_bytes: bool,
}

/// Starts a client in a place.
pub(crate) fn start(
    place: Place,
    pull: Pull,
    progress: Arc<Progress>,
) -> JoinHandle<Result<Pulled>> {
    net::thread(place.namespace(), move || {
        std::thread::sleep(pull.start.saturating_duration_since(Instant::now()));
        pull.run(&progress)
    })
}

impl Pull {
    fn run(&self, progress: &Progress) -> Pulled {
        let result = Mutex::new(Pulled::default());
        let note = |error: anyhow::Error| lock(&result).errors.push(format!("{error:#}"));
        if let Err(error) = self.manifest(progress).context("the manifest") {
            note(error);
        } else {
            let left: VecDeque<&Blob> = self.image.layers.iter().collect();
            let left = Mutex::new(left);
            let work = || {
                while let Some(layer) = { lock(&left).pop_front() } {
                    let pulled = self.layer(layer, progress, &result);
                    if let Err(error) = pulled.with_context(|| short(&layer.digest)) {
                        note(error);
                    }
                }
            };
            std::thread::scope(|scope| {
                for _ in 0..self.layers_at_once.min(self.image.layers.len()) {
                    scope.spawn(work);
                }
            });
        }
        let mut result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
        result.end = result.errors.is_empty().then(|| self.start.elapsed());
        result
    }

    fn manifest(&self, progress: &Progress) -> Result<()> {
        let path = format!("manifests/{TAG}");
        let accept = format!("accept: {MANIFEST}\r\n");
        let answer = http::ask(self.door, &self.get(&path), &accept, &[], progress)?;
        let status = answer.status;
        let body = answer.small_body(progress)?;
        let words = String::from_utf8_lossy(&body);
        ensure!(status == 200, "{status} {words}");
        ensure!(body == self.image.manifest, "another manifest: {words}");
        Ok(())
    }

    fn layer(&self, layer: &Blob, progress: &Progress, result: &Mutex<Pulled>) -> Result<()> {
        let path = format!("blobs/{}", layer.digest);
        let mut last = Instant::now();
        let mut gap = Duration::ZERO;
        let mut at = 0;
        let mut right = true;
        let mut take = |part: &[u8]| {
            let now = Instant::now();
            gap = gap.max(now - last);
            last = now;
            if at == 0 {
                let first = now - self.start;
                let mut result = lock(result);
                result.first_byte = Some(result.first_byte.map_or(first, |it| it.min(first)));
            }
            right = layer.bytes.get(at..at + part.len()) == Some(part);
            at += part.len();
            progress
                .received
                .fetch_add(part.len() as u64, Ordering::Relaxed);
            ensure!(right, "wrong bytes before {at}");
            Ok(())
        };
        let pulled = http::ask(self.door, &self.get(&path), "", &[], progress).and_then(|answer| {
            ensure!(answer.status == 200, "status {}", answer.status);
            answer.body(&mut vec![0; BUFFER_BYTES], progress, &mut take)
        });
        gap = gap.max(last.elapsed());
        let mut result = lock(result);
        result.longest_gap = result.longest_gap.max(gap);
        result.wrong_bytes |= !right;
        drop(result);
        let length = pulled?;
        ensure!(
            length == layer.bytes.len() as u64,
            "{length} of {} bytes",
            layer.bytes.len()
        );
        Ok(())
    }

    fn get(&self, path: &str) -> String {
        format!("GET /v2/{}/{path}?ns=lab.example", self.image.repository)
    }
}

fn short(digest: &str) -> String {
    digest.chars().take(19).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
