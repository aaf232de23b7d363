//! The outer process: it starts the worker that does everything, and cleans up after it.
//!
//! The worker may end well, fail, panic or be killed, and Ctrl-C may come at any time: the supervisor makes
//! nothing, so it always knows what to do then. Should it be killed itself, the kernel kills the
//! worker with it, the worker's daemons with that, and the next start cleans up what remains.

use std::fs::{self, File, TryLockError};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::net::{NEIGHBOURS, neighbour_setting};
use crate::options::Options;
use crate::place::PREFIX;
use crate::{command, memory, say};

/// Set in the worker.
const WORKER: &str = "LAB_WORKER";

/// Where the lab notes what it must put back; on a tmpfs, since namespaces do not outlive a boot either.
const NOTES: &str = "/run/darner-lab";

/// Programs and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("mount", "mount"),
    ("docker-registry", "docker-registry"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("setpriv", "util-linux"),
    ("sysctl", "procps"),
];

/// Killed processes are gone within milliseconds.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Whether this process is the one that works.
pub(crate) fn is_worker() -> bool {
    std::env::var_os(WORKER).is_some()
}

/// Runs the worker to its end, whatever that is, and leaves nothing behind.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    options.validate()?;
    options.program()?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "namespaces need root; hint: sudo"
    );
    require_programs()?;
    fs::create_dir_all(NOTES)?;
    let lock = File::create(Path::new(NOTES).join("lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another lab is running on this machine"),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    clean().context("cleaning up after an earlier run")?;
    note_neighbours()?;
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(worker());
    clean().context("cleaning up")?;
    ended
}

async fn worker() -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = tokio::process::Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(WORKER, "1")
        .spawn()?;
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = interrupt.recv() => {
            say("interrupted");
            child.kill().await?;
            return Ok(ExitCode::from(130));
        }
        _ = terminate.recv() => {
            say("terminated");
            child.kill().await?;
            return Ok(ExitCode::from(143));
        }
    };
    if let Some(signal) = status.signal() {
        bail!("the worker was ended by signal {signal}");
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Where the worker's data lies; noted, so that it is found again after a crash.
pub(crate) fn note_folder(folder: &Path) -> Result<()> {
    let text = folder.to_str().context("a plain path")?;
    fs::write(Path::new(NOTES).join("folder"), text)?;
    Ok(())
}

fn require_programs() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    for (program, package) in PROGRAMS {
        ensure!(
            folders.iter().any(|folder| folder.join(program).exists()),
            "there is no {program}; hint: apt-get install {package}"
        );
    }
    Ok(())
}

fn note_neighbours() -> Result<()> {
    for (name, _) in NEIGHBOURS {
        let value = fs::read(neighbour_setting(name))?;
        fs::write(Path::new(NOTES).join(name), value)?;
    }
    Ok(())
}

/// Ends every process in the lab's namespaces, removes these and the data, puts settings back.
fn clean() -> Result<()> {
    let list = command("ip netns list")?;
    let spaces = list.lines().filter_map(|line| line.split(' ').next());
    let spaces: Vec<&str> = spaces.filter(|name| name.starts_with(PREFIX)).collect();
    for space in &spaces {
        end_processes(space)?;
        command(&format!("ip netns del {space}"))?;
    }
    memory::unmount()?;
    for (name, _) in NEIGHBOURS {
        let note = Path::new(NOTES).join(name);
        if let Ok(value) = fs::read(&note) {
            fs::write(neighbour_setting(name), value)?;
            fs::remove_file(note)?;
        }
    }
    let note = Path::new(NOTES).join("folder");
    if let Ok(folder) = fs::read_to_string(&note) {
        // Its name is the lab's: a damaged note must not cost anybody a folder.
        let ours = Path::new(&folder).file_name();
        let ours = ours.is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if ours && Path::new(&folder).exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::remove_file(note)?;
    }
    Ok(())
}

fn end_processes(space: &str) -> Result<()> {
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let pids = command(&format!("ip netns pids {space}"))?;
        let pids: Vec<i32> = pids.lines().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{pids:?} in {space} do not end after SIGKILL"
        );
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // Already gone is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
