//! The lab of one test: a folder, the processes in it, and their end.
//!
//! Everything a test starts lives under the lab's folder and is gone when the lab is: processes by their own
//! handles, mounts by the folder's name. Nothing here reaches a network: what the tests need from outside was
//! fetched before by `scripts/test prepare`.

pub(crate) mod darner;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod net;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod token;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Set to leave these tests out where they cannot run (not root); whoever sets it knows what is not tested.
const LEAVE_OUT: &str = "DARNER_TEST_WITHOUT_REAL";

/// Daemons of several tests at once would only wait for each other on two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// One test's folder, and its turn.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Runs one test in a lab of its own; shows what its processes said when it fails.
///
/// A test that cannot run has not passed: it fails where this is not root or `scripts/test prepare` has not run,
/// unless these tests are left out on purpose.
#[allow(
    clippy::print_stderr,
    reason = "a failed test shows why, one left out says so"
)]
#[allow(clippy::panic, reason = "this is how a test fails")]
pub(crate) fn in_lab(test: impl FnOnce(&Lab) -> Result<()>) {
    if std::env::var_os(LEAVE_OUT).is_some() {
        eprintln!("left out: {LEAVE_OUT} is set");
        return;
    }
    let failed = match Lab::open() {
        Err(error) => error,
        Ok(lab) => match test(&lab) {
            Ok(()) => return,
            Err(error) => {
                lab.show_logs();
                error
            }
        },
    };
    panic!("{failed:#}");
}

impl Lab {
    fn open() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the tests with real clients need root; hint: run scripts/test as root, or set {LEAVE_OUT}=1 to leave them out"
        );
        ensure!(
            fetched().join("rootfs/complete").exists(),
            "the real clients are not here; hint: run scripts/test prepare"
        );
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("dt-").tempdir()?;
        Ok(Self {
            folder,
            _turn: Some(turn),
        })
    }

    /// A lab within another's turn, below `parent`.
    pub(crate) fn nested(parent: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dt-").tempdir_in(parent)?;
        Ok(Self {
            folder,
            _turn: None,
        })
    }

    #[allow(
        clippy::print_stderr,
        reason = "what the processes said, next to the failure"
    )]
    fn show_logs(&self) {
        let all = Command::new("find")
            .arg(self.path())
            .args(["-maxdepth", "2", "-name", "*.log"])
            .output();
        let all = all
            .map(|found| String::from_utf8_lossy(&found.stdout).into_owned())
            .unwrap_or_default();
        for path in all.lines() {
            let text = std::fs::read(path).unwrap_or_default();
            eprintln!(
                "---- {path}\n{}\n",
                tail(&String::from_utf8_lossy(&text), 60)
            );
        }
    }

    /// The lab's own folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new folder in the lab whose name begins with `name`.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(self.path())?;
        Ok(folder.keep())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What a killed daemon left mounted would keep the folder from being removed.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut points: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .collect();
        points.retain(|point| Path::new(point).starts_with(self.path()));
        points.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
        for point in points {
            let _ = Command::new("umount").arg("-l").arg(point).status();
        }
    }
}

/// Where `scripts/test prepare` put the clients and the content of the images.
pub(crate) fn fetched() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real")
}

/// Waits until `ready` gives a value; asks again every 20 ms.
///
/// # Errors
///
/// When `limit` is over, naming `what` was waited for.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {limit:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A free loopback port outside the kernel's ephemeral range, so that no outgoing connection takes it meanwhile.
///
/// A fixed number is needed where a process must come back at the same address; all others use port 0.
pub(crate) fn free_port() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    let start = u16::try_from(std::process::id() % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let addr = SocketAddr::from(([127, 0, 0, 1], FIRST + (start.wrapping_add(step)) % COUNT));
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    bail!("no free port on loopback")
}

/// Runs a command to its end and gives its standard output.
///
/// # Errors
///
/// When it fails or takes longer than `limit`; the error has the end of what it printed.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = process::run_to_end(command, limit).with_context(|| format!("running {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{name} failed ({}): {}{}",
            output.status,
            tail(&text, 10),
            tail(&errors, 15)
        );
    }
    Ok(text)
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
