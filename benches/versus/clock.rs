//! CPU time of a server: its process and the processes it started.

use std::fs;
use std::time::{Duration, Instant};

/// CPU time used so far, user and system, in nanosecond resolution.
///
/// Threads that ended are missing, so take the difference over a time in which none does.
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let own: u64 = threads(pid).map(|thread| on_cpu(pid, thread)).sum();
    Duration::from_nanos(own) + children(pid).map(cpu_of).sum::<Duration>()
}

/// The same once the server has come to rest (some go on storing after the client has its bytes),
/// or after ten seconds.
pub(crate) fn settled_cpu_of(pid: u32) -> Duration {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut last = cpu_of(pid);
    loop {
        std::thread::sleep(Duration::from_millis(60));
        let now = cpu_of(pid);
        if now.saturating_sub(last) < Duration::from_millis(1) || Instant::now() > deadline {
            return now;
        }
        last = now;
    }
}

fn numbers_in(path: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn threads(pid: u32) -> impl Iterator<Item = u32> {
    numbers_in(&format!("/proc/{pid}/task"))
}

fn on_cpu(pid: u32, thread: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"));
    let text = text.unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn children(pid: u32) -> impl Iterator<Item = u32> {
    numbers_in("/proc").filter(move |child| parent(*child) == Some(pid))
}

fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; the state and the parent follow it.
    let after = text.rsplit_once(") ")?.1;
    after.split(' ').nth(1)?.parse().ok()
}
