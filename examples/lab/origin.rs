//! The origin: Debian's docker-registry, anonymous, with the lab's images pushed into it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::content::{Blob, Image, MANIFEST, TAG};
use crate::daemon::{Daemon, Usage};
use crate::http;
use crate::net::inside;
use crate::place::{ORIGIN_PORT, Place};

const LIMIT: Duration = Duration::from_secs(30);

/// A running docker-registry.
pub(crate) struct Origin {
    daemon: Daemon,
}

/// What its access log tells of blobs.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Served {
    /// GETs of blobs that were answered with a body.
    pub(crate) gets: u64,
    /// Bytes of these bodies that it wrote.
    pub(crate) bytes: u64,
}

impl Origin {
    /// Starts it on an empty storage in `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let config = folder.join("origin.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n    \
             maxthreads: 200\n  cache:\n    blobdescriptor: inmemory\nhttp:\n  addr: 0.0.0.0:{ORIGIN_PORT}\n  \
             secret: lab\n",
            folder.join("origin").display()
        );
        std::fs::write(&config, text)?;
        let args = ["serve".to_owned(), config.display().to_string()];
        let log = folder.join("origin.log");
        let program = Path::new("docker-registry");
        let mut daemon = Daemon::start(Place::Origin, program, &args, &log)?;
        let deadline = Instant::now() + LIMIT;
        let addr = Place::Origin.port(ORIGIN_PORT);
        let answers = move || Ok(http::ask(addr, "GET /v2/", "", &[], &LIMIT)?.status == 200);
        while !inside(Place::Origin.namespace(), answers).unwrap_or(false) {
            ensure!(
                daemon.runs() && Instant::now() < deadline,
                "docker-registry does not answer: {}",
                daemon.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { daemon })
    }

    /// Pushes an image from beside it, so no link is used.
    pub(crate) fn push(&self, image: &Image) -> Result<()> {
        std::thread::scope(|scope| {
            let pushing = scope.spawn(|| {
                crate::net::enter(&Place::Origin.namespace())?;
                for blob in image.layers.iter().chain([&image.config]) {
                    push_blob(image.repository, blob)?;
                }
                let kind = format!("content-type: {MANIFEST}\r\n");
                let first = format!("PUT /v2/{}/manifests/{TAG}", image.repository);
                put(&first, &kind, &image.manifest)
            });
            let pushed = pushing.join();
            pushed.map_err(|_| anyhow::anyhow!("the push panicked"))?
        })
        .with_context(|| format!("pushing {}", image.repository))
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        self.daemon.usage()
    }

    /// What it has served of blobs so far, by its own access log; a request is there when it has ended.
    pub(crate) fn served(&self) -> Served {
        let log = self.daemon.log();
        let mut served = Served::default();
        for (gets, bytes) in log.lines().filter_map(blob_get) {
            served.gets += gets;
            served.bytes += bytes;
        }
        served
    }
}

impl Served {
    /// What was served after `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            gets: self.gets - before.gets,
            bytes: self.bytes - before.bytes,
        }
    }
}

/// `10.77.0.1 - - [time] "GET /v2/.../blobs/... HTTP/1.1" 200 123 "" "agent"`
fn blob_get(line: &str) -> Option<(u64, u64)> {
    let (_, rest) = line.split_once("] \"GET ")?;
    let mut words = rest.split(' ');
    let path = words.next()?;
    let status: u16 = words.nth(1)?.parse().ok()?;
    let bytes: u64 = words.next()?.parse().ok()?;
    let is = path.contains("/blobs/") && (200..300).contains(&status);
    is.then_some((1, bytes))
}

fn push_blob(repository: &str, blob: &Blob) -> Result<()> {
    let first = format!("POST /v2/{repository}/blobs/uploads/");
    let started = http::ask(Place::Origin.port(ORIGIN_PORT), &first, "", &[], &LIMIT)?;
    let location = started.header("location").context("no Location")?;
    let at = location.find("/v2/").context("no path in Location")?;
    let digest = blob.digest.replace(':', "%3A");
    let first = format!("PUT {}&digest={digest}", &location[at..]);
    put(
        &first,
        "content-type: application/octet-stream\r\n",
        &blob.bytes,
    )
}

fn put(first: &str, headers: &str, body: &[u8]) -> Result<()> {
    let answer = http::ask(
        Place::Origin.port(ORIGIN_PORT),
        first,
        headers,
        body,
        &LIMIT,
    )?;
    let status = answer.status;
    let words = answer.small_body(&LIMIT)?;
    ensure!(
        status == 201,
        "{first}: {status} {}",
        String::from_utf8_lossy(&words)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::blob_get;

    #[test]
    fn only_blobs_that_were_sent_count() {
        let line = |method: &str, path: &str, status: u16| {
            format!(
                r#"10.77.0.252 - - [25/Nov/2026:23:00:00 +0000] "{method} {path} HTTP/1.1" {status} 1234 "" "darner""#
            )
        };
        let blob = "/v2/lab/layer/blobs/sha256:ab";
        assert_eq!(blob_get(&line("GET", blob, 200)), Some((1, 1234)));
        assert_eq!(blob_get(&line("GET", blob, 206)), Some((1, 1234)));
        assert_eq!(blob_get(&line("GET", blob, 404)), None);
        assert_eq!(blob_get(&line("HEAD", blob, 200)), None);
        assert_eq!(
            blob_get(&line("GET", "/v2/lab/layer/manifests/1", 200)),
            None
        );
        assert_eq!(blob_get("time=\"now\" level=error"), None);
    }
}
