//! One table of the catalog and the bounded memory before it.

use quick_cache::sync::Cache;
use redb::{Database, ReadableDatabase as _, TableDefinition};
use serde::{Serialize, de::DeserializeOwned};

/// Entries of each table kept in memory; about 200 bytes each.
const REMEMBERED_MAX: usize = 8192;
pub(super) type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// A row to write: no value means to delete it.
pub(super) struct Row {
    pub(super) table: Table,
    pub(super) key: String,
    pub(super) value: Option<Vec<u8>>,
}

/// A table and the memory before it.
pub(super) struct Shelf<F> {
    pub(super) table: Table,
    memory: Cache<String, Remembered<F>>,
}

/// What the memory says of a key; a fact that is gone is known to be gone before the next flush.
#[derive(Clone)]
enum Remembered<F> {
    Is(F),
    Gone,
}

impl<F: Clone + Serialize + DeserializeOwned> Shelf<F> {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            table: TableDefinition::new(name),
            memory: Cache::new(REMEMBERED_MAX),
        }
    }

    pub(super) fn get(&self, database: &Database, key: &str) -> Option<F> {
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

    pub(super) fn remember(&self, key: String, fact: F) -> Row {
        let value = serde_json::to_vec(&fact).expect("facts are plain data");
        self.memory.insert(key.clone(), Remembered::Is(fact));
        Row {
            table: self.table,
            key,
            value: Some(value),
        }
    }

    pub(super) fn forget(&self, key: String) -> Row {
        self.memory.insert(key.clone(), Remembered::Gone);
        Row {
            table: self.table,
            key,
            value: None,
        }
    }
}
