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

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use oci::{Digest, Tag};
use quick_cache::sync::Cache;
use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::accept::AcceptClass;
use crate::place::Place;

/// Entries of each table kept in memory; about 200 bytes each.
const REMEMBERED_MAX: usize = 8192;
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

/// What a tag meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagFact {
    /// The manifest.
    pub digest: Digest,
    /// When upstream last confirmed it.
    pub seen: UnixSeconds,
}

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
    pub fn tag(&self, place: &Place, tag: &Tag, class: &AcceptClass) -> Option<TagFact> {
        self.tags.get(&self.database, &of_tag(place, tag, class))
    }

    /// What the tag meant for any class, the latest first. Blocking: it flushes.
    pub fn tag_of_any_class(&self, place: &Place, tag: &Tag) -> Vec<TagFact> {
        let prefix = format!("{place}\n{tag}\n");
        self.flush();
        let mut facts = self.tags.under(&self.database, &prefix);
        facts.sort_by_key(|fact: &TagFact| std::cmp::Reverse(fact.seen));
        facts
    }

    /// The blob, if it belongs to this place.
    pub fn member(&self, place: &Place, digest: &Digest) -> Option<MemberFact> {
        self.members.get(&self.database, &of_digest(place, digest))
    }

    /// When the place was last served anonymously.
    pub fn public(&self, place: &Place) -> Option<PublicFact> {
        self.public.get(&self.database, &place.to_string())
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
            Note::Tag(place, tag, class, fact) => {
                self.tags.remember(of_tag(&place, &tag, &class), fact)
            }
            Note::Member(place, digest, fact) => {
                self.members.remember(of_digest(&place, &digest), fact)
            }
            Note::Public(place, fact) => self.public.remember(place.to_string(), fact),
            Note::TagGone(place, tag, class) => self.tags.forget(of_tag(&place, &tag, &class)),
            Note::NotPublic(place) => self.public.forget(place.to_string()),
        }
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
        if let Err(error) = self.write(&rows) {
            tracing::warn!(%error, rows = rows.len(),
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
    /// A tag means this now.
    Tag(Place, Tag, AcceptClass, TagFact),
    /// A blob belongs here.
    Member(Place, Digest, MemberFact),
    /// The place was served anonymously.
    Public(Place, PublicFact),
    /// The tag is gone or may not be read.
    TagGone(Place, Tag, AcceptClass),
    /// The place is not served anonymously.
    NotPublic(Place),
}

type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// A row to write: no value means to delete it.
struct Row {
    table: Table,
    key: String,
    value: Option<Vec<u8>>,
}

/// A table and the memory before it.
struct Shelf<F> {
    table: Table,
    memory: Cache<String, Remembered<F>>,
}

/// What the memory says of a key; a fact that is gone is known to be gone before the next flush.
#[derive(Clone)]
enum Remembered<F> {
    Is(F),
    Gone,
}

impl<F: Clone + Serialize + DeserializeOwned> Shelf<F> {
    fn new(name: &'static str) -> Self {
        Self {
            table: TableDefinition::new(name),
            memory: Cache::new(REMEMBERED_MAX),
        }
    }

    fn get(&self, database: &Database, key: &str) -> Option<F> {
        match self.memory.get(key) {
            Some(Remembered::Is(fact)) => return Some(fact),
            Some(Remembered::Gone) => return None,
            None => {}
        }
        let read = || -> Result<Option<F>, redb::Error> {
            let table = database.begin_read()?.open_table(self.table)?;
            let row = table.get(key)?;
            Ok(row.and_then(|value| serde_json::from_slice(value.value()).ok()))
        };
        let fact = read().unwrap_or_else(|error| {
            tracing::debug!(%error, "the catalog cannot be read");
            None
        })?;
        self.memory
            .insert(key.to_owned(), Remembered::Is(fact.clone()));
        Some(fact)
    }

    fn under(&self, database: &Database, prefix: &str) -> Vec<F> {
        let read = || -> Result<Vec<F>, redb::Error> {
            let table = database.begin_read()?.open_table(self.table)?;
            let mut facts = Vec::new();
            for row in table.range(prefix..)?.take(UNDER_MAX) {
                let (key, value) = row?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                facts.extend(serde_json::from_slice(value.value()).ok());
            }
            Ok(facts)
        };
        read().unwrap_or_default()
    }

    fn remember(&self, key: String, fact: F) -> Row {
        let value = serde_json::to_vec(&fact).expect("facts are plain data");
        self.memory.insert(key.clone(), Remembered::Is(fact));
        Row {
            table: self.table,
            key,
            value: Some(value),
        }
    }

    fn forget(&self, key: String) -> Row {
        self.memory.insert(key.clone(), Remembered::Gone);
        Row {
            table: self.table,
            key,
            value: None,
        }
    }
}

/// Classes of one tag looked at for a fallback; real clients make a handful.
const UNDER_MAX: usize = 32;

fn of_digest(place: &Place, digest: &Digest) -> String {
    format!("{place}\n{digest}")
}

fn of_tag(place: &Place, tag: &Tag, class: &AcceptClass) -> String {
    format!("{place}\n{tag}\n{}", class.as_str())
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
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            registry: "quay.io".parse().unwrap(),
            repository: "a/b".parse().unwrap(),
        }
    }

    fn notes() -> Vec<Note> {
        let digest = Digest::sha256(b"m");
        let class = AcceptClass::of(&http::HeaderMap::new());
        vec![
            Note::Manifest(
                place(),
                digest,
                ManifestFact {
                    media_type: "x/y; z=1".into(),
                    size: 1,
                    seen: 7,
                },
            ),
            Note::Tag(
                place(),
                "latest".parse().unwrap(),
                class,
                TagFact { digest, seen: 7 },
            ),
            Note::Member(
                place(),
                digest,
                MemberFact {
                    size: Some(3),
                    seen: 7,
                },
            ),
            Note::Public(place(), PublicFact { seen: 9 }),
        ]
    }

    #[test]
    fn facts_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        let digest = Digest::sha256(b"m");
        let catalog = Catalog::open(&path).unwrap();
        catalog.note(notes());
        assert_eq!(catalog.public(&place()), Some(PublicFact { seen: 9 }));
        catalog.flush();
        drop(catalog);

        let catalog = Catalog::open(&path).unwrap();
        let tag = "latest".parse().unwrap();
        let class = AcceptClass::of(&http::HeaderMap::new());
        assert_eq!(
            catalog.manifest(&place(), &digest).unwrap().media_type,
            "x/y; z=1"
        );
        assert_eq!(catalog.tag(&place(), &tag, &class).unwrap().digest, digest);
        assert_eq!(catalog.tag_of_any_class(&place(), &tag).len(), 1);
        assert_eq!(catalog.member(&place(), &digest).unwrap().size, Some(3));
        catalog.note(vec![
            Note::TagGone(place(), tag.clone(), class.clone()),
            Note::NotPublic(place()),
        ]);
        assert_eq!(catalog.tag(&place(), &tag, &class), None);
        assert_eq!(catalog.public(&place()), None);
    }

    #[test]
    fn the_old_is_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        let catalog = Catalog::open(&path).unwrap();
        catalog.note(notes());
        catalog.prune(8);
        drop(catalog);
        let catalog = Catalog::open(&path).unwrap();
        assert_eq!(catalog.member(&place(), &Digest::sha256(b"m")), None);
        assert!(catalog.public(&place()).is_some());
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        for damage in [b"not a database".repeat(1000), vec![0; 40960]] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("catalog.redb");
            std::fs::write(&path, damage).unwrap();
            let catalog = Catalog::open(&path).unwrap();
            assert_eq!(catalog.public(&place()), None);
            assert!(folder.path().join("catalog.redb.damaged-0").exists());
        }
    }

    #[test]
    fn a_file_damaged_in_the_middle_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        let catalog = Catalog::open(&path).unwrap();
        catalog.note(notes());
        catalog.flush();
        drop(catalog);
        let mut bytes = std::fs::read(&path).unwrap();
        let length = bytes.len();
        bytes[4096..length].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
        let catalog = Catalog::open(&path).unwrap();
        assert_eq!(catalog.public(&place()), None);
    }

    #[test]
    fn two_nodes_on_one_folder_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.redb");
        let _first = Catalog::open(&path).unwrap();
        assert!(matches!(Catalog::open(&path), Err(CatalogError::InUse(_))));
    }
}
