//! Ranges of what a mirror does not hold yet, and upstreams that answer ranges wrongly.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::super::expect;
use super::{get, part, target};
use crate::check::{Finding, must};
use crate::client::{Response, Trouble};
use crate::origin::{Ask, Fault, Gate, Origin, sha256};
use crate::stage::{Sample, Stage};

const LENGTH: usize = 4 << 20;
/// How long a mirror may wait for the rest of a blob before it is let come. It decides nothing.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn uncached(stage: &Stage) -> Finding {
    stage.origin()?;
    for form in 0..4 {
        let image = target(stage, LENGTH).await?;
        let all = &image.layers[0].bytes;
        let last = all.len() - 1;
        let (text, ends) = [
            ("bytes=0-99999".to_owned(), (0, 99_999)),
            ("bytes=3000000-3000099".to_owned(), (3_000_000, 3_000_099)),
            ("bytes=4000000-".to_owned(), (4_000_000, last)),
            ("bytes=-100".to_owned(), (last - 99, last)),
        ][form]
            .clone();
        let answer = get(stage, &image, &text).send().await?;
        part(&answer, all, ends, &format!("{text} of a cold blob"))?;
    }
    Ok(())
}

pub(super) async fn on_its_way(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = target(stage, LENGTH).await?;
    let layer = &image.layers[0];
    let all = &layer.bytes;
    let gate = Gate::closed();
    gate.allow(1 << 20);
    let body = Ask::blob(&layer.digest).get();
    origin.when(body.clone()).answer(Fault::Pace(gate.clone()));
    let ranges = [(100_000, 199_999), (3_000_000, 3_099_999)];
    let rest = async {
        // The blob is on its way, and a quarter of it may come.
        origin.wait_for(1, body.clone()).await;
        let asked = ranges.map(|(first, last)| {
            let text = format!("bytes={first}-{last}");
            get(stage, &image, &text).send()
        });
        let mut asked = pin!(join_all(asked));
        let early = tokio::time::timeout(PATIENCE, &mut asked).await;
        gate.open();
        match early {
            Ok(answers) => answers,
            Err(_) => asked.await,
        }
    };
    let whole = stage.mirror.get(&image.layer_path()).send();
    let (whole, answers) = tokio::join!(whole, rest);
    expect::whole(&whole?, all, "the whole blob")?;
    for (answer, (first, last)) in answers.into_iter().zip(ranges) {
        let what = format!("bytes={first}-{last} of a blob on its way");
        part(&answer?, all, (first, last), &what)?;
    }
    for seen in origin.seen(body.clone()) {
        seen.ended().await;
    }
    let sent = origin.body_bytes(body);
    let most = all.len() as u64 * 3 / 2;
    must!(
        sent < most,
        "the origin sent {sent} bytes of a blob of {}: it was fetched twice",
        all.len()
    );
    Ok(())
}

pub(super) async fn parallel(stage: &Stage) -> Finding {
    stage.origin()?;
    let image = target(stage, LENGTH + 12_345).await?;
    let all = &image.layers[0].bytes;
    let cut = |at: usize| all.len() * at / 16;
    let asked = (0..16).map(|at| {
        let text = format!("bytes={}-{}", cut(at), cut(at + 1) - 1);
        get(stage, &image, &text).send()
    });
    let mut joined = Vec::new();
    for (at, answer) in join_all(asked).await.into_iter().enumerate() {
        let answer = answer?;
        let what = format!("range {} of 16", at + 1);
        part(&answer, all, (cut(at), cut(at + 1) - 1), &what)?;
        joined.extend_from_slice(&answer.body);
    }
    let (digest, wanted) = (sha256(&joined), &image.layers[0].digest);
    must!(
        digest == *wanted,
        "the parts make up {digest}, not {wanted}"
    );
    Ok(())
}

/// What may go wrong with a range upstream.
fn faults() -> [(&'static str, Fault); 4] {
    [
        ("answers 200 with everything", Fault::WholeForRange),
        ("names another range", Fault::WrongContentRange),
        ("has lost the last bytes", Fault::ShortBody(1_000)),
        ("breaks off a part", Fault::CutFin(10_000)),
    ]
}

pub(super) async fn upstream_wrong(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    for (name, fault) in faults() {
        // Asked for the end of a cold blob, a mirror may fetch that part by itself.
        let image = target(stage, LENGTH).await?;
        spoil_ranges(origin, &image, &fault);
        let what = format!("upstream {name}; a part of a cold blob");
        let answer = get(stage, &image, "bytes=4140000-4160000").send().await;
        truthful(answer, &image, &what)?;
        origin.behave();

        // Cut in the middle, a mirror goes on where it was cut.
        let image = target(stage, LENGTH).await?;
        let first = Ask::blob(&image.layers[0].digest).get();
        let whole = first.and(|seen| seen.range().is_none());
        origin.when(whole).once().answer(Fault::CutFin(2_000_000));
        spoil_ranges(origin, &image, &fault);
        let answer = stage.mirror.get(&image.layer_path()).send().await;
        let what = format!("upstream {name} when it is asked for the rest");
        truthful(answer, &image, &what)?;
        origin.behave();
        let answer = stage.mirror.get(&image.layer_path()).send().await;
        truthful(answer, &image, &format!("after upstream {name}"))?;
    }
    Ok(())
}

fn spoil_ranges(origin: &Origin, image: &Sample, fault: &Fault) {
    let blob = Ask::blob(&image.layers[0].digest).get();
    let ranged = blob.and(|seen| seen.range().is_some());
    // A mirror may try again; it is not to try for ever.
    origin.when(ranged).times(20).answer(fault.clone());
}

/// Whatever came is what it says: an error, the right bytes, or the beginning of them.
fn truthful(answer: Result<Response, Trouble>, image: &Sample, what: &str) -> Finding {
    // No answer at all is no wrong byte.
    let Ok(answer) = answer else { return Ok(()) };
    let all: &Bytes = &image.layers[0].bytes;
    let wanted = match answer.status {
        200 => &all[..],
        206 => {
            let said = answer.header("content-range").unwrap_or_default();
            let read = super::multipart::content_range(said);
            let Some((first, last, total)) = read.filter(|(_, last, _)| *last < all.len()) else {
                must!(false, "{what}: 206 with Content-Range `{said}`");
                return Ok(());
            };
            must!(
                total == all.len(),
                "{what}: 206 of {total} bytes, the blob has {}",
                all.len()
            );
            &all[first..=last]
        }
        status => {
            must!(status >= 400, "{what}: {status}");
            return Ok(());
        }
    };
    if answer.complete() {
        return expect::body(&answer, wanted, what);
    }
    must!(
        wanted.starts_with(&answer.body),
        "{what}: wrong bytes among the {} that came",
        answer.body.len()
    );
    Ok(())
}
