//! Wrong bytes are not passed on, wherever they come from.

mod peers;
mod rot;
mod upstream;

use crate::check::{Check, check};

#[rustfmt::skip]
pub(super) const CHECKS: &[Check] = &[
    check!(Integrity 1 Own, "image-spec v1.1.1, descriptor.md, Verification; own: a mirror checks what it passes on", "a blob that does not fit its digest is never a complete 200, is not kept, and the mirror says so to its operator", upstream::tampered_blob),
    check!(Integrity 2 Own, "RFC 9110, 15.6.3; distribution-spec v1.1.1, Pulling manifests", "a manifest that does not fit its digest, or the Docker-Content-Digest it came with, becomes 502", upstream::tampered_manifest),
    check!(Integrity 3 Own, "RFC 9112, 8; image-spec v1.1.1, descriptor.md, Verification", "a blob that is too short, too long or cut is never a complete 200 and is not kept", upstream::wrong_length),
    check!(Integrity 4 Own, "image-spec v1.1.1, descriptor.md, Properties: content of another length is not to be trusted", "a blob whose size is not the one that its descriptor states is refused", upstream::wrong_size),
    check!(Integrity 5 Own, "own: peers err and lie, and a client must not notice", "a piece that a peer spoiled is had elsewhere, and the peer is not asked for it over and over", peers::spoiled_piece),
    check!(Integrity 6 Own, "own: disks rot", "a bit that flipped in the cache is never served within a complete 200, and the blob is fetched anew", rot::flipped_bit),
    check!(Integrity 7 Own, "image-spec v1.1.1, manifest.md, mediaType; CVE-2021-41190", "a manifest that can be read in two ways keeps its bytes and its Content-Type, or is refused", upstream::ambiguous),
    check!(Integrity 8 Own, "own: who reaches a peer port has shown no right to anything", "the peer port gives no blob that the registry gives only to some, and does not tell which blobs are held", peers::closed_port),
];
