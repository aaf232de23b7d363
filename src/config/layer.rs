//! One source of settings (the flags, the variables or the file) before it is understood: texts,
//! each with the place it was written at. Deliberately not here: what the texts mean (`settings`).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::key::Key;
use crate::config::registry::RegistryEntry;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the command line.
    Flag(Key),
    /// In the environment.
    Variable(Key),
    /// In the file, at a line.
    File {
        /// The file as it was named.
        path: Arc<PathBuf>,
        /// Counted from 1.
        line: usize,
        /// The key with the tables around it.
        key: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{key}"),
            Self::Variable(key) => f.write_str(&key.variable()),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
        }
    }
}

/// A setting with its texts; several only where the setting is a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Which setting.
    pub(crate) key: Key,
    /// As written.
    pub(crate) values: Vec<String>,
    /// Where.
    pub(crate) place: Place,
}

/// Everything one source says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    /// All settings but the registries.
    pub(crate) entries: Vec<Entry>,
    /// The registries.
    pub(crate) registries: Vec<RegistryEntry>,
}
