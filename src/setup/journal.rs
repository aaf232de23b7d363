//! What `setup` has changed on this machine and what was there before, so that `--undo` puts it
//! back byte for byte: content, mode, owner, or absence.
//!
//! Invariant: backup and journal are on disk before the first file changes, so a crash at any
//! moment leaves something that undo understands. Deliberately not here: what the files mean.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use oci::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::cli::Client;
use crate::failure::Failure;
use crate::setup::files::{self, Snapshot};

const VERSION: u32 = 1;

/// The journal of one client, in its own folder beside its backups.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    records: Vec<Record>,
}

/// One changed file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    path: PathBuf,
    /// What was there; `None`: nothing.
    before: Option<Backup>,
    /// What setup wrote.
    after: String,
    /// Folders that setup made for it, outermost first.
    made: Vec<PathBuf>,
    /// Copies of what the operator made of it between two runs of setup.
    edited: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Backup {
    /// A file beside the journal.
    name: String,
    digest: String,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    files: Vec<Record>,
}

/// A file that shall have this content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which file; not a symbolic link.
    pub(crate) path: PathBuf,
    /// Its whole new content.
    pub(crate) content: String,
}

/// What undo did with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undone {
    /// It is again what it was.
    Restored(PathBuf),
    /// It was not there before and is gone again.
    Removed(PathBuf),
    /// It was already as before.
    Untouched(PathBuf),
    /// Somebody changed it since: left alone. The backup, if there was something before.
    Changed(PathBuf, Option<PathBuf>),
}

impl Journal {
    /// The journal of `client` in the folder of all of them; empty if setup never ran.
    pub(crate) fn open(state: &Path, client: Client) -> Result<Self, Failure> {
        let folder = state.join(client.name());
        let path = folder.join("journal.json");
        let records = match fs::read(&path) {
            Ok(bytes) => {
                let on_disk: OnDisk = serde_json::from_slice(&bytes)
                    .map_err(|error| broken(&path, &error.to_string()))?;
                if on_disk.version != VERSION {
                    return Err(broken(&path, "another version of darner wrote it"));
                }
                on_disk.files
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(files::failed("read", &path, &error)),
        };
        Ok(Self { folder, records })
    }

    /// Whether setup has changed nothing, or all is undone.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What a file says without us: its content before setup while nobody else changed it since,
    /// else what is there now. New content is made from this, so that setup can run again.
    pub(crate) fn base(&self, path: &Path) -> Result<Option<String>, Failure> {
        let now = files::read(path)?;
        let bytes = match (self.record(path), now) {
            (Some(record), Some(now)) if digest(&now.bytes) == record.after => {
                match &record.before {
                    Some(backup) => Some(self.backup_bytes(backup)?),
                    None => None,
                }
            }
            (_, now) => now.map(|now| now.bytes),
        };
        bytes
            .map(|bytes| {
                String::from_utf8(bytes).map_err(|_| {
                    Failure::new(format!("{} is not UTF-8 text", path.display()))
                        .hint("repair the file, then run darner setup again")
                })
            })
            .transpose()
    }

    /// Makes the changes, all or none: after a failure everything is as it was.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let previous = self.records.clone();
        let existed = self.folder.exists();
        let mut snapshots = Vec::new();
        for change in changes {
            let now = files::read(&change.path)?;
            self.note(change, now.as_ref())?;
            snapshots.push((change, now));
        }
        let made_folder = !existed;
        self.save()?;
        for (done, (change, now)) in snapshots.iter().enumerate() {
            if let Err(failure) =
                files::write(&change.path, change.content.as_bytes(), now.as_ref())
            {
                for (change, now) in snapshots[..=done].iter().rev() {
                    self.put_back(&change.path, now.as_ref())?;
                }
                self.records = previous;
                if made_folder {
                    self.remove()?;
                } else {
                    self.save()?;
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Puts everything back; records of files that were left alone stay for another try.
    pub(crate) fn undo(&mut self) -> Result<Vec<Undone>, Failure> {
        let mut outcome = Vec::new();
        let mut left = Vec::new();
        while let Some(record) = self.records.pop() {
            match self.undo_one(&record) {
                Ok(done) => {
                    if matches!(done, Undone::Changed(..)) {
                        left.insert(0, record);
                    }
                    outcome.push(done);
                }
                Err(failure) => {
                    self.records.push(record);
                    self.records.append(&mut left);
                    self.save()?;
                    return Err(failure);
                }
            }
        }
        self.records = left;
        if self.records.is_empty() {
            self.remove()?;
        } else {
            self.save()?;
        }
        Ok(outcome)
    }

    /// Copies of the operator's own edits between two runs, which undo does not bring back.
    pub(crate) fn edits(&self) -> Vec<PathBuf> {
        let names = self.records.iter().flat_map(|record| &record.edited);
        names.map(|name| self.folder.join(name)).collect()
    }

    fn undo_one(&self, record: &Record) -> Result<Undone, Failure> {
        let path = record.path.clone();
        let now = files::read(&path)?;
        let now_digest = now.as_ref().map(|now| digest(&now.bytes));
        let as_before = now_digest.as_ref() == record.before.as_ref().map(|b| &b.digest);
        let as_written = now_digest.as_ref() == Some(&record.after);
        match (&record.before, now) {
            _ if as_before && !as_written => Ok(Undone::Untouched(path)),
            (before, Some(_)) if !as_written => {
                let backup = before.as_ref().map(|backup| self.folder.join(&backup.name));
                Ok(Undone::Changed(path, backup))
            }
            (Some(backup), _) => {
                let snapshot = Snapshot {
                    bytes: self.backup_bytes(backup)?,
                    mode: backup.mode,
                    uid: backup.uid,
                    gid: backup.gid,
                };
                files::write(&path, &snapshot.bytes, Some(&snapshot))?;
                Ok(Undone::Restored(path))
            }
            (None, _) => {
                files::remove(&path, &record.made)?;
                Ok(Undone::Removed(path))
            }
        }
    }

    fn put_back(&self, path: &Path, was: Option<&Snapshot>) -> Result<(), Failure> {
        match was {
            Some(snapshot) => files::write(path, &snapshot.bytes, Some(snapshot)),
            None => {
                let made = self.record(path).map_or(&[][..], |record| &record.made);
                files::remove(path, made)
            }
        }
    }

    fn record(&self, path: &Path) -> Option<&Record> {
        self.records.iter().find(|record| record.path == path)
    }

    /// Records a change that is about to be made, with a copy of what is there.
    fn note(&mut self, change: &Change, now: Option<&Snapshot>) -> Result<(), Failure> {
        let after = digest(change.content.as_bytes());
        let known = self.records.iter().position(|r| r.path == change.path);
        let Some(index) = known else {
            let before = now.map(|now| self.back_up(&change.path, now)).transpose()?;
            self.records.push(Record {
                path: change.path.clone(),
                before,
                after,
                made: files::missing_folders(&change.path),
                edited: Vec::new(),
            });
            return Ok(());
        };
        let edited_since = now.filter(|now| digest(&now.bytes) != self.records[index].after);
        if let Some(now) = edited_since {
            let copy = self.back_up(&change.path, now)?;
            self.records[index].edited.push(copy.name);
        }
        self.records[index].after = after;
        Ok(())
    }

    fn back_up(&self, path: &Path, now: &Snapshot) -> Result<Backup, Failure> {
        let digest = digest(&now.bytes);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let taken = self.records.iter().map(|record| 1 + record.edited.len());
        let number: usize = taken.sum();
        let name = format!("{number}-{}-{file}", &digest[..8]);
        let private = Snapshot {
            bytes: Vec::new(),
            mode: 0o600,
            ..now.clone()
        };
        files::write(&self.folder.join(&name), &now.bytes, Some(&private))?;
        Ok(Backup {
            name,
            digest,
            mode: now.mode,
            uid: now.uid,
            gid: now.gid,
        })
    }

    fn backup_bytes(&self, backup: &Backup) -> Result<Vec<u8>, Failure> {
        let path = self.folder.join(&backup.name);
        let bytes = fs::read(&path).map_err(|error| files::failed("read", &path, &error))?;
        if digest(&bytes) != backup.digest {
            return Err(broken(&path, "the backup is not what was put there"));
        }
        Ok(bytes)
    }

    fn save(&self) -> Result<(), Failure> {
        let on_disk = OnDisk {
            version: VERSION,
            files: self.records.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&on_disk)
            .map_err(|error| Failure::new(format!("the journal cannot be written: {error}")))?;
        bytes.push(b'\n');
        files::write(&self.folder.join("journal.json"), &bytes, None)
    }

    fn remove(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(files::failed("remove", &self.folder, &error))
            }
            _ => {
                // The folder above goes too once it is empty; that it is not is no failure.
                if let Some(parent) = self.folder.parent() {
                    let _ = fs::remove_dir(parent);
                }
                Ok(())
            }
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    Digest::sha256(bytes).hex()
}

fn broken(path: &Path, why: &str) -> Failure {
    Failure::new(format!("{} cannot be used: {why}", path.display()))
        .hint("the backups are beside it: put the files back by hand, then remove that folder")
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
