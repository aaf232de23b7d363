//! A place: one repository of one registry. Rights, tags and memberships belong to a place; bytes
//! belong to nobody and are shared by digest.

use std::fmt;

use oci::{Registry, Repository};

/// One repository of one registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The registry's canonical name.
    pub registry: Registry,
    /// The repository within it, as the client wrote it.
    pub repository: Repository,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}
