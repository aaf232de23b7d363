//! The pinned digests, in a file that is replaced as a whole: one digest a line.
//!
//! Invariant: what is pinned in memory is what the file says.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use oci::Digest;

use super::StoreError;

pub(super) struct Pins {
    path: PathBuf,
    all: Mutex<BTreeSet<Digest>>,
}

impl Pins {
    /// Reads the file; a line that is no digest is left out with a warning.
    pub(super) fn load(path: PathBuf) -> io::Result<Self> {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let parse = |line: &str| {
            let digest = line.parse().ok();
            if digest.is_none() {
                tracing::warn!(path = %path.display(), line, "not a digest to pin");
            }
            digest
        };
        let all = text.lines().filter_map(parse).collect();
        let all = Mutex::new(all);
        Ok(Self { path, all })
    }

    pub(super) fn all(&self) -> BTreeSet<Digest> {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the set durably, then tells it to `apply`; both under the lock, so that two changes
    /// are applied in the order in which they were written.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&mut BTreeSet<Digest>) -> bool,
        apply: impl FnOnce(BTreeSet<Digest>),
    ) -> Result<(), StoreError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = all.clone();
        if change(&mut changed) {
            self.write(&changed)?;
            all.clone_from(&changed);
            apply(changed);
        }
        Ok(())
    }

    fn write(&self, all: &BTreeSet<Digest>) -> io::Result<()> {
        let text: String = all.iter().map(|digest| format!("{digest}\n")).collect();
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}
