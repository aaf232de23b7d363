//! The checks, by category.

mod auth;
mod caching;
mod discovery;
mod errors;
mod expect;
mod integrity;
mod limits;
mod management;
mod proxying;
mod pull;
mod push;
mod range;
mod watch;

use crate::check::Check;

/// All checks, in the order of the report.
pub fn all() -> Vec<Check> {
    [
        pull::CHECKS,
        range::CHECKS,
        errors::CHECKS,
        discovery::CHECKS,
        push::CHECKS,
        management::CHECKS,
        auth::CHECKS,
        proxying::CHECKS,
        caching::CHECKS,
        integrity::CHECKS,
        limits::CHECKS,
    ]
    .concat()
}
