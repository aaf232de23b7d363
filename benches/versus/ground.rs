//! What the bench stands on: programs, a network namespace, a folder, processes that end with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

/// Program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("nginx", "nginx-light"),
    ("docker-registry", "docker-registry"),
    ("wrk", "wrk"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("taskset", "util-linux"),
    ("ip", "iproute2"),
];

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "DARNER_BENCH_INSIDE";

/// Names what is missing, with the command that brings it.
pub(crate) fn require_programs() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    let missing = PROGRAMS
        .iter()
        .filter(|(program, _)| !folders.iter().any(|folder| folder.join(program).exists()));
    let (programs, packages): (Vec<_>, Vec<_>) = missing.copied().unzip();
    ensure!(
        programs.is_empty(),
        "missing: {}; hint: apt-get install {}",
        programs.join(", "),
        packages.join(" ")
    );
    Ok(())
}

/// As root: runs this program again in a network namespace whose loopback uses cubic, and returns
/// true when that is done. Otherwise, and inside, returns false.
pub(crate) fn enter_namespace() -> Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        command("ip", &["link", "set", "lo", "up"])?;
        for net in ["127.0.0.0/8", "127.0.0.1"] {
            let route =
                format!("route replace local {net} dev lo src 127.0.0.1 table local congctl cubic");
            command("ip", &route.split(' ').collect::<Vec<_>>())?;
        }
        return Ok(false);
    }
    if !rustix::process::geteuid().is_root() {
        let default = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
        let default = default.unwrap_or_default();
        println!(
            "not root: no own network namespace, loopback uses {}; with bbr nginx and \
             docker-registry look slower than they are",
            default.trim()
        );
        return Ok(false);
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe()?)
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("cannot run unshare")?;
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(true)
}

fn command(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {said}",
        arguments.join(" ")
    );
    Ok(())
}

/// Puts all threads of a process on these cores (`0`, or `0-1`).
pub(crate) fn pin(pid: u32, cores: &str) -> Result<()> {
    command("taskset", &["-a", "-c", "-p", cores, &pid.to_string()])
}

/// The folder of a run; gone with it.
pub(crate) struct Ground {
    folder: PathBuf,
}

impl Ground {
    pub(crate) fn new() -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("versus");
        // What a run that was killed left behind.
        let _ = fs::remove_dir_all(&folder);
        let ground = Self { folder };
        fs::create_dir_all(ground.files())?;
        Ok(ground)
    }

    /// The files that the origin serves.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// A fresh, empty folder for a system.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An address nobody listens on.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A running server. Ends when dropped, or with this process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a program and waits until it listens.
    pub(crate) fn start(
        program: &str,
        arguments: &[String],
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self> {
        let log_file = fs::File::create(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", program])
            .args(arguments)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut server = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("{program} does not listen on {address}: {said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(group) = group else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
