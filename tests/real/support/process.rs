//! Child processes with an owner: own process group, output in a file, stopped by pid when dropped.
//!
//! They are started through `setpriv --pdeathsig`, so that a test that is itself killed leaves nothing running.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{tail, wait_for};

/// How long a daemon may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// A running daemon.
pub(crate) struct Daemon {
    name: String,
    child: std::process::Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output in `folder/<name>.log`.
    pub(crate) fn start(name: &str, command: &Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log)?;
        let child = bound_to_us(command)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Everything it has printed so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready` gives a value.
    ///
    /// # Errors
    ///
    /// When the limit is over or the daemon has ended; the error has the end of its log.
    pub(crate) fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T> {
        let found = wait_for(what, limit, || match self.child.try_wait() {
            Ok(None) => ready(self).map(Some),
            _ => Some(None),
        });
        match found {
            Ok(Some(value)) => Ok(value),
            Ok(None) => bail!(
                "{} ended while waiting for {what}:\n{}",
                self.name,
                tail(&self.log(), 30)
            ),
            Err(error) => Err(error.context(format!("{}:\n{}", self.name, tail(&self.log(), 30)))),
        }
    }

    /// kill -9, at once.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM and wait for the end.
    ///
    /// # Errors
    ///
    /// When it had to be killed.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal(Signal::TERM);
        let ended = wait_for("the end after SIGTERM", GRACE, || {
            self.child.try_wait().ok().flatten()
        });
        if ended.is_err() {
            self.kill()?;
            bail!("{} did not end {GRACE:?} after SIGTERM", self.name);
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // Already gone is as good.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Runs a command to its end in its own process group; kills the group when `limit` is over.
pub(crate) fn run_to_end(command: &Command, limit: Duration) -> Result<Output> {
    let child = bound_to_us(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let group = Pid::from_raw(i32::try_from(child.id())?).context("a child has a pid")?;
    let (done, over) = std::sync::mpsc::channel::<()>();
    let end = Instant::now() + limit;
    let watch = std::thread::spawn(move || {
        let left = end.saturating_duration_since(Instant::now());
        let late = over.recv_timeout(left) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = kill_process_group(group, Signal::KILL);
        }
        late
    });
    let output = child.wait_with_output();
    drop(done);
    if watch.join().unwrap_or(false) {
        bail!("took longer than {limit:?}");
    }
    Ok(output?)
}

/// The same command, killed by the kernel should the thread that starts it be gone.
fn bound_to_us(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}
