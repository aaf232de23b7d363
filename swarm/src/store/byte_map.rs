//! The file beside a partial that says which of its bytes are there.
//!
//! An append-only list of ranges after a header that names the total length. Invariant: a range is
//! appended after its bytes were written, so a process that is killed loses what it had not yet
//! recorded and nothing else. A machine that loses power may keep the map and lose the bytes, and
//! readers are shown present bytes before the whole is hashed; therefore a map of another boot of
//! the machine says nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::ByteSet;

const MAGIC: [u8; 8] = *b"drnrmap1";
const RECORD_BYTES: usize = 16;

/// Which boot of the machine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Boot(u128);

impl Boot {
    /// This one. Where the kernel does not tell, all boots look the same.
    pub(super) fn current() -> Self {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits = text.trim().replace('-', "");
        Self(u128::from_str_radix(&digits, 16).unwrap_or_default())
    }
}

/// What a map is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) total: u64,
    pub(super) boot: Boot,
}

impl Head {
    fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.total.to_le_bytes());
        bytes.extend(self.boot.0.to_le_bytes());
        bytes
    }
}

/// The map of one partial. Its file appears with the first record: a small blob never has one.
#[derive(Debug)]
pub(super) struct ByteMap {
    path: PathBuf,
    head: Head,
    file: Option<File>,
    /// After a failed append a torn record must stay the last one.
    torn: bool,
}

/// What a map says.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) present: ByteSet,
    pub(super) map: ByteMap,
}

impl ByteMap {
    /// The map of a blob none of which is there.
    pub(super) fn new(path: PathBuf, head: Head) -> Self {
        Self {
            path,
            head,
            file: None,
            torn: false,
        }
    }

    fn create(&self) -> io::Result<File> {
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)?;
        file.write_all(&self.head.encode())?;
        Ok(file)
    }

    /// Reads a map to go on with it; `None` if it is not one of `head`.
    pub(super) fn load(path: PathBuf, head: Head) -> io::Result<Option<Loaded>> {
        let mut file = OpenOptions::new().read(true).append(true).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Some(records) = bytes.strip_prefix(&head.encode()[..]) else {
            return Ok(None);
        };
        let torn = records.len() % RECORD_BYTES;
        if torn > 0 {
            file.set_len((bytes.len() - torn) as u64)?;
        }
        let ranges = records
            .as_chunks::<RECORD_BYTES>()
            .0
            .iter()
            .map(two_numbers);
        let valid = ranges.filter(|&(_, end)| end <= head.total);
        Ok(Some(Loaded {
            present: valid.map(|(start, end)| start..end).collect(),
            map: Self {
                path,
                head,
                file: Some(file),
                torn: false,
            },
        }))
    }

    /// Records that the bytes of `ranges` are there, in one write.
    pub(super) fn append(&mut self, ranges: &ByteSet) -> io::Result<()> {
        if ranges.is_empty() || self.torn {
            return Ok(());
        }
        let mut records = Vec::new();
        for range in ranges.iter() {
            records.extend(range.start.to_le_bytes());
            records.extend(range.end.to_le_bytes());
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(&records),
            None => self.create().and_then(|mut file| {
                let written = file.write_all(&records);
                self.file = Some(file);
                written
            }),
        };
        self.torn = written.is_err();
        written
    }
}

fn two_numbers(record: &[u8; RECORD_BYTES]) -> (u64, u64) {
    let (first, second) = record.split_at(8);
    let number = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half of 16 bytes"));
    (number(first), number(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head {
        total: 100,
        boot: Boot(7),
    };

    fn set(ranges: &[(u64, u64)]) -> ByteSet {
        ranges.iter().map(|&(start, end)| start..end).collect()
    }

    #[test]
    fn says_what_was_appended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map");
        let mut map = ByteMap::new(path.clone(), HEAD);
        map.append(&set(&[])).unwrap();
        assert!(!path.exists());
        map.append(&set(&[(0, 10), (50, 60)])).unwrap();
        let loaded = ByteMap::load(path.clone(), HEAD).unwrap().unwrap();
        assert_eq!(loaded.present, set(&[(0, 10), (50, 60)]));
        let mut map = loaded.map;
        map.append(&set(&[(10, 50)])).unwrap();
        let loaded = ByteMap::load(path.clone(), HEAD).unwrap().unwrap();
        assert_eq!(loaded.present, set(&[(0, 60)]));
    }

    #[test]
    fn a_torn_or_wild_record_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map");
        let mut map = ByteMap::new(path.clone(), HEAD);
        map.append(&set(&[(0, 10)])).unwrap();
        map.append(&set(&[(90, 101)])).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([1; 5]);
        fs::write(&path, bytes).unwrap();
        let mut loaded = ByteMap::load(path.clone(), HEAD).unwrap().unwrap();
        assert_eq!(loaded.present, set(&[(0, 10)]));
        loaded.map.append(&set(&[(20, 30)])).unwrap();
        let loaded = ByteMap::load(path.clone(), HEAD).unwrap().unwrap();
        assert_eq!(loaded.present, set(&[(0, 10), (20, 30)]));
    }

    #[test]
    fn other_files_are_not_maps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map");
        for content in [&b""[..], b"short", &[0; 64]] {
            fs::write(&path, content).unwrap();
            assert!(ByteMap::load(path.clone(), HEAD).unwrap().is_none());
        }
    }

    #[test]
    fn a_map_of_another_boot_or_length_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map");
        let mut map = ByteMap::new(path.clone(), HEAD);
        map.append(&set(&[(0, 10)])).unwrap();
        let boot = Boot(8);
        let total = 101;
        for other in [Head { boot, ..HEAD }, Head { total, ..HEAD }] {
            assert!(ByteMap::load(path.clone(), other).unwrap().is_none());
        }
        assert_ne!(Boot::current(), Boot(0), "this kernel tells");
    }
}
