//! Whole files: read with mode and owner, written by temporary file, fsync and rename.
//!
//! Invariant: a reader sees the old file or the new one, never part of one; what is replaced keeps
//! its mode and owner.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const FILE_MODE: u32 = 0o644;

/// A file as it is, or was.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The content.
    pub(crate) bytes: Vec<u8>,
    /// The permission bits.
    pub(crate) mode: u32,
    /// The owner.
    pub(crate) uid: u32,
    /// The group.
    pub(crate) gid: u32,
}

/// The file, or `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Snapshot>, Failure> {
    let failed = |error: &io::Error| failed("read", path, error);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    if !metadata.is_file() {
        return Err(Failure::new(format!("{} is not a file", path.display()))
            .hint("move it away, then run darner setup again"));
    }
    Ok(Some(Snapshot {
        bytes: fs::read(path).map_err(|error| failed(&error))?,
        mode: metadata.permissions().mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    }))
}

/// The text of a file, or `None` if there is none.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    let Some(snapshot) = read(path)? else {
        return Ok(None);
    };
    String::from_utf8(snapshot.bytes).map(Some).map_err(|_| {
        Failure::new(format!("{} is not UTF-8 text", path.display()))
            .hint("repair the file, then run darner setup again")
    })
}

/// Where a path leads: a link is followed, so that the link stays and its target is replaced.
pub(crate) fn target(path: &Path) -> Result<PathBuf, Failure> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => fs::canonicalize(path).map_err(|error| {
            Failure::new(format!(
                "{} is a link that leads nowhere: {error}",
                path.display()
            ))
            .hint("repair or remove the link, then run darner setup again")
        }),
        _ => Ok(path.to_owned()),
    }
}

/// Replaces or makes the file, with the mode and owner of `like`.
pub(crate) fn write(path: &Path, bytes: &[u8], like: Option<&Snapshot>) -> Result<(), Failure> {
    write_io(path, bytes, like).map_err(|error| failed("write", path, &error))
}

fn write_io(path: &Path, bytes: &[u8], like: Option<&Snapshot>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folders(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.darner-{}", std::process::id()));
    let written = write_temporary(&temporary, bytes, like)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| sync_folder(folder));
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_temporary(path: &Path, bytes: &[u8], like: Option<&Snapshot>) -> io::Result<()> {
    let mode = like.map_or(FILE_MODE, |like| like.mode);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    if let Some(like) = like {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (like.uid, like.gid) {
            std::os::unix::fs::fchown(&file, Some(like.uid), Some(like.gid))?;
        }
    }
    // Last, because changing the owner clears set-id bits; and not subject to the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Removes a file and those of the folders made for it that are empty now.
pub(crate) fn remove(path: &Path, made: &[PathBuf]) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("remove", path, &error));
        }
        _ => {}
    }
    for folder in made.iter().rev() {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    let remaining = path.ancestors().skip(1).find(|folder| folder.exists());
    if let Some(folder) = remaining {
        sync_folder(folder).map_err(|error| failed("sync", folder, &error))?;
    }
    Ok(())
}

/// The folders above `path` that do not exist, outermost first.
pub(crate) fn missing_folders(path: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = path
        .ancestors()
        .skip(1)
        .take_while(|folder| !folder.exists())
        .map(Path::to_owned)
        .collect();
    missing.reverse();
    missing
}

fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    match folder.parent() {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// A file operation that did not work.
pub(crate) fn failed(verb: &str, path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            Failure::new(format!("cannot {verb} {path}: permission denied"))
                .hint("run it as root: sudo darner setup ...")
        }
        ErrorKind::ReadOnlyFilesystem => Failure::new(format!(
            "cannot {verb} {path}: the file system is read-only"
        ))
        .hint("make it writable, or name another folder with --config-path or --data-dir"),
        _ => Failure::new(format!("cannot {verb} {path}: {error}"))
            .hint("nothing was changed; mend that and run it again"),
    }
}
