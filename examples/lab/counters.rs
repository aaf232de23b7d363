//! What the machine counts: bytes by link, and how busy its cores are.
//!
//! Links are read at the bridge, so a machine that was killed still has its counts. The kernel counts
//! what is handed over in one piece once, with one header: a count is the body bytes and some tenths of
//! a percent, not what the frames of a wire would sum up to.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::Result;

use crate::net::inside;
use crate::place::{BRIDGE, Place};

/// Bytes that each machine has sent since its link was made, by the place's name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links(HashMap<String, u64>);

impl Links {
    /// What one machine sent since `before`.
    pub(crate) fn sent_since(&self, before: &Self, place: Place) -> u64 {
        let of = |links: &Self| links.0.get(&place.name()).copied().unwrap_or(0);
        of(self).saturating_sub(of(before))
    }

    /// What all machines sent together.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The bridge's counters.
pub(crate) struct Counters(File);

impl Counters {
    /// Opens them: the file goes on showing the namespace in which it was opened.
    pub(crate) fn open() -> Result<Self> {
        let open = || Ok(File::open("/proc/thread-self/net/dev")?);
        inside(BRIDGE.to_owned(), open).map(Self)
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Result<Links> {
        let mut text = vec![0; 64 << 10];
        let mut filled = 0;
        loop {
            let read = self.0.read_at(&mut text[filled..], filled as u64)?;
            filled += read;
            if read == 0 || filled == text.len() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text[..filled]);
        Ok(Links(text.lines().filter_map(link).collect()))
    }

    /// Waits until nobody sends any more than a sign of life.
    pub(crate) fn wait_until_idle(&self) -> Result<()> {
        const ROUND: Duration = Duration::from_millis(250);
        const IDLE_BYTES: u64 = 64 << 10;
        let mut before = self.read()?.total();
        for _ in 0..80 {
            std::thread::sleep(ROUND);
            let now = self.read()?.total();
            if now - before < IDLE_BYTES {
                return Ok(());
            }
            before = now;
        }
        anyhow::bail!("the links do not come to rest")
    }
}

/// `name: bytes packets errs ...`: what the bridge's end received is what the machine sent.
fn link(line: &str) -> Option<(String, u64)> {
    let (name, numbers) = line.split_once(':')?;
    let sent = numbers.split_whitespace().next()?.parse().ok()?;
    Some((name.trim().to_owned(), sent))
}

/// Time of all cores together since the start of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    busy: u64,
    all: u64,
}

impl Cores {
    /// Reads them.
    pub(crate) fn read() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        let times = line.split_whitespace().skip(1).take(8);
        let times: Vec<u64> = times.filter_map(|it| it.parse().ok()).collect();
        let all = times.iter().sum();
        // The fourth is idle, the fifth idle with a disk to wait for.
        let idle: u64 = times.iter().skip(3).take(2).sum();
        Ok(Self {
            busy: all - idle,
            all,
        })
    }

    /// The share of time since `before` in which cores were busy.
    pub(crate) fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.busy.saturating_sub(before.busy) as f64 / all as f64
    }

    /// The same in seconds, all cores together.
    pub(crate) fn busy_seconds_since(self, before: Self) -> f64 {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        self.busy.saturating_sub(before.busy) as f64 / ticks as f64
    }
}

#[cfg(test)]
mod tests {
    use super::link;

    #[test]
    fn what_a_machine_sent_is_what_the_bridge_received() {
        let line = "    n1: 4211 12 0 0 0 0 0 0 998 7 0 0 0 0 0 0";
        assert_eq!(link(line), Some(("n1".to_owned(), 4211)));
        assert_eq!(link(" face |bytes    packets errs"), None);
    }
}
