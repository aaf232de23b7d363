//! The start of a disk store: what the folder holds becomes the index.
//!
//! Only names, sizes and times are read, and the maps of partials: microseconds a file. What was
//! verified but not synced becomes a whole partial; whole partials are hashed in the background and
//! published or thrown away. Other partials of an earlier boot are thrown away. Leftovers of our own are deleted, files of others left alone.

use std::collections::HashMap;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oci::{Algorithm, Digest, Hasher};

use super::byte_map::ByteMap;
use super::entries::{Filling, Held};
use super::evict::Reads;
use super::index::{PartialKey, Shelved};
use super::layout::{self, Name, Trash};
use super::shelf::Shelf;
use super::{ByteSet, PartialBlob, ScopeTag, StoreError};

/// Read size when hashing; stays in the second-level cache.
const READ_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Found {
    held: Vec<(Digest, Metadata)>,
    verified: Vec<(Digest, u64)>,
    partials: HashMap<PartialKey, u64>,
    maps: Vec<PartialKey>,
    unknown: u64,
}

/// Fills the empty index; returns the partials that are whole.
pub(super) fn recover(shelf: &Shelf) -> io::Result<Vec<(PartialKey, u64)>> {
    let mut found = Found::default();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for folder in fs::read_dir(shelf.layout.blobs(algorithm))? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                found.unknown += 1;
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                found.add(algorithm, &folder, &file?)?;
            }
        }
    }
    let mut trash = Trash::default();
    found.keep_unsynced(shelf, &mut trash)?;
    let whole = found.shelve_partials(shelf, &mut trash)?;
    let mut state = shelf.state();
    for (digest, metadata) in found.held {
        let last_use = last_use(&metadata);
        let entry = Shelved {
            content: Held::closed(last_use),
            len: metadata.len(),
            last_use,
            reads: layout::reads(&metadata),
        };
        state.index.add_held(digest, entry);
    }
    let usage = state.index.usage();
    tracing::info!(
        blobs = usage.held_blobs,
        bytes = usage.held_bytes,
        partials = usage.partial_blobs,
        "store opened"
    );
    if found.unknown > 0 {
        let path = shelf.layout.root().display();
        tracing::warn!(files = found.unknown, %path, "unknown files among the blobs, left alone");
    }
    Ok(whole)
}

impl Found {
    fn add(&mut self, algorithm: Algorithm, folder: &DirEntry, file: &DirEntry) -> io::Result<()> {
        let name = file.file_name();
        let parsed = name.to_str().and_then(|name| {
            let first_two = folder.file_name();
            let in_place = first_two
                .to_str()
                .is_some_and(|two| name.get(..2) == Some(two));
            Name::parse(algorithm, name).filter(|_| in_place)
        });
        let metadata = file.metadata()?;
        match parsed.filter(|_| metadata.is_file()) {
            Some(Name::Held(digest)) => self.held.push((digest, metadata)),
            Some(Name::Verified(digest)) => self.verified.push((digest, metadata.len())),
            Some(Name::Partial(key)) => {
                self.partials.insert(key, metadata.len());
            }
            Some(Name::Map(key)) => self.maps.push(key),
            None => self.unknown += 1,
        }
        Ok(())
    }

    /// Turns verified but unsynced blobs into whole partials, to be hashed again.
    fn keep_unsynced(&mut self, shelf: &Shelf, trash: &mut Trash) -> io::Result<()> {
        for (digest, len) in self.verified.drain(..) {
            let key = (digest, ScopeTag::VERIFIED);
            shelf.layout.throw_partial(&key, trash);
            self.partials.insert(key, len);
            if !self.maps.contains(&key) {
                self.maps.push(key);
            }
            fs::rename(shelf.layout.verified(&digest), shelf.layout.partial(&key))?;
            let mut map = ByteMap::new(shelf.layout.map(&key), shelf.head(len));
            let all: ByteSet = std::iter::once(0..len).collect();
            if let Err(error) = map.append(&all) {
                tracing::warn!(%digest, %error, "an unsynced blob cannot be kept");
                shelf.layout.throw_partial(&key, trash);
                self.partials.remove(&key);
            }
        }
        Ok(())
    }

    fn shelve_partials(
        &mut self,
        shelf: &Shelf,
        trash: &mut Trash,
    ) -> io::Result<Vec<(PartialKey, u64)>> {
        let mut whole = Vec::new();
        for key in self.maps.drain(..) {
            let path = shelf.layout.map(&key);
            let Some(len) = self.partials.remove(&key) else {
                shelf.layout.throw(&path, trash);
                continue;
            };
            let Some(loaded) = ByteMap::load(path.clone(), shelf.head(len))? else {
                shelf.layout.throw_partial(&key, trash);
                continue;
            };
            if loaded.present.contains(0..len) {
                whole.push((key, len));
            }
            let entry = Shelved {
                content: Filling::Idle(std::sync::Weak::new()),
                len,
                last_use: last_use(&fs::metadata(&path)?),
                reads: Reads::Once,
            };
            shelf.state().index.add_partial(key, entry);
        }
        for key in self.partials.keys() {
            shelf.layout.throw_partial(key, trash);
        }
        Ok(whole)
    }
}

/// Hashes whole partials and publishes those that have their digest; ends early at the stop.
pub(super) fn adopt(shelf: &Arc<Shelf>, whole: &[(PartialKey, u64)]) {
    for &(key, total) in whole {
        if shelf.keeper.stopped_within(Duration::ZERO) {
            return;
        }
        match adopt_one(shelf, key, total) {
            Ok(true) => tracing::info!(digest = key.0.short(), "unsynced blob kept"),
            Ok(false) => tracing::warn!(digest = key.0.short(), "unsynced blob lost bytes"),
            Err(error) => {
                tracing::warn!(digest = key.0.short(), %error, "unsynced blob cannot be kept");
            }
        }
    }
}

fn adopt_one(shelf: &Arc<Shelf>, key: PartialKey, total: u64) -> Result<bool, StoreError> {
    let partial = shelf.begin(key, total)?;
    let mut hasher = Hasher::new(key.0.algorithm());
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < total {
        let length = (total - offset).min(READ_BYTES as u64) as usize;
        partial.read_at(offset, &mut buffer[..length])?;
        hasher.update(&buffer[..length]);
        offset += length as u64;
    }
    if hasher.finish() == key.0 {
        partial.publish()?;
        Ok(true)
    } else {
        partial.discard();
        Ok(false)
    }
}

fn last_use(metadata: &Metadata) -> SystemTime {
    let epoch = SystemTime::UNIX_EPOCH;
    let read = metadata.accessed().unwrap_or(epoch);
    read.max(metadata.modified().unwrap_or(epoch))
}
