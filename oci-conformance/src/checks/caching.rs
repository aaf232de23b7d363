//! What is asked again, what is not, and what happens when the registry is away.

use crate::check::Check;

pub(super) const CHECKS: &[Check] = &[];
