//! Errors say what is so, in the specification's words.

mod absent;
mod malformed;
mod no_tls;
mod upstream;
mod words;

use crate::check::{Check, check};

use super::expect;

pub(super) const CHECKS: &[Check] = &[
    check!(Errors 1 Must, "distribution-spec v1.1.1, Pulling manifests, Pulling blobs, Endpoints", "an unknown blob, manifest, tag or repository is 404", absent::not_found),
    check!(Errors 2 Must, "distribution-spec v1.1.1, Error Codes", "a JSON error has the specification's form and codes; to HEAD there is no body", absent::form),
    check!(Errors 3 Must, "distribution-spec v1.1.1, Error Codes", "a JSON error's code names what is missing", absent::matching_code),
    check!(Errors 4 Should, "distribution-spec v1.1.1, Error Codes (code-4) and end-2; image-spec v1.1.1, Digests", "a malformed digest is 400 DIGEST_INVALID, or 404", malformed::digests),
    check!(Errors 5 Own, "own: distribution-spec v1.1.1, Pulling manifests, has the grammar; what it forbids is nowhere", "an invalid name or tag is 400 or 404 without asking upstream", malformed::names),
    check!(Errors 6 Own, "own: RFC 9110, 15.5.6: 405 MUST name what is allowed", "a method that is not served is 405 with Allow and UNSUPPORTED", malformed::methods),
    check!(Errors 7 Own, "own: RFC 9110, 15.6.3 and 15.6.5; a 404 says that an image does not exist; of a blob it sends dockerd on at once, where a 5xx costs it 75 s", "an upstream that fails is 502 or 503, one that is silent 504; only a blob may be 404", upstream::failing),
    check!(Errors 8 Own, "own: clients read errors as JSON; a page for people tells them nothing", "upstream's HTML or empty errors become JSON with the same status", upstream::reworded),
    check!(Errors 9 Own, "own: 401 means authenticate, 403 means give up", "upstream's 403 stays 403 DENIED, its 401 stays 401 with its challenge", upstream::refusals),
    check!(Errors 10 Should, "distribution-spec v1.1.1, Error Codes (code-14); main, Error Codes (Retry-After)", "upstream's 429 is 429 TOOMANYREQUESTS with Retry-After", upstream::limited),
    check!(Errors 11 Own, "own: errors end in logs and tickets", "no error holds a credential, a token, a presigned URL or an internal address", words::nothing_secret),
];
