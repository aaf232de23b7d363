//! How much disk is free, and how much of it must stay free.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// The floor of free disk that the store leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinFree {
    /// Of the file system's size.
    Percent(u8),
    /// In bytes.
    Bytes(u64),
}

/// A file system's room, as an unprivileged writer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Size of the file system.
    pub total_bytes: u64,
    /// What may still be written.
    pub available_bytes: u64,
}

/// Asks how much room there is; tests answer for themselves.
pub type SpaceProbe = Arc<dyn Fn(&Path) -> io::Result<FreeSpace> + Send + Sync>;

impl FreeSpace {
    /// Asks the file system that holds `path`.
    ///
    /// # Errors
    /// What `statvfs` says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Self {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    /// How many bytes must come free before `need` more may be written above the floor.
    pub(super) fn short_of(&self, floor: MinFree, need: u64) -> u64 {
        let floor = match floor {
            MinFree::Bytes(bytes) => bytes,
            MinFree::Percent(percent) => {
                (u128::from(self.total_bytes) * u128::from(percent.min(100)) / 100) as u64
            }
        };
        let wanted = floor.saturating_add(need);
        wanted.saturating_sub(self.available_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_counts_on_top_of_the_need() {
        let space = FreeSpace {
            total_bytes: 1_000,
            available_bytes: 200,
        };
        assert_eq!(space.short_of(MinFree::Percent(15), 50), 0);
        assert_eq!(space.short_of(MinFree::Percent(15), 51), 1);
        assert_eq!(space.short_of(MinFree::Bytes(300), 0), 100);
        assert_eq!(
            space.short_of(MinFree::Percent(100), u64::MAX),
            u64::MAX - 200
        );
    }

    #[test]
    fn the_file_system_answers() {
        let space = FreeSpace::of(Path::new("/")).unwrap();
        assert!(space.total_bytes >= space.available_bytes && space.total_bytes > 0);
    }
}
