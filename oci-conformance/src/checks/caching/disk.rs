//! What becomes of held and half-held blobs when room is made, the machine dies or the disk is full.

use std::process::Stdio;
use std::time::Duration;

use crate::check::{Finding, must, skip};
use crate::checks::watch::{manifest, refused, whole, within};
use crate::origin::{Ask, Fault, Gate};
use crate::stage::Stage;
use crate::stage::content::blob_path;

/// The cache of the process whose room is made.
const CACHE: usize = 64 << 20;
/// The disk of the process whose disk is full.
const DISK: usize = 32 << 20;
/// Ways to a full disk, the truest first. Root mounts a small one; who may have namespaces of users
/// does the same; anybody can bound the size of files, and have the signal of that ignored.
const DISKS: [&str; 3] = [
    "exec unshare -m sh -c 'mount -t tmpfs -o size=32m tmpfs \"{data}\" && exec sh \"{script}\"'",
    "exec unshare -rm sh -c 'mount -t tmpfs -o size=32m tmpfs \"{data}\" && exec sh \"{script}\"'",
    "trap '' XFSZ; ulimit -f 16384 && exec sh \"{script}\"",
];
/// Whether the first two can work here.
const TRIALS: [&str; 2] = [
    "unshare -m sh -c 'mount -t tmpfs -o size=1m tmpfs /tmp'",
    "unshare -rm sh -c 'mount -t tmpfs -o size=1m tmpfs /tmp'",
];

pub(super) async fn making_room(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    if !stage.process()?.asks("cache") {
        skip!("the command needs {{cache}}, the bytes that its cache may take");
    }
    let size = [("cache", CACHE.to_string())];
    let (_process, mirror) = stage.another("room", &size, "exec sh {script}").await?;
    let shared = stage.fresh(4 << 20);
    let (one, two) = (stage.repository(), stage.repository());
    let mut paths = Vec::new();
    for repository in [&one, &two] {
        let digest = stage.blob(repository, shared.clone()).await?;
        paths.push(blob_path(repository, &digest));
    }
    for path in &paths {
        whole(
            "the blob of two repositories",
            &mirror.get(path).send().await?,
            &shared,
        )?;
    }
    let read = stage.fresh(CACHE / 2);
    let path = blob_path(&one, &stage.blob(&one, read.clone()).await?);
    whole("the blob", &mirror.get(&path).send().await?, &read)?;
    let mut reading = mirror.get(&path).open().await?;
    reading.at_least(1).await;
    origin.forget_requests();
    for _ in 0..5 {
        let other = stage.fresh(24 << 20);
        let digest = stage.blob(&two, other.clone()).await?;
        let answer = mirror.get(&blob_path(&two, &digest)).send().await?;
        whole("a blob that makes others give way", &answer, &other)?;
    }
    whole("a blob that was being read", &reading.rest().await?, &read)?;
    for path in &paths {
        let answer = mirror.get(path).send().await?;
        whole(
            "the blob of two repositories, when room was made",
            &answer,
            &shared,
        )?;
    }
    Ok(())
}

pub(super) async fn killed(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let process = stage.process()?;
    let size = 4 << 20;
    for (arrived, told) in [(size / 2, "half"), (size - 1, "all but one byte")] {
        let bytes = stage.fresh(size);
        let repository = stage.repository();
        let digest = stage.blob(&repository, bytes.clone()).await?;
        let path = blob_path(&repository, &digest);
        let gate = Gate::closed();
        gate.allow(arrived as u64);
        origin.when(Ask::blob(&digest)).answer(Fault::Pace(gate));
        let mut pulling = stage.mirror.get(&path).open().await?;
        pulling.at_least(1).await;
        within(
            Duration::from_secs(30),
            "the mirror takes what the registry sends",
            async || Ok(origin.body_bytes(Ask::blob(&digest)) >= arrived as u64),
        )
        .await?;
        process.kill().await;
        origin.behave();
        // Nobody can be asked: what is served now is what lies on the disk.
        origin.when(Ask::blob(&digest)).answer(Fault::Status(503));
        let started = process.start_again().await;
        must!(
            started.is_ok(),
            "after a kill it does not start: {started:?}"
        );
        let alone = stage.mirror.get(&path).send().await;
        refused(&format!("killed when {told} of a blob was there"), &alone)?;
        origin.behave();
        stage
            .within_ttl("the blob is served after a kill", async || {
                let answer = stage.mirror.get(&path).send().await?;
                if answer.status != 200 {
                    return Ok(false);
                }
                whole(&format!("after a kill with {told} of it"), &answer, &bytes)?;
                Ok(true)
            })
            .await?;
    }
    Ok(())
}

pub(super) async fn full(stage: &Stage) -> Finding {
    stage.origin()?;
    stage.process()?;
    let tried = TRIALS.iter().position(|trial| works(trial));
    let around = DISKS[tried.unwrap_or(TRIALS.len())];
    let (process, mirror) = stage.another("full", &[], around).await?;
    let large = stage.fresh(DISK + (8 << 20));
    let repository = stage.repository();
    let path = blob_path(&repository, &stage.blob(&repository, large.clone()).await?);
    for time in ["first", "second"] {
        let answer = mirror.get(&path).send().await?;
        whole(
            &format!("a blob larger than the disk, the {time} time"),
            &answer,
            &large,
        )?;
    }
    // Blob by blob, until nothing more can be kept.
    for _ in 0..6 {
        let image = stage.image_of(&[stage.fresh(7 << 20)]).await?;
        let answer = manifest(&mirror, &image.by_tag()).send().await?;
        whole(
            "a manifest, with the disk filling up",
            &answer,
            &image.manifest,
        )?;
        let answer = mirror.get(&image.layer_path()).send().await?;
        whole(
            "a blob, with the disk filling up",
            &answer,
            &image.layers[0].bytes,
        )?;
    }
    within(
        Duration::from_secs(10),
        "it goes on to answer",
        async || Ok(mirror.request("GET", "/v2/").plain().send().await?.status < 500),
    )
    .await?;
    drop(process);
    Ok(())
}

fn works(trial: &str) -> bool {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", trial]).stdin(Stdio::null());
    let done = shell.stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
