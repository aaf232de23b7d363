//! What the registry sends too much of.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::check::{Finding, must, skip};
use crate::checks::watch::{manifest, of};
use crate::client::Response;
use crate::origin::{Ask, Fault, Kind, Reply};
use crate::stage::{Sample, Stage};

const GB: u64 = 1_000_000_000;
/// What a mirror may need for the answers of one request.
const MEMORY: u64 = 128 << 20;
/// Most bytes of Warning values in one answer.
const WARNINGS: usize = 4096;

pub(super) async fn huge(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let before = stage
        .process()
        .ok()
        .and_then(|process| process.peak_memory());
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    let tags = format!("/v2/{}/tags/list", image.repository);
    let other = stage.image_of(&[stage.fresh(1000)]).await?;
    let manifests = of(Ask::manifests().get(), &image.repository);
    let pages = of(Ask::kind(Kind::Tags), &image.repository);
    for chunked in [false, true] {
        for (told, ask, path) in [
            ("a manifest by digest", manifests.clone(), image.by_digest()),
            ("a manifest by tag", manifests.clone(), image.by_tag()),
            ("a page of tags", pages.clone(), tags.clone()),
            ("a token", Ask::token(), other.by_tag()),
        ] {
            let token = told == "a token";
            if token {
                origin.require_tokens();
            }
            let framing = chunked.then_some(Fault::Chunked);
            origin
                .when(ask)
                .answer_all([Fault::Huge(GB)].into_iter().chain(framing));
            // The head is enough: a mirror that passes it on would pass on all of it.
            let asking = manifest(&stage.mirror, &path).wait(Duration::from_secs(60));
            let status = asking.open().await?.head().status;
            // A mirror that gets no token may leave it to its client to get one.
            let refused = status == 502 || (token && status == 401);
            must!(refused, "{told} of 1 GB: {status}, not 502");
            origin.behave();
        }
        origin.reset();
    }
    let after = stage.process()?.peak_memory();
    let (Some(before), Some(after)) = (before, after) else {
        skip!("they become 502; this kernel does not tell memory");
    };
    let grown = after.saturating_sub(before);
    must!(
        grown < MEMORY,
        "its memory grew by {grown} bytes at its peak"
    );
    Ok(())
}

pub(super) async fn warnings(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    let all = of(Ask::any(), &image.repository);
    let manifests = of(Ask::manifests(), &image.repository);
    let text = |length: usize| format!("299 - \"{}\"", "w".repeat(length - 8));
    for lengths in [&[4096][..], &[2000, 2000, 2000], &[8000]] {
        let mut reply = warned(&image);
        for length in lengths {
            reply = reply.header("Warning", &text(*length));
        }
        origin.behave();
        origin.when(manifests.clone()).answer(Fault::Reply(reply));
        // Fresh, or asked again: whichever comes, for as long as a tag is believed.
        let end = Instant::now() + stage.ttl();
        while Instant::now() < end {
            for path in [image.by_tag(), image.by_digest()] {
                bounded(&manifest(&stage.mirror, &path).send().await?)?;
            }
            sleep(Duration::from_millis(200)).await;
        }
        origin.behave();
        origin.when(all.clone()).answer(Fault::HangUp);
        // Served stale, with a warning of the mirror's own, or not at all; some do neither.
        let end = Instant::now() + stage.ttl() + Duration::from_secs(2);
        while Instant::now() < end {
            let answer = manifest(&stage.mirror, &image.by_tag()).send().await?;
            bounded(&answer)?;
            if answer.status != 200 || answer.header("warning").is_some() {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

/// The image's manifest as the registry answers it, for one header more.
fn warned(image: &Sample) -> Reply {
    Reply::new(200)
        .header("Content-Type", &image.media_type)
        .header("Docker-Content-Digest", &image.digest)
        .body(image.manifest.clone())
}

fn bounded(answer: &Response) -> Finding {
    let length: usize = answer.headers("warning").map(str::len).sum();
    let each: Vec<_> = answer.headers("warning").map(str::len).collect();
    must!(length <= WARNINGS, "{length} bytes of Warning: {each:?}");
    Ok(())
}
