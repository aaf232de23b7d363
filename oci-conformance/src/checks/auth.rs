//! Who may read, and whose credentials go where.

use crate::check::Check;

pub(super) const CHECKS: &[Check] = &[];
