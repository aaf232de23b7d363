//! Parts of blobs come as RFC 9110 says, also out of a blob that is still on its way.

use crate::check::Check;

pub(super) const CHECKS: &[Check] = &[];
