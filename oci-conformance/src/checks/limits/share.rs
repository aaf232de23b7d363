//! What one client may take of the registry, and of the cache.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::check::{Finding, must, skip};
use crate::checks::watch::{in_time, open, whole};
use crate::origin::{Ask, Fault, Gate, sha256};
use crate::stage::Stage;
use crate::stage::content::blob_path;

/// Cold blobs that are wanted at once.
const WANTED: usize = 200;
/// How long the number of open requests must stay the same.
const STEADY: Duration = Duration::from_secs(1);
const CACHE: usize = 64 << 20;

pub(super) async fn at_once(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let repository = stage.repository();
    let mut blobs = Vec::new();
    for _ in 0..WANTED {
        let bytes = stage.fresh(1000);
        blobs.push((stage.blob(&repository, bytes.clone()).await?, bytes));
    }
    let gate = Gate::closed();
    origin
        .when(Ask::blobs())
        .answer(Fault::HoldHead(gate.clone()));
    let pulls = blobs.iter().map(|(digest, _)| {
        let request = stage.mirror.get(&blob_path(&repository, digest));
        request.wait(Duration::from_secs(60)).send()
    });
    let begun = Instant::now();
    let watching = async {
        let (mut most, mut since) = (0, Instant::now());
        while most == 0 || since.elapsed() < STEADY {
            let open = open(origin, Ask::blobs());
            if open > most {
                (most, since) = (open, Instant::now());
            }
            sleep(Duration::from_millis(20)).await;
        }
        gate.open();
        most
    };
    let (answers, most) = tokio::join!(futures_util::future::join_all(pulls), watching);
    must!(
        most < WANTED,
        "{most} requests to the registry at a time: there is no bound"
    );
    in_time(begun)?;
    for (answer, (_, bytes)) in answers.into_iter().zip(&blobs) {
        let answer = answer?;
        if answer.status != 429 {
            whole(
                &format!("a blob of {WANTED}, of which {most} at a time"),
                &answer,
                bytes,
            )?;
        }
    }
    Ok(())
}

pub(super) async fn cache(stage: &Stage) -> Finding {
    let scripted = stage.scripted()?;
    if !stage.process()?.asks("cache") || !stage.process()?.asks("upstream2") {
        skip!("the command needs {{cache}}, the bytes that its cache may take, and {{upstream2}}");
    }
    let size = [("cache", CACHE.to_string())];
    let (_process, one) = stage.another("quota", &size, "exec sh {script}").await?;
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
    let two = one
        .clone()
        .with_namespace(Some(scripted.second_name.clone()))
        .with_source(other);
    let repository = stage.repository();
    let used = stage.fresh(8 << 20);
    let path = blob_path(&repository, &stage.blob(&repository, used.clone()).await?);
    for _ in 0..3 {
        whole(
            "the blob that is used",
            &one.get(&path).send().await?,
            &used,
        )?;
    }
    for _ in 0..2 * CACHE / (16 << 20) {
        let bytes = stage.fresh(16 << 20);
        let digest = sha256(&bytes);
        scripted
            .second
            .push_blob_as(&repository, &digest, bytes.clone());
        let answer = two.get(&blob_path(&repository, &digest)).send().await;
        let Ok(answer) = answer else {
            skip!("this machine has no address 127.0.0.3 for a second client");
        };
        if answer.status != 429 {
            whole("a blob of the flood", &answer, &bytes)?;
        }
    }
    scripted.first.forget_requests();
    whole(
        "the blob that is used",
        &one.get(&path).send().await?,
        &used,
    )?;
    let again = scripted.first.body_bytes(Ask::blobs());
    must!(
        again == 0,
        "the blob in use was pushed out: {again} bytes of it came again"
    );
    Ok(())
}
