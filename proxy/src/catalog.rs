//! The catalog: what manifests taught us about a place, on disk, so that it outlives a restart.
//!
//! Four kinds of fact: a manifest that was read in a place (its media type and size), what a tag
//! meant for an Accept class and when upstream last said so, a blob that belongs to a place, and
//! when a place was last served anonymously. It is an index only: bytes are in the store, and a
//! catalog that is lost costs some requests to upstream, nothing else. So a file that cannot be
//! read is put aside and begun anew, and a write that fails is logged and lives in memory.
//!
//! Invariant: nothing here is a right. Whether somebody may read is decided in `grants`.
//!
//! Notes go to a bounded memory before each table at once and to disk with the next `flush`, many
//! in one commit: no request waits for the disk, and a crash forgets what came after the last one.

mod shelf;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use oci::{Digest, Tag};
use redb::{Database, ReadableDatabase as _, ReadableTable as _};
use serde::{Deserialize, Serialize};

use crate::accept::AcceptClass;
use crate::place::Place;
use shelf::{Row, Shelf, Table};

/// Rows that may wait for a flush; more are only remembered (the disk does not take them).
const WAITING_MAX: usize = 65_536;
/// Pages that redb may keep in memory (its default is 1 GiB).
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// Seconds since the Unix epoch.
pub type UnixSeconds = u64;

/// A manifest read in a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFact {
    /// Content-Type byte for byte as upstream sent it.
    pub media_type: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was read.
    pub seen: UnixSeconds,
}

/// What a tag meant for one class of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meaning {
    /// The text of the Accept class.
    class: Box<str>,
    /// The manifest.
    pub digest: Digest,
    /// When upstream last confirmed it.
    pub seen: UnixSeconds,
}

/// What a tag meant, the latest confirmation first, at most [`MEANINGS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TagFact {
    meanings: Vec<Meaning>,
    seen: UnixSeconds,
}

/// Classes remembered of one tag; real clients make a handful.
const MEANINGS_MAX: usize = 8;

/// A blob that belongs to a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFact {
    /// The size that a manifest's descriptor claims; unknown when upstream only said yes.
    pub size: Option<u64>,
    /// When it was named or confirmed.
    pub seen: UnixSeconds,
}

/// A place that was served anonymously.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicFact {
    /// When upstream last did.
    pub seen: UnixSeconds,
}

/// Why the catalog could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Another process holds it: two nodes on one data folder.
    #[error("the catalog {0} is in use by another process")]
    InUse(PathBuf),
    /// The file system refuses.
    #[error("cannot open the catalog {path}: {cause}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Even a fresh file fails.
    #[error("cannot make the catalog {path}: {cause}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the database said.
        cause: Box<redb::Error>,
    },
}

/// The facts of all places.
pub struct Catalog {
    database: Database,
    manifests: Shelf<ManifestFact>,
    tags: Shelf<TagFact>,
    members: Shelf<MemberFact>,
    public: Shelf<PublicFact>,
    waiting: Mutex<Vec<Row>>,
    /// The last write failed, which was said once.
    ailing: AtomicBool,
}

impl Catalog {
    /// Opens or makes the file; one that is damaged is renamed aside with a warning. Blocking.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        let error = match Self::try_open(path) {
            Ok(catalog) => return Ok(catalog),
            Err(error) => error,
        };
        match error {
            redb::Error::DatabaseAlreadyOpen => Err(CatalogError::InUse(path.into())),
            redb::Error::Io(cause) if !means_damage(&cause) => Err(CatalogError::Io {
                path: path.into(),
                cause,
            }),
            damage => {
                let aside = put_aside(path).map_err(|cause| CatalogError::Io {
                    path: path.into(),
                    cause,
                })?;
                tracing::warn!(catalog = %path.display(), kept = %aside.display(), error = %damage,
                    "the catalog is damaged: begun anew, what was known of tags and rights is asked again");
                Self::try_open(path).map_err(|cause| CatalogError::Broken {
                    path: path.into(),
                    cause: Box::new(cause),
                })
            }
        }
    }

    fn try_open(path: &Path) -> Result<Self, redb::Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(PAGE_CACHE_BYTES);
        builder.set_check_integrity_on_open(true);
        let database = builder.create(path)?;
        let catalog = Self {
            database,
            manifests: Shelf::new("manifests"),
            tags: Shelf::new("tags"),
            members: Shelf::new("members"),
            public: Shelf::new("public"),
            waiting: Mutex::default(),
            ailing: AtomicBool::new(false),
        };
        let transaction = catalog.database.begin_write()?;
        for table in catalog.tables() {
            transaction.open_table(table)?;
        }
        transaction.commit()?;
        Ok(catalog)
    }

    fn tables(&self) -> [Table; 4] {
        [
            self.manifests.table,
            self.tags.table,
            self.members.table,
            self.public.table,
        ]
    }

    /// The manifest, if it was read in this place.
    pub fn manifest(&self, place: &Place, digest: &Digest) -> Option<ManifestFact> {
        self.manifests
            .get(&self.database, &of_digest(place, digest))
    }

    /// What the tag meant for this class.
    pub fn tag(&self, place: &Place, tag: &Tag, class: &AcceptClass) -> Option<Meaning> {
        let meanings = self.tag_for_all(place, tag);
        let wanted = |meaning: &Meaning| *meaning.class == *class.as_str();
        meanings.into_iter().find(wanted)
    }

    /// What the tag meant for any class, the latest first.
    pub fn tag_for_all(&self, place: &Place, tag: &Tag) -> Vec<Meaning> {
        let fact = self.tags.get(&self.database, &of_tag(place, tag));
        fact.unwrap_or_default().meanings
    }

    /// The blob, if it belongs to this place.
    pub fn member(&self, place: &Place, digest: &Digest) -> Option<MemberFact> {
        self.members.get(&self.database, &of_digest(place, digest))
    }

    /// When the place was last served anonymously.
    pub fn public(&self, place: &Place) -> Option<PublicFact> {
        self.public.get(&self.database, &place.to_string())
    }

    /// Manifests and blobs on disk of places that were public at `since` or later, at most `max`.
    /// Blocking.
    pub fn of_public(&self, since: UnixSeconds, max: usize) -> Vec<Digest> {
        let mut found = Vec::new();
        let read = |found: &mut Vec<Digest>| -> Result<(), redb::Error> {
            let transaction = self.database.begin_read()?;
            for row in transaction.open_table(self.public.table)?.iter()? {
                let (place, fact) = row?;
                let fact = serde_json::from_slice::<PublicFact>(fact.value());
                if !fact.is_ok_and(|fact| fact.seen >= since) {
                    continue;
                }
                // All keys that begin with the place and a line feed, see `key`.
                let (first, after) = (
                    format!("{}\n", place.value()),
                    format!("{}\x0b", place.value()),
                );
                for table in [self.manifests.table, self.members.table] {
                    let table = transaction.open_table(table)?;
                    for row in table.range(first.as_str()..after.as_str())? {
                        let (key, _) = row?;
                        found.extend(key.value()[first.len()..].parse::<Digest>());
                        if found.len() >= max {
                            return Ok(());
                        }
                    }
                }
            }
            Ok(())
        };
        if let Err(error) = read(&mut found) {
            tracing::warn!(%error, "what is public cannot be read from the catalog");
        }
        found
    }

    /// Notes facts: known at once, on disk with the next flush.
    pub fn note(&self, notes: Vec<Note>) {
        let rows: Vec<Row> = notes.into_iter().map(|note| self.remember(note)).collect();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() + rows.len() <= WAITING_MAX {
            waiting.extend(rows);
        }
    }

    fn remember(&self, note: Note) -> Row {
        match note {
            Note::Manifest(place, digest, fact) => {
                self.manifests.remember(of_digest(&place, &digest), fact)
            }
            Note::Tag(place, tag, class, digest, seen) => {
                let mut meanings = self.tag_for_all(&place, &tag);
                meanings.retain(|meaning| *meaning.class != *class.as_str());
                meanings.truncate(MEANINGS_MAX - 1);
                let class = class.as_str().into();
                let meaning = Meaning {
                    class,
                    digest,
                    seen,
                };
                meanings.insert(0, meaning);
                let fact = TagFact { meanings, seen };
                self.tags.remember(of_tag(&place, &tag), fact)
            }
            Note::Member(place, digest, fact) => {
                self.members.remember(of_digest(&place, &digest), fact)
            }
            Note::Public(place, fact) => self.public.remember(place.to_string(), fact),
            Note::TagGone(place, tag) => self.tags.forget(of_tag(&place, &tag)),
            Note::NotPublic(place) => self.public.forget(place.to_string()),
            Note::ManifestGone(place, digest) => self.manifests.forget(of_digest(&place, &digest)),
            Note::MemberGone(place, digest) => self.members.forget(of_digest(&place, &digest)),
        }
    }

    /// Whether a flush would write something.
    pub fn is_dirty(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        !waiting.is_empty()
    }

    /// Writes all that was noted and makes it durable. Blocking: it waits for the disk.
    pub fn flush(&self) {
        let rows = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        if rows.is_empty() {
            return;
        }
        let written = self.write(&rows);
        let ailed = self.ailing.swap(written.is_err(), Ordering::Relaxed);
        if let (Err(error), false) = (written, ailed) {
            tracing::warn!(%error,
                "the catalog cannot be written: what is new is forgotten at exit");
        }
    }

    fn write(&self, rows: &[Row]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        for row in rows {
            let mut table = transaction.open_table(row.table)?;
            match &row.value {
                Some(value) => table.insert(row.key.as_str(), value.as_slice())?,
                None => table.remove(row.key.as_str())?,
            };
        }
        transaction.commit()?;
        Ok(())
    }

    /// Drops what was last seen before `before`. Blocking.
    pub fn prune(&self, before: UnixSeconds) {
        self.flush();
        let prune = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            for table in self.tables() {
                let mut table = transaction.open_table(table)?;
                table.retain(|_, value| {
                    serde_json::from_slice::<PublicFact>(value)
                        .is_ok_and(|fact| fact.seen >= before)
                })?;
            }
            transaction.commit()?;
            Ok(())
        };
        if let Err(error) = prune() {
            tracing::warn!(%error, "old facts of the catalog cannot be dropped");
        }
    }
}

/// One thing to note.
#[derive(Clone, Debug)]
pub enum Note {
    /// A manifest was read here.
    Manifest(Place, Digest, ManifestFact),
    /// A tag means this now, for this class of clients.
    Tag(Place, Tag, AcceptClass, Digest, UnixSeconds),
    /// A blob belongs here.
    Member(Place, Digest, MemberFact),
    /// The place was served anonymously.
    Public(Place, PublicFact),
    /// The tag is gone.
    TagGone(Place, Tag),
    /// The place is not served anonymously.
    NotPublic(Place),
    /// The place has this manifest no more.
    ManifestGone(Place, Digest),
    /// The place has this blob no more.
    MemberGone(Place, Digest),
}

fn of_digest(place: &Place, digest: &Digest) -> String {
    key(place, digest)
}

fn of_tag(place: &Place, tag: &Tag) -> String {
    key(place, tag)
}

/// Made several times per request, so in one allocation.
fn key(place: &Place, what: &impl std::fmt::Display) -> String {
    use std::fmt::Write as _;
    let mut key = String::with_capacity(256);
    // Writing into a string does not fail.
    let _ = write!(key, "{place}\n{what}");
    key
}

/// Whether an I/O error speaks of the file's content and not of the system.
fn means_damage(cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    matches!(cause.kind(), InvalidData | UnexpectedEof)
}

fn put_aside(path: &Path) -> std::io::Result<PathBuf> {
    for count in 0u32.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{count}"));
        let aside = PathBuf::from(name);
        if !aside.try_exists()? {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    unreachable!("a folder does not hold four billion damaged catalogs")
}

#[cfg(test)]
mod tests;
