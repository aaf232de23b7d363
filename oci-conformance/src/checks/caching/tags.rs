//! Tags: how they are asked again, when they change, and when nobody can be asked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::check::{Finding, Stop, must, skip};
use crate::checks::watch::{asked, manifest, no_more_than, of, whole};
use crate::client::Client;
use crate::origin::{Ask, Fault, Gate, Origin};
use crate::stage::{Sample, Stage};

/// Clients that ask for a tag at once.
const CLIENTS: usize = 16;
/// The limit for stale tags that a process of the check's own is given.
const STALE: Duration = Duration::from_secs(5);

pub(super) async fn by_head(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    let pull = async || -> Finding {
        let answer = manifest(&stage.mirror, &image.by_tag()).send().await?;
        whole("the tag", &answer, &image.manifest)
    };
    pull().await?;
    origin.forget_requests();
    let manifests = of(Ask::manifests(), &image.repository);
    stage
        .within_ttl("the registry is asked for the tag again", async || {
            pull().await?;
            let gets = origin.count(manifests.clone().get());
            must!(
                gets == 0,
                "a held manifest was read {gets} times from the registry"
            );
            Ok(origin.count(manifests.clone().head()) > 0)
        })
        .await
}

pub(super) async fn shared_and_changed(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let repository = stage.repository();
    let old = [stage.fresh(1000)];
    let old = stage.image_in(&repository, "latest", &old).await?;
    let pull = async || manifest(&stage.mirror, &old.by_tag()).send().await;
    whole("the tag", &pull().await?, &old.manifest)?;
    one_question(stage, origin, &old).await?;
    origin.behave();
    let new = [stage.fresh(1000)];
    let new = stage.image_in(&repository, "latest", &new).await?;
    stage
        .within_ttl("the new manifest is served", async || {
            let answer = pull().await?;
            if answer.body == old.manifest {
                return Ok(false);
            }
            whole("the changed tag", &answer, &new.manifest)?;
            let told = answer.header("docker-content-digest");
            let told = told.unwrap_or(&new.digest);
            must!(
                told == new.digest,
                "Docker-Content-Digest is {told}, not {}",
                new.digest
            );
            Ok(true)
        })
        .await
}

/// When the tag is no longer believed, many ask for it and the registry lets them wait.
async fn one_question(stage: &Stage, origin: &Origin, image: &Sample) -> Finding {
    let tag = of(Ask::manifest(&image.tag), &image.repository);
    let gate = Gate::closed();
    origin
        .when(tag.clone())
        .answer(Fault::HoldHead(gate.clone()));
    origin.forget_requests();
    let end = Instant::now() + stage.ttl() + Duration::from_secs(10);
    let pull = || manifest(&stage.mirror, &image.by_tag()).send();
    let first = loop {
        let mut pulling = Box::pin(pull());
        tokio::select! {
            answer = &mut pulling => whole("the held tag", &answer?, &image.manifest)?,
            () = asked(origin, tag.clone()) => break Some(pulling),
        }
        // A mirror may answer first and ask afterwards.
        if origin.count(tag.clone()) > 0 {
            break None;
        }
        must!(Instant::now() < end, "the tag is never asked for again");
        sleep(Duration::from_millis(50)).await;
    };
    let others = futures_util::future::join_all((1..CLIENTS).map(|_| pull()));
    let watching = async {
        let once = no_more_than(stage, origin, tag.clone(), 1).await;
        gate.open();
        once
    };
    let first = async {
        match first {
            Some(pulling) => pulling.await.map(Some),
            None => Ok(None),
        }
    };
    let (first, others, once) = tokio::join!(first, others, watching);
    once?;
    let others: Result<Vec<_>, _> = others.into_iter().collect();
    for answer in first?.into_iter().chain(others?) {
        whole("the tag", &answer, &image.manifest)?;
    }
    Ok(())
}

pub(super) async fn stale(stage: &Stage) -> Finding {
    stage.origin()?;
    served_with_warning(stage, &stage.mirror).await?;
    if !stage.process()?.asks("stale") {
        skip!("a stale tag is served with a Warning; for the limit the command needs {{stale}}");
    }
    let limit = format!("{}s", STALE.as_secs());
    let (_process, mirror) = stage
        .another("stale", &[("stale", limit)], "exec sh {script}")
        .await?;
    let image = gone(stage, &mirror).await?;
    let end = Instant::now() + STALE + stage.ttl() + Duration::from_secs(10);
    loop {
        let answer = manifest(&mirror, &image.by_tag()).send().await?;
        if answer.status != 200 {
            return Ok(());
        }
        must!(
            Instant::now() < end,
            "the tag is still served when {STALE:?} are over"
        );
        sleep(Duration::from_millis(200)).await;
    }
}

async fn served_with_warning(stage: &Stage, mirror: &Client) -> Finding {
    let image = gone(stage, mirror).await?;
    stage
        .within_ttl("the tag is served with a Warning 299", async || {
            let answer = manifest(mirror, &image.by_tag()).send().await?;
            whole(
                "the tag of a registry that is away",
                &answer,
                &image.manifest,
            )?;
            let warned = answer
                .headers("warning")
                .any(|value| value.starts_with("299 "));
            Ok(warned)
        })
        .await
}

/// An image whose tag was pulled before its registry went away.
async fn gone(stage: &Stage, mirror: &Client) -> Result<Sample, Stop> {
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    let answer = manifest(mirror, &image.by_tag()).send().await?;
    whole("the tag", &answer, &image.manifest)?;
    let all = of(Ask::any(), &image.repository);
    stage.origin()?.when(all).answer(Fault::HangUp);
    Ok(image)
}

pub(super) async fn withdrawn(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let refusals = [
        (
            401,
            Fault::Challenge(r#"Basic realm="elsewhere""#.to_owned()),
        ),
        (403, Fault::Status(403)),
        (404, Fault::Status(404)),
    ];
    let mut images = Vec::new();
    for (status, refusal) in refusals {
        let image = stage.image_of(&[stage.fresh(1000)]).await?;
        let answer = manifest(&stage.mirror, &image.by_tag()).send().await?;
        whole("the tag", &answer, &image.manifest)?;
        origin
            .when(of(Ask::any(), &image.repository))
            .answer(refusal);
        images.push((status, image));
    }
    for (status, image) in &images {
        let what = format!("a tag that the registry answers {status} is refused");
        let pull = async || manifest(&stage.mirror, &image.by_tag()).send().await;
        stage
            .within_ttl(&what, async || Ok(pull().await?.status != 200))
            .await?;
        let answer = pull().await?;
        let refused = (400..500).contains(&answer.status);
        must!(
            refused,
            "{status} of the registry becomes {}",
            answer.status
        );
    }
    Ok(())
}
