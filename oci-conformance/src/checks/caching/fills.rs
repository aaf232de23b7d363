//! A cold blob on its way, and the clients that want it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::check::{Finding, must, skip};
use crate::checks::watch::{in_time, no_more_than, open, whole};
use crate::origin::{Ask, Fault, Gate};
use crate::stage::Stage;
use crate::stage::content::blob_path;

const CLIENTS: usize = 64;
/// How much of a blob the registry sends before it holds the rest back.
const BEGUN: u64 = 1 << 20;
/// Longest life of a download that nobody waits for and that does not move.
const ABANDONED_MAX: Duration = Duration::from_secs(120);
/// A blob that no kernel buffer of a connection holds.
const LARGE: usize = 48 << 20;

pub(super) async fn one_fill(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let bytes = stage.fresh(1 << 20);
    let repository = stage.repository();
    let digest = stage.blob(&repository, bytes.clone()).await?;
    let path = blob_path(&repository, &digest);
    let gate = Gate::closed();
    origin
        .when(Ask::blob(&digest))
        .answer(Fault::HoldHead(gate.clone()));
    let pulls = (0..CLIENTS).map(|_| stage.mirror.get(&path).send());
    let pulls = futures_util::future::join_all(pulls);
    let begun = Instant::now();
    let watching = async {
        origin.wait_for(1, Ask::blob(&digest)).await;
        let once = no_more_than(stage, origin, Ask::blob(&digest), 1).await;
        gate.open();
        once
    };
    let (answers, once) = tokio::join!(pulls, watching);
    once?;
    in_time(begun)?;
    for answer in answers {
        whole("the blob", &answer?, &bytes)?;
    }
    let (gets, heads) = (
        origin.count(Ask::blob(&digest).get()),
        origin.count(Ask::blob(&digest).head()),
    );
    must!(
        (gets, heads) == (1, 0),
        "{CLIENTS} clients cost {gets} GETs and {heads} HEADs, not one GET"
    );
    Ok(())
}

pub(super) async fn first_bytes(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let bytes = stage.fresh(4 << 20);
    let repository = stage.repository();
    let digest = stage.blob(&repository, bytes.clone()).await?;
    let gate = Gate::closed();
    gate.allow(BEGUN);
    origin
        .when(Ask::blob(&digest))
        .answer(Fault::Pace(gate.clone()));
    let request = stage.mirror.get(&blob_path(&repository, &digest));
    let mut pulling = request.wait(Duration::from_secs(15)).open().await?;
    let came = pulling.at_least(1).await.len();
    must!(
        came > 0,
        "no byte came while the registry had sent {BEGUN} of {}",
        bytes.len()
    );
    gate.open();
    whole("the blob", &pulling.rest().await?, &bytes)
}

pub(super) async fn leaving(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let bytes = stage.fresh(4 << 20);
    let repository = stage.repository();
    let digest = stage.blob(&repository, bytes.clone()).await?;
    let abandoned = stage.blob(&repository, stage.fresh(4 << 20)).await?;
    let (gate, never) = (Gate::closed(), Gate::closed());
    for (digest, gate) in [(&digest, &gate), (&abandoned, &never)] {
        gate.allow(BEGUN);
        origin
            .when(Ask::blob(digest))
            .answer(Fault::Pace(gate.clone()));
    }
    let left_at = Instant::now();
    let pulling = stage.mirror.get(&blob_path(&repository, &abandoned)).open();
    drop(pulling.await?);

    let path = blob_path(&repository, &digest);
    let mut first = stage.mirror.get(&path).open().await?;
    first.at_least(1).await;
    let mut second = stage.mirror.get(&path).open().await?;
    second.at_least(1).await;
    drop(first);
    gate.open();
    whole(
        "the blob, when another client has left",
        &second.rest().await?,
        &bytes,
    )?;

    // Over when no request is open and none is made anew.
    let (mut over_since, ask) = (None, Ask::blob(&abandoned));
    loop {
        let seen = origin.count(ask.clone());
        let open = open(origin, ask.clone());
        match over_since {
            Some((since, count)) if open == 0 && count == seen => {
                if Instant::now() > since + Duration::from_secs(2) {
                    return Ok(());
                }
            }
            _ if open == 0 => over_since = Some((Instant::now(), seen)),
            _ => over_since = None,
        }
        must!(
            left_at.elapsed() < ABANDONED_MAX,
            "a download that nobody waits for and that does not move is open after {ABANDONED_MAX:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn slow_reader(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let bytes = stage.fresh(LARGE);
    let repository = stage.repository();
    let digest = stage.blob(&repository, bytes.clone()).await?;
    let path = blob_path(&repository, &digest);
    let memory = || stage.process().ok().and_then(|process| process.memory());
    let before = memory();
    let mut slow = stage.mirror.get(&path).open().await?;
    origin.wait_for(1, Ask::blob(&digest)).await;
    for _ in 0..3 {
        let answer = stage.mirror.get(&path).send().await?;
        whole(
            "the blob, beside a client that does not read",
            &answer,
            &bytes,
        )?;
    }
    let after = memory();
    whole(
        "the blob of the client that did not read",
        &slow.rest().await?,
        &bytes,
    )?;
    stage.process()?;
    let (Some(before), Some(after)) = (before, after) else {
        skip!("the others are not held up; this kernel does not tell memory");
    };
    let (grown, half) = (after.saturating_sub(before), LARGE as u64 / 2);
    must!(
        grown < half,
        "its memory grew by {grown} bytes for a blob of {LARGE}"
    );
    Ok(())
}
