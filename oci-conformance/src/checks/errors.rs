//! Errors say what is so, in the specification's words.

use crate::check::Check;

pub(super) const CHECKS: &[Check] = &[];
