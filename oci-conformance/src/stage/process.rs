//! The registry under test as a process of ours: started, stopped, killed, and its log read.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Longest wait for a start and for an end.
const WAIT: Duration = Duration::from_secs(60);

/// A process and the folder it works in; both go with it.
pub struct Process {
    command: String,
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    folder: PathBuf,
    child: Mutex<Option<Child>>,
}

/// Why a process is not there.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It cannot be started.
    #[error("cannot start `{command}`: {cause}")]
    Start {
        /// The command.
        command: String,
        /// Why.
        cause: io::Error,
    },
    /// It ended, or never listened.
    #[error("`{command}` does not listen on {listen}; the end of its log:\n{log}")]
    Silent {
        /// The command.
        command: String,
        /// Where it was waited for.
        listen: SocketAddr,
        /// What it said last.
        log: String,
    },
}

impl Process {
    /// Starts a shell command in which `{listen}`, `{admin}`, `{data}` and `names` are replaced, and
    /// waits until it listens. `folder` is where it keeps its data (`{data}`) and its log.
    ///
    /// # Errors
    /// If it cannot be started, or does not listen in time.
    pub async fn start(
        command: &str,
        folder: &Path,
        names: &[(&str, String)],
    ) -> Result<Self, ProcessError> {
        let failed = |cause| ProcessError::Start {
            command: command.to_owned(),
            cause,
        };
        let (listen, admin) = two_free_ports().await.map_err(failed)?;
        let data = folder.join("data");
        let mut text = command
            .replace("{listen}", &listen.to_string())
            .replace("{admin}", &admin.to_string())
            .replace("{data}", &data.display().to_string());
        for (name, value) in names {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        let process = Self {
            command: text,
            listen,
            admin: command.contains("{admin}").then_some(admin),
            folder: folder.to_owned(),
            child: Mutex::new(None),
        };
        process.start_again().await?;
        Ok(process)
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where it shows its metrics, if it was told to.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where it keeps its data.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its peak resident memory in bytes, where the kernel tells.
    pub fn peak_memory(&self) -> Option<u64> {
        let pid = self.pid()?.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Starts it again, after an end, on the same data.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_again(&self) -> Result<(), ProcessError> {
        let failed = |cause| ProcessError::Start {
            command: self.command.clone(),
            cause,
        };
        std::fs::create_dir_all(self.data()).map_err(failed)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .map_err(failed)?;
        let child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        *self.child() = Some(child);
        let end = Instant::now() + WAIT;
        while TcpStream::connect(self.listen).await.is_err() {
            let ended = self
                .child()
                .as_mut()
                .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > end {
                let log = self.log();
                let start = log.len().saturating_sub(2000);
                return Err(ProcessError::Silent {
                    command: self.command.clone(),
                    listen: self.listen,
                    log: log.get(start..).unwrap_or(&log).to_owned(),
                });
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Kills it at once, as a power cut would.
    pub async fn kill(&self) {
        self.end(Signal::KILL).await;
    }

    /// Asks it to end, and waits.
    pub async fn stop(&self) {
        self.end(Signal::TERM).await;
    }

    async fn end(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It may have ended by itself.
            _ = kill_process_group(pid, signal);
        }
        let child = self.child().take();
        if let Some(mut child) = child
            && tokio::time::timeout(WAIT, child.wait()).await.is_err()
        {
            _ = child.kill().await;
        }
    }

    fn pid(&self) -> Option<Pid> {
        let id = self.child().as_ref()?.id()?;
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Two at once, so that they differ.
async fn two_free_ports() -> io::Result<(SocketAddr, SocketAddr)> {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok((one.local_addr()?, other.local_addr()?))
}
