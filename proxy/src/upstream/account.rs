//! The operator's own accounts.

use oci::{Registry, Repository};

use super::config::AccountConfig;
use super::error::UpstreamConfigError;
use super::well_known::matches;

/// An account of one registry and the repositories that are read with it.
pub(super) struct Account {
    patterns: Vec<String>,
}

impl Account {
    pub(super) fn new(
        registry: &Registry,
        config: &AccountConfig,
    ) -> Result<Self, UpstreamConfigError> {
        let _ = registry;
        Ok(Self {
            patterns: config.repositories.clone(),
        })
    }

    pub(super) fn covers(&self, repository: &Repository) -> bool {
        self.patterns
            .iter()
            .any(|pattern| matches(pattern, repository.as_str(), '/'))
    }
}
