//! Tag lists and referrers.

mod pages;
mod referrers;
mod tags;
mod visible;

use crate::check::{Check, check};

use super::expect;

pub(super) const CHECKS: &[Check] = &[
    check!(Discovery 1 Must, "distribution-spec v1.1.1, Listing Tags", "a tag list has the repository's name as it was asked and exactly its tags; none is legal", tags::list),
    check!(Discovery 2 Must, "distribution-spec v1.1.1, Listing Tags (ASCII order: main)", "tags are in lexical or in ASCII order", tags::order),
    check!(Discovery 3 Must, "distribution-spec v1.1.1, Listing Tags", "n and last cut the list as they say; n=0 is empty and has no Link", tags::cut),
    check!(Discovery 4 Must, "distribution-spec v1.1.1, Listing Tags (RFC 5988 Link)", "Links stay at the registry that was asked and lead through all tags once", pages::tags),
    check!(Discovery 5 Own, "own: an unbounded n was an advisory (CVE-2023-2253)", "a huge, negative or meaningless n is 400 or a list within bounds", tags::odd_n),
    check!(Discovery 6 Must, "distribution-spec v1.1.1, Listing Referrers", "referrers are a 200 index of their descriptors with artifactType and annotations", referrers::list),
    check!(Discovery 7 Must, "distribution-spec v1.1.1, Listing Referrers", "without referrers the index is empty; an invalid digest is 400", referrers::none),
    check!(Discovery 8 Should, "distribution-spec v1.1.1, Listing Referrers", "artifactType filters, and OCI-Filters-Applied says so", referrers::filtered),
    check!(Discovery 9 Must, "distribution-spec v1.1.1, Listing Referrers (RFC 5988 Link)", "Links of referrers stay at the mirror and lead through all of them once", pages::referrers),
    check!(Discovery 10 Own, "own: distribution-spec v1.1.1, Referrers tag schema: clients fall back on a 404 only", "an upstream without the API stays 404, and its fallback tags are had", referrers::fallback),
    check!(Discovery 11 Own, "own: a mirror's memory of a tag has an end, and the end is what it says", "a new tag, a moved tag and a new referrer are seen within the stated lifetime", visible::within_ttl),
];
