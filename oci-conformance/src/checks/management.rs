//! What is deleted is gone.

use crate::check::Check;

pub(super) const CHECKS: &[Check] = &[];
