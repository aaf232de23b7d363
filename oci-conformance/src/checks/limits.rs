//! Nobody takes more than is good: of memory, of time, of the registry, of the cache.

mod h2;
mod heads;
mod share;
mod slow;
mod upstream;

use crate::check::{Check, check};

#[rustfmt::skip]
pub(super) const CHECKS: &[Check] = &[
    check!(Limits 1 Own, "RFC 6585, 5; RFC 9110, 15.5.15; RFC 9112, 2.3", "headers and URIs of 2 MiB are answered 431 or 414, and the next client is served", heads::too_large),
    check!(Limits 2 Own, "RFC 9110, 15.5.9; own: who sends a byte a second must not keep a connection", "a request whose head or body does not come is ended within 60 s", slow::closed_in_time),
    check!(Limits 3 Own, "RFC 9112, 5.2, 6.3 and 7.1; own: what two servers could read in two ways is refused", "two lengths, a length beside chunks and folded headers are 400 and close; chunks of odd sizes are never followed by a next request", heads::ambiguous),
    check!(Limits 4 Own, "RFC 9110, 9.3.1 and 7.8; RFC 9112, 9.3", "the body of a GET and what follows an Upgrade are never taken for a next request", heads::never_a_request),
    check!(Limits 5 Own, "RFC 9113, 5.1.2, 6.10 and 10.5; CVE-2023-44487, CVE-2024-27316", "HTTP/2 floods of resets, CONTINUATIONs and empty DATA are survived, or HTTP/2 is refused", h2::floods),
    check!(Limits 6 Own, "RFC 9110, 15.6.3; own: what a registry sends is not trusted to be small", "a manifest, a page of tags and a token answer of 1 GB become errors without being kept in memory", upstream::huge),
    check!(Limits 7 Own, "RFC 6585, 4; own: registries ban who asks too much at once", "200 cold blobs at once are fewer requests to the registry at a time, and the rest waits or is 429", share::at_once),
    check!(Limits 8 Own, "own: one client that pulls everything must not take the cache from the others", "a flood of blobs for one client and registry does not push out what others use", share::cache),
    check!(Limits 9 Must, "distribution-spec v1.1.1, Warnings", "Warning headers, the registry's and the mirror's together, have at most 4096 bytes", upstream::warnings),
];
