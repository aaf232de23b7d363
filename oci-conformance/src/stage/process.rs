//! The registry under test as a process of ours: started, stopped, killed, and its log read.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::memory;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Longest wait for a start and for an end.
const WAIT: Duration = Duration::from_secs(60);

/// What placeholders mean when nobody says otherwise: a cache that no check fills, and a long memory.
const ROOMY: [(&str, &str); 2] = [("cache", "10737418240"), ("stale", "1h")];
/// Placeholders that stand for a free address each.
const ADDRESSES: [&str; 3] = ["admin", "peer", "control"];

/// A process and the folder it works in; both go with it.
pub struct Process {
    /// As it was given, placeholders and all.
    template: String,
    /// What the placeholders mean.
    names: Vec<(String, String)>,
    command: String,
    listen: SocketAddr,
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
    /// Starts a shell command in which `{listen}`, `{data}` and `names` are replaced, and waits until
    /// it listens. `folder` is where it keeps its data (`{data}`) and its log.
    ///
    /// # Errors
    /// If it cannot be started, or does not listen in time.
    pub async fn start(
        command: &str,
        folder: &Path,
        names: &[(&str, String)],
    ) -> Result<Self, ProcessError> {
        let process = Self::prepare(command, folder, names).await?;
        process.start_again().await?;
        Ok(process)
    }

    /// Starts the same command once more, on data of its own in a folder of this name, with other
    /// meanings for some placeholders. `around` is the shell text that runs it, where `{script}` is
    /// a file with the command; `exec sh {script}` changes nothing.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn another(
        &self,
        name: &str,
        changes: &[(&str, String)],
        around: &str,
    ) -> Result<Self, ProcessError> {
        let own = |key: &str| changes.iter().any(|(changed, _)| *changed == key);
        let kept = self.names.iter();
        let kept = kept.filter(|(key, _)| !own(key) && !is_own(key));
        let kept = kept.map(|(key, value)| (key.as_str(), value.clone()));
        let names: Vec<_> = kept.chain(changes.iter().cloned()).collect();
        let folder = self.folder.join(name);
        let mut process = Self::prepare(&self.template, &folder, &names).await?;
        let script = folder.join("command.sh");
        std::fs::write(&script, &process.command).map_err(|cause| process.failed(cause))?;
        let around = around.replace("{script}", &script.display().to_string());
        process.command = process.filled(&around);
        process.start_again().await?;
        Ok(process)
    }

    async fn prepare(
        command: &str,
        folder: &Path,
        names: &[(&str, String)],
    ) -> Result<Self, ProcessError> {
        let failed = |cause| ProcessError::Start {
            command: command.to_owned(),
            cause,
        };
        std::fs::create_dir_all(folder.join("data")).map_err(failed)?;
        let listen = free_port().await.map_err(failed)?;
        let mut all = vec![
            ("listen".to_owned(), listen.to_string()),
            ("data".to_owned(), folder.join("data").display().to_string()),
        ];
        for name in ADDRESSES.into_iter().filter(|name| asks(command, name)) {
            all.push((
                name.to_owned(),
                free_port().await.map_err(failed)?.to_string(),
            ));
        }
        let told = names.iter().map(|(key, value)| (*key, value.as_str()));
        for (key, value) in told.chain(ROOMY) {
            if all.iter().all(|(own, _)| own != key) {
                all.push((key.to_owned(), value.to_owned()));
            }
        }
        let mut process = Self {
            template: command.to_owned(),
            names: all,
            command: String::new(),
            listen,
            folder: folder.to_owned(),
            child: Mutex::new(None),
        };
        process.command = process.filled(command);
        Ok(process)
    }

    /// The text with its placeholders filled in.
    fn filled(&self, text: &str) -> String {
        let names = self.names.iter();
        names.fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    fn failed(&self, cause: io::Error) -> ProcessError {
        ProcessError::Start {
            command: self.command.clone(),
            cause,
        }
    }

    /// Whether its command has this placeholder.
    pub fn asks(&self, name: &str) -> bool {
        asks(&self.template, name)
    }

    /// The address that stands for this placeholder, if its command has it.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        let (_, value) = self.names.iter().find(|(own, _)| own == name)?;
        value.parse().ok().filter(|_| self.asks(name))
    }

    /// The folder that it has for itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where it shows its metrics, if it was told to.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.address("admin")
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

    /// Bytes of memory that it holds now: what it allocated, without the files that it maps.
    pub fn memory(&self) -> Option<u64> {
        memory::held(self.pid()?.as_raw_nonzero().get())
    }

    /// Its peak resident memory in bytes, where the kernel tells.
    pub fn peak_memory(&self) -> Option<u64> {
        memory::peak(self.pid()?.as_raw_nonzero().get())
    }

    /// Starts it again, after an end, on the same data.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_again(&self) -> Result<(), ProcessError> {
        let failed = |cause| self.failed(cause);
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

fn asks(command: &str, name: &str) -> bool {
    command.contains(&format!("{{{name}}}"))
}

/// Whether each process has its own meaning of this placeholder.
fn is_own(name: &str) -> bool {
    matches!(name, "listen" | "data") || ADDRESSES.contains(&name)
}

async fn free_port() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    listener.local_addr()
}
