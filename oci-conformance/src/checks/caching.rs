//! What is asked again, what is not, and what happens when the registry is away.

mod disk;
mod fills;
mod interrupted;
mod tags;
mod told;

use super::watch::{manifest, whole};
use crate::check::{Check, Finding, check};
use crate::origin::Ask;
use crate::stage::Stage;

#[rustfmt::skip]
pub(super) const CHECKS: &[Check] = &[
    check!(Caching 1 Own, "own: a digest names content that never changes, so a mirror has it once", "what was pulled by digest is pulled again without a body byte from the registry", again),
    check!(Caching 2 Own, "own: Docker Hub counts GETs of manifests and not HEADs", "a tag whose manifest is held is asked for again by HEAD alone", tags::by_head),
    check!(Caching 3 Own, "own: a mirror believes a tag for a stated time, and asks once for all who wait", "clients that ask for a tag at once share one question, and a changed tag is served within the stated lifetime", tags::shared_and_changed),
    check!(Caching 4 Own, "RFC 9111, 4.2.4 and 5.5; own: clusters start pods while a registry is away", "while the registry is away a tag is served with a Warning 299, and no longer than the stated limit", tags::stale),
    check!(Caching 5 Own, "RFC 9111, 4.2.4; own: what was withdrawn must not be served on", "a tag that the registry answers 401, 403 or 404 is not served from the cache", tags::withdrawn),
    check!(Caching 6 Own, "own: a mirror takes the herd from the registry; some registries refuse HEAD on blobs", "64 clients that want a cold blob at once cost the registry one GET and no HEAD", fills::one_fill),
    check!(Caching 7 Own, "own: a client that sees no byte gives up", "the first bytes of a blob reach the client while the rest is still on its way", fills::first_bytes),
    check!(Caching 8 Own, "own: clients leave at any time", "a client that leaves takes nothing from the others, and a download that nobody waits for ends in bounded time", fills::leaving),
    check!(Caching 9 Own, "own: a stalled client must cost a mirror nothing", "a client that does not read neither holds up the others nor makes the mirror keep its blob in memory", fills::slow_reader),
    check!(Caching 10 Own, "RFC 9110, 14.2 and 15.3.7", "a download that is cut is continued by Range, or begun anew, within one 200 to the client", interrupted::resumed),
    check!(Caching 11 Own, "own: blob stores are reached by URLs that hold for minutes", "when a presigned URL has expired the registry is asked for another one", interrupted::presigned),
    check!(Caching 12 Own, "RFC 9110, 10.2.3 and 15.5.5; RFC 6585, 4", "a 404 is believed shortly and only for who was told it, and after a 429 nothing is asked until Retry-After is over", told::no_and_not_yet),
    check!(Caching 13 Own, "own: making room must not be seen", "making room takes no byte from a blob that is being read, nor a blob from a repository that still has it", disk::making_room),
    check!(Caching 14 Own, "own: machines lose power", "after a kill in the middle of a download no part of a blob is served as the whole", disk::killed),
    check!(Caching 15 Own, "own: disks fill up", "with a full disk pulls still work", disk::full),
];

async fn again(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image_of(&[stage.fresh(1 << 20)]).await?;
    let layer = &image.layers[0].bytes;
    let pull = async || -> Finding {
        let manifest = manifest(&stage.mirror, &image.by_digest()).send().await?;
        whole("the manifest", &manifest, &image.manifest)?;
        whole(
            "the blob",
            &stage.mirror.get(&image.layer_path()).send().await?,
            layer,
        )
    };
    pull().await?;
    // What is put away after the answer's end may take a moment; it must not take for ever.
    stage
        .within_ttl(
            "a pull that takes no body byte from the registry",
            async || {
                origin.forget_requests();
                pull().await?;
                Ok(origin.body_bytes(Ask::blobs().get())
                    + origin.body_bytes(Ask::manifests().get())
                    == 0)
            },
        )
        .await
}
