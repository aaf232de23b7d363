//! "Not found" and "not now": whom they were told, and for how long they hold.

use std::time::Duration;

use tokio::time::Instant;

use crate::check::{Finding, Stop, must, skip};
use crate::checks::watch::{manifest, of, whole};
use crate::origin::{Ask, Fault, Origin};
use crate::stage::Stage;
use crate::stage::content::manifest_path;

/// What the registry asks for; longer than the requests of one try take, unless the machine is
/// busy with something else.
const RETRY_AFTER: Duration = Duration::from_secs(6);
const CLIENTS: usize = 16;
/// alice:secret
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";

pub(super) async fn no_and_not_yet(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    not_found_is_short(stage).await?;
    origin.reset();
    let told_apart = not_found_is_personal(stage, origin).await;
    origin.reset();
    let gate = retry_after_holds(stage, origin).await;
    origin.behave();
    reopens(stage).await?;
    gate?;
    told_apart
}

async fn not_found_is_short(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let layers = [stage.fresh(1000)];
    stage.image_in(&repository, "other", &layers).await?;
    let path = manifest_path(&repository, "latest");
    let answer = manifest(&stage.mirror, &path).send().await?;
    must!(
        answer.status == 404,
        "a tag that is not there: {}, not 404",
        answer.status
    );
    let image = stage.image_in(&repository, "latest", &layers).await?;
    stage
        .within_ttl("a tag that was not there before is served", async || {
            let answer = manifest(&stage.mirror, &path).send().await?;
            if answer.status == 404 {
                return Ok(false);
            }
            whole("the new tag", &answer, &image.manifest)?;
            Ok(true)
        })
        .await
}

/// A registry that hides what a client may not see says 404 to it and 200 to another.
async fn not_found_is_personal(stage: &Stage, origin: &Origin) -> Finding {
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    let ask = of(Ask::any(), &image.repository);
    let anonymous = ask.clone().and(|seen| seen.authorization().is_none());
    origin.when(anonymous).answer(Fault::Status(404));
    let path = image.by_tag();
    let answer = manifest(&stage.mirror, &path).send().await?;
    must!(
        answer.status == 404,
        "what is hidden: {}, not 404",
        answer.status
    );
    let asking = manifest(&stage.mirror, &path).header("Authorization", ALICE);
    let answer = asking.send().await?;
    let relayed = ask.and(|seen| seen.authorization() == Some(ALICE));
    if answer.status == 404 && origin.count(relayed) == 0 && !relays(stage, origin).await? {
        skip!("the mirror does not use its clients' credentials");
    }
    whole(
        "a tag that was 404 to somebody else",
        &answer,
        &image.manifest,
    )
}

/// Whether a client's own credentials reach a registry that asks for them.
async fn relays(stage: &Stage, origin: &Origin) -> Result<bool, Stop> {
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    origin.require_basic();
    origin.private(&image.repository, "alice", "secret");
    let asking = manifest(&stage.mirror, &image.by_tag());
    Ok(asking.header("Authorization", ALICE).send().await?.status == 200)
}

async fn retry_after_holds(stage: &Stage, origin: &Origin) -> Finding {
    let layers = [stage.fresh(1000)];
    for _ in 0..3 {
        let repository = stage.repository();
        for number in 0..=CLIENTS {
            stage
                .image_in(&repository, &format!("t{number}"), &layers)
                .await?;
        }
        let ask = of(Ask::any(), &repository);
        let after = RETRY_AFTER.as_secs().to_string();
        origin.when(ask.clone()).answer(Fault::TooMany(Some(after)));
        let begun = Instant::now();
        let first = manifest(&stage.mirror, &manifest_path(&repository, "t0"))
            .send()
            .await?;
        must!(first.status >= 400, "a 429 becomes {}", first.status);
        let before = origin.count(ask.clone());
        let pulls = (1..=CLIENTS).map(|number| {
            let path = manifest_path(&repository, &format!("t{number}"));
            manifest(&stage.mirror, &path).send()
        });
        for answer in futures_util::future::join_all(pulls).await {
            let status = answer?.status;
            must!(status >= 400, "a 429 becomes {status}");
        }
        let more = origin.count(ask.clone()) - before;
        if begun.elapsed() < RETRY_AFTER - Duration::from_secs(1) {
            must!(
                more == 0,
                "{more} requests followed a 429 before its Retry-After was over"
            );
            return Ok(());
        }
        origin.behave();
        reopens(stage).await?;
    }
    skip!("this machine is too busy to send {CLIENTS} requests within {RETRY_AFTER:?}");
}

/// Waits until the registry is asked again, so that no other check meets a closed gate.
async fn reopens(stage: &Stage) -> Finding {
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    stage
        .within_ttl(
            "after Retry-After the registry is asked again",
            async || {
                Ok(manifest(&stage.mirror, &image.by_tag())
                    .send()
                    .await?
                    .status
                    == 200)
            },
        )
        .await
}
