//! One mirror before many registries: `ns`, paths, headers that lie.

use crate::check::Check;

pub(super) const CHECKS: &[Check] = &[];
