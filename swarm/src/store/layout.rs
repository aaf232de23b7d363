//! Names and places of the store's files; the only file that knows how the data folder looks.
//!
//! ```text
//! store.lock, pins              one process at a time; pinned digests, one a line
//! blobs/sha256/ab/<hex>         complete, verified and synced
//! blobs/sha256/ab/<hex>.verified    complete and verified, its data not yet synced
//! blobs/sha256/ab/<hex>.<scope>.partial and .map    arriving, and which bytes of it are there
//! trash/, quarantine/           on its way out; found rotten
//! ```
//! A blob's access time is its last use, and its sticky bit, which says nothing else of a file, that
//! it was read again since it was stored.
//!
//! Invariant: a file leaves its name by a rename into `trash`, under the index's lock, so that a
//! slow unlink can never hit a newer file of the same name.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use oci::{Algorithm, Digest};
use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens};

use super::evict::Reads;
use super::index::PartialKey;
use super::{BlobFile, ScopeTag};

/// Rotten files kept for a person to look at; older ones are deleted.
const QUARANTINED_MOST: usize = 4;

#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    next_trash: AtomicU64,
}

/// What a file in a blob folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Held(Digest),
    Verified(Digest),
    Partial(PartialKey),
    Map(PartialKey),
}

impl Layout {
    /// Makes the folders that are missing and empties the trash.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        for folder in ["blobs/sha256", "blobs/sha512", "trash", "quarantine"] {
            make_folders(&root.join(folder))?;
        }
        for leftover in fs::read_dir(root.join("trash"))? {
            fs::remove_file(leftover?.path())?;
        }
        Ok(Self {
            root: root.to_owned(),
            next_trash: AtomicU64::new(0),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    pub(super) fn folder(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(&digest.hex()[..2])
    }

    pub(super) fn held(&self, digest: &Digest) -> PathBuf {
        self.folder(digest).join(digest.hex())
    }

    pub(super) fn verified(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}.verified", digest.hex());
        self.folder(digest).join(name)
    }

    pub(super) fn partial(&self, (digest, scope): &PartialKey) -> PathBuf {
        let name = format!("{}.{scope}.partial", digest.hex());
        self.folder(digest).join(name)
    }

    pub(super) fn map(&self, (digest, scope): &PartialKey) -> PathBuf {
        let name = format!("{}.{scope}.map", digest.hex());
        self.folder(digest).join(name)
    }

    pub(super) fn make_folder(&self, digest: &Digest) -> io::Result<()> {
        make_folders(&self.folder(digest))
    }

    /// Makes the renames of a blob durable.
    pub(super) fn sync_folder(&self, digest: &Digest) -> io::Result<()> {
        File::open(self.folder(digest))?.sync_all()
    }

    /// Takes a file's name away; the file is gone once `trash` is dropped. Fast.
    pub(super) fn throw(&self, path: &Path, trash: &mut Trash) {
        let number = self.next_trash.fetch_add(1, Ordering::Relaxed);
        let to = self.root.join("trash").join(number.to_string());
        match fs::rename(path, &to) {
            Ok(()) => trash.files.push(to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "file cannot be removed"),
        }
    }

    /// Throws a partial and its map.
    pub(super) fn throw_partial(&self, key: &PartialKey, trash: &mut Trash) {
        self.throw(&self.partial(key), trash);
        self.throw(&self.map(key), trash);
    }

    /// Puts a rotten file aside and deletes all but the newest ones there.
    pub(super) fn quarantine(&self, path: &Path, digest: &Digest) -> io::Result<PathBuf> {
        let folder = self.root.join("quarantine");
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let to = folder.join(name);
        fs::rename(path, &to)?;
        let mut aside = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.path() != to {
                aside.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        aside.sort();
        let too_many = (aside.len() + 1).saturating_sub(QUARANTINED_MOST);
        for (_, old) in aside.drain(..too_many) {
            fs::remove_file(old)?;
        }
        Ok(to)
    }
}

/// Files without a name, unlinked when this is dropped. That can take tens of milliseconds for a
/// large one, so declare it before the lock's guard.
#[derive(Debug, Default)]
pub(super) struct Trash {
    files: Vec<PathBuf>,
}

impl Drop for Trash {
    fn drop(&mut self) {
        for path in &self.files {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "file cannot be unlinked");
            }
        }
    }
}

impl Name {
    /// Reads the name of a file below `blobs/<algorithm>/<first two digits>/`.
    pub(super) fn parse(algorithm: Algorithm, name: &str) -> Option<Self> {
        let (hex, rest) = name.split_once('.').unwrap_or((name, ""));
        let digest = format!("{}:{hex}", algorithm.name()).parse().ok()?;
        match rest.split_once('.') {
            None if rest.is_empty() && !name.contains('.') => Some(Self::Held(digest)),
            None if rest == "verified" => Some(Self::Verified(digest)),
            Some((scope, "partial")) => Some(Self::Partial((digest, ScopeTag::parse(scope)?))),
            Some((scope, "map")) => Some(Self::Map((digest, ScopeTag::parse(scope)?))),
            _ => None,
        }
    }
}

impl ScopeTag {
    fn parse(text: &str) -> Option<Self> {
        let number = u64::from_str_radix(text, 16).ok()?;
        let tag = Self(number.to_be_bytes());
        (tag.to_string() == text).then_some(tag)
    }
}

/// Writes the last use down as the file's access time; whether it succeeds matters little.
pub(super) fn touch(file: &BlobFile, now: SystemTime) {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: since.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: since.subsec_nanos().into(),
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    if let Err(error) = futimens(file.fd(), &times) {
        tracing::debug!(%error, "last use of a blob cannot be written down");
    }
}

/// Writes down that the blob was read again; whether it succeeds matters as little.
pub(super) fn mark_read_again(file: &BlobFile) {
    let mode = Mode::RUSR | Mode::WUSR | Mode::SVTX;
    if let Err(error) = fchmod(file.fd(), mode) {
        tracing::debug!(%error, "that a blob was read again cannot be written down");
    }
}

/// What was written down of how often a held blob was read.
pub(super) fn reads(metadata: &Metadata) -> Reads {
    match Mode::from_raw_mode(metadata.mode()).contains(Mode::SVTX) {
        true => Reads::Again,
        false => Reads::Once,
    }
}

/// Private blobs may lie here: nobody else may look in.
fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_names_that_it_gives() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"x");
            let key = (digest, ScopeTag::of("docker.io"));
            let parse = |path: PathBuf| {
                assert_eq!(path.parent(), Some(layout.folder(&digest).as_path()));
                Name::parse(algorithm, path.file_name()?.to_str()?)
            };
            assert_eq!(parse(layout.held(&digest)), Some(Name::Held(digest)));
            assert_eq!(
                parse(layout.verified(&digest)),
                Some(Name::Verified(digest))
            );
            assert_eq!(parse(layout.partial(&key)), Some(Name::Partial(key)));
            assert_eq!(parse(layout.map(&key)), Some(Name::Map(key)));
        }
    }

    #[test]
    fn other_names_are_nobodys() {
        let hex = Digest::sha256(b"x").hex();
        let short = &hex[1..];
        for name in [
            format!("{hex}."),
            format!("{hex}.tmp"),
            format!("{hex}.partial"),
            format!("{hex}.+123456789abcdef.partial"),
            format!("{hex}.0123456789ABCDEF.map"),
            format!("{hex}.0123456789abcdef.map~"),
            short.to_owned(),
            String::new(),
        ] {
            assert_eq!(Name::parse(Algorithm::Sha256, &name), None, "{name}");
        }
    }

    #[test]
    fn quarantine_keeps_the_newest_few() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let mut last = None;
        for number in 0..10u8 {
            let path = folder.path().join("rotten");
            fs::write(&path, [number]).unwrap();
            last = Some(
                layout
                    .quarantine(&path, &Digest::sha256(&[number]))
                    .unwrap(),
            );
        }
        let kept = fs::read_dir(folder.path().join("quarantine"))
            .unwrap()
            .count();
        assert_eq!(kept, QUARANTINED_MOST);
        assert!(last.unwrap().exists());
    }
}
