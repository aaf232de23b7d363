//! Processes within namespaces: started, signalled and ended by pid; what they used.
//!
//! `ip netns exec` and `setpriv` replace themselves by the program, so the child's pid is the daemon's.
//! Must be started from the main thread: the kernel ends them when the thread that started them ends.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;

/// A running daemon. Killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Time on a core, user and system, of all its threads, also those that ended.
    pub(crate) cpu: Duration,
    /// The most memory it had, in bytes.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// The larger of each: what is known of a process that may be gone by now.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }
}

impl Daemon {
    /// Starts a program in a place, with its output in `log`.
    pub(crate) fn start(place: Place, program: &Path, args: &[String], log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let space = place.namespace();
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &space,
                "setpriv",
                "--pdeathsig",
                "KILL",
                "--",
            ])
            .arg(program)
            .args(args)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {} on {}", program.display(), place.name()))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Whether it has not ended by itself.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Already gone is as good.
            let _ = kill_process(pid, signal);
        }
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it has used so far; nothing if it is gone.
    pub(crate) fn usage(&self) -> Usage {
        let pid = self.child.id();
        Usage {
            cpu: cpu_of(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()),
            peak_bytes: peak_of(
                &fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(),
            ),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// CPU time of this process itself.
pub(crate) fn own_cpu() -> Duration {
    cpu_of(&fs::read_to_string("/proc/self/stat").unwrap_or_default())
}

fn cpu_of(stat: &str) -> Duration {
    // The name in brackets may hold anything. User and system time are 12 and 13 after it.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks = after.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|it| it.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1))
}

fn peak_of(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number
        .and_then(|number| number.trim().parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_used_is_read_whatever_its_name() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 7 7 20 0 4 0 99 1 2";
        assert_eq!(cpu_of(stat), Duration::from_secs(2));
        assert_eq!(peak_of("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n"), 2 << 20);
        assert_eq!((cpu_of(""), peak_of("")), (Duration::ZERO, 0));
        assert!(peak_of(&fs::read_to_string("/proc/self/status").unwrap()) > 0);
    }
}
