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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Category;

    #[test]
    fn every_category_has_its_checks_in_order() {
        let wanted = [18, 12, 11, 11, 13, 4, 17, 10, 15, 8, 9];
        let all = all();
        assert_eq!(all.len(), 128);
        for (category, wanted) in Category::ALL.into_iter().zip(wanted) {
            let own = all.iter().filter(|check| check.category == category);
            let numbers: Vec<u8> = own.map(|check| check.number).collect();
            assert_eq!(numbers, (1..=wanted).collect::<Vec<_>>(), "{category}");
        }
    }
}
