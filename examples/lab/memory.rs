//! Memory that is kept warm for what a run writes.
//!
//! A virtual machine may give free memory back to its host, and getting it again can cost ten times what
//! writing costs: then a run measures the host. So before each run a ballast as large as all that will be
//! written is written, and freed as the clients receive: what the daemons are given is always memory that was
//! in use a moment ago. A tmpfs takes all its memory when a file gets its length; there the ballast is
//! freed before the start.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::{command, say};

/// Where the ballast is.
const PLACE: &str = "/run/darner-lab/memory";

/// What is free at any time beyond what clients have received.
const AHEAD_BYTES: u64 = 256 << 20;

/// Mounts the tmpfs of the ballast; the supervisor unmounts it.
pub(crate) fn mount() -> Result<()> {
    fs::create_dir_all(PLACE)?;
    let plain = format!("mount -t tmpfs -o size=90%,mode=700 darner-lab {PLACE}");
    let large = plain.replace("mode=700", "mode=700,huge=within_size");
    // A kernel without large pages for tmpfs refuses the option.
    if command(&large).is_err() {
        command(&plain)?;
    }
    Ok(())
}

/// Whether what is written to this folder stays in memory.
pub(crate) fn is_memory(folder: &Path) -> Result<bool> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    Ok(rustix::fs::statfs(folder)?.f_type == TMPFS_MAGIC)
}

/// Unmounts it if it is there.
pub(crate) fn unmount() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let is = |line: &str| line.split(' ').nth(1) == Some(PLACE);
    if mounts.lines().any(is) {
        command(&format!("umount {PLACE}"))?;
    }
    Ok(())
}

/// Whether so many bytes leave memory for everything else.
fn has_room(bytes: u64) -> bool {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|it| it.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let available: u64 = number.and_then(|it| it.trim().parse().ok()).unwrap_or(0) << 10;
    bytes < available / 10 * 7
}

/// Memory that is in use until somebody needs it.
pub(crate) struct Ballast {
    file: File,
    /// 0 if there was no room for it.
    bytes: u64,
}

impl Ballast {
    /// Takes memory for so many bytes.
    pub(crate) fn take(bytes: u64) -> Result<Self> {
        let path = Path::new(PLACE).join("ballast");
        let mut file = File::create(&path).context("making the ballast")?;
        // Nameless: it is gone with this process, however that ends.
        fs::remove_file(&path)?;
        let bytes = bytes + AHEAD_BYTES;
        if !has_room(bytes) {
            say(
                "not enough memory for a ballast: CPU may be that of memory had anew from the host",
            );
            return Ok(Self { file, bytes: 0 });
        }
        // With its length known, large pages are used.
        file.set_len(bytes)?;
        let block = vec![0x5a; 1 << 20];
        for _ in 0..bytes >> 20 {
            file.write_all(&block)?;
        }
        let ballast = Self { file, bytes };
        ballast.free(0);
        Ok(ballast)
    }

    /// Frees all of it.
    pub(crate) fn free_all(&self) {
        self.free(self.bytes);
    }

    /// Has so much free as was received, and a little ahead.
    pub(crate) fn free(&self, received: u64) {
        let left = self.bytes.saturating_sub(received + AHEAD_BYTES);
        // It may only shrink.
        if self.file.metadata().is_ok_and(|it| it.len() > left) {
            let _ = self.file.set_len(left);
        }
    }
}
