//! Manifests and blobs are had as the specification says.

mod blobs;
mod manifests;
mod negotiation;

use crate::check::{Check, Finding, check, must};
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(Pull 1 Must, "distribution-spec v1.1.1, end-1", "GET /v2/ is 200, or 401 with a challenge that can be read", ping),
    check!(Pull 2 Must, "distribution-spec v1.1.1, Pulling manifests", "a manifest by tag is 200 and has the bytes that were pushed", manifests::by_tag),
    check!(Pull 3 Must, "distribution-spec v1.1.1, end-3", "a manifest by digest is 200 and hashes to the digest", manifests::by_digest),
    check!(Pull 4 Should, "distribution-spec v1.1.1, Pulling manifests", "a manifest's Content-Type is what was pushed, without parameters, and its mediaType", manifests::content_type),
    check!(Pull 5 Must, "distribution-spec v1.1.1, Checking if content exists (both headers: SHOULD; MUST in main)", "HEAD of a manifest is 200 with its digest and length, and without a body", manifests::head),
    check!(Pull 6 Own, "own: clients decide by HEAD and then GET; a cache is not to be noticed", "HEAD and GET agree on digest, length and type, cold and warm", manifests::heads_agree),
    check!(Pull 7 Must, "distribution-spec v1.1.1, Pulling blobs (digest header: SHOULD; MUST in main)", "a blob is 200 with its bytes, its length and its digest", blobs::by_digest),
    check!(Pull 8 Must, "distribution-spec v1.1.1, Checking if content exists (length: SHOULD; MUST in main)", "HEAD of a blob that nobody has pulled is 200 with its length, and fetches nothing", blobs::head_cold),
    check!(Pull 9 Must, "distribution-spec v1.1.1, Pulling blobs", "the empty blob and a blob of two bytes are had", blobs::tiny),
    check!(Pull 10 Should, "image-spec v1.1.1, Digests (sha512); distribution-spec v1.1.1, Pulling blobs", "content named by sha512 is served, verified and labelled so", blobs::sha512),
    check!(Pull 11 Own, "own: image-spec v1.1.1, Digests: unregistered algorithms SHOULD pass; nobody can verify them", "content named by an unregistered algorithm is passed through and never kept", blobs::unregistered),
    check!(Pull 12 Own, "own: every image of several platforms is pulled this way", "an index, a nested index, a child by digest and Docker's types are had", manifests::kinds),
    check!(Pull 13 Own, "own: one client's Accept must not decide what another gets", "a Docker-only Accept gets upstream's answer, and OCI clients theirs", negotiation::docker_only),
    check!(Pull 14 Own, "own: RFC 9110, 5.3 and 12.5.1: lines of Accept are one list", "Accept in one line, in several, with weights, or absent, is answered as upstream does", negotiation::accept_forms),
    check!(Pull 15 Must, "distribution-spec v1.1.1, Pushing Manifests (the exact bytes)", "odd whitespace, unknown fields, data and 3.9 MB come byte for byte", manifests::exact),
    check!(Pull 16 Own, "own: image-spec v1.1.1, Non-distributable layers; a mirror that fetches `urls` can be sent anywhere", "a foreign layer's manifest is had, its blob is as upstream says, its urls are not fetched", blobs::foreign),
    check!(Pull 17 Rfc, "RFC 9110, 8.8.3, 13.1.2 and 15.4.5", "ETags are strong; If-None-Match is 304 without a body on a hit, 200 on a miss", negotiation::if_none_match),
    check!(Pull 18 Own, "own: digests are of the bytes as they are; a coded body fits none", "Accept-Encoding never makes a coded answer, and upstream is asked for none", negotiation::encodings),
];

async fn ping(stage: &Stage) -> Finding {
    let answer = stage.mirror.request("GET", "/v2/").plain().send().await?;
    match answer.status {
        200 => Ok(()),
        401 => {
            let challenges: Vec<&str> = answer.headers("www-authenticate").collect();
            must!(
                challenges.iter().any(|line| can_be_read(line)),
                "401 with WWW-Authenticate `{}`, not a Bearer or Basic challenge with a realm",
                challenges.join("`, `")
            );
            Ok(())
        }
        status => {
            must!(false, "{status}, not 200 or 401");
            Ok(())
        }
    }
}

fn can_be_read(challenge: &str) -> bool {
    let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
    let known = ["bearer", "basic"];
    let known = known.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    let rest = rest.to_ascii_lowercase();
    let mut names = rest.split(',').filter_map(|pair| pair.split('=').next());
    known && names.any(|name| name.trim() == "realm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_has_a_scheme_and_a_realm() {
        assert!(can_be_read(r#"Bearer realm="https://a/token",service="b""#));
        assert!(can_be_read("basic charset=utf-8, realm=x"));
        assert!(!can_be_read("Bearer"));
        assert!(!can_be_read(r#"Digest realm="x""#));
        assert!(!can_be_read(""));
    }
}
