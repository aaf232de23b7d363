//! One range: its bytes, its ends, and what lies beyond.

use super::super::expect::{self, TURNS};
use super::{get, part, target};
use crate::check::{Finding, must};
use crate::stage::{Sample, Stage};

const LENGTH: usize = 300_000;

pub(super) async fn exact(stage: &Stage) -> Finding {
    for form in 0..6 {
        let image = target(stage, LENGTH).await?;
        let all = &image.layers[0].bytes;
        let (last, mid) = (all.len() - 1, all.len() / 2);
        let (text, ends) = [
            ("bytes=0-0".to_owned(), (0, 0)),
            (format!("bytes=7-{mid}"), (7, mid)),
            (format!("bytes={mid}-"), (mid, last)),
            ("bytes=-9".to_owned(), (last - 8, last)),
            (format!("bytes={last}-{last}"), (last, last)),
            (format!("bytes=0-{last}"), (0, last)),
        ][form]
            .clone();
        for turn in TURNS {
            let answer = get(stage, &image, &text).follow().await?;
            part(&answer, all, ends, &format!("{text}, {turn}"))?;
        }
        // A registry may be cold to the range and warm to the whole.
        let whole = stage.mirror.get(&image.layer_path()).follow().await?;
        expect::whole(&whole, all, "the whole blob after a part")?;
        let answer = get(stage, &image, &text).follow().await?;
        part(&answer, all, ends, &format!("{text} after the whole"))?;
    }
    Ok(())
}

pub(super) async fn clipped(stage: &Stage) -> Finding {
    for form in 0..4 {
        let image = target(stage, LENGTH).await?;
        let all = &image.layers[0].bytes;
        let last = all.len() - 1;
        let (text, first) = [
            (format!("bytes={}-{}", last - 9, last + 1), last - 9),
            (format!("bytes=1-{}", u64::MAX), 1),
            // More digits than any integer of a machine has.
            ("bytes=2-99999999999999999999999999".to_owned(), 2),
            (format!("bytes=-{}", last + 1000), 0),
        ][form]
            .clone();
        for turn in TURNS {
            let answer = get(stage, &image, &text).follow().await?;
            part(&answer, all, (first, last), &format!("{text}, {turn}"))?;
        }
    }
    Ok(())
}

pub(super) async fn unsatisfiable(stage: &Stage) -> Finding {
    for form in 0..3 {
        let image = target(stage, LENGTH).await?;
        let length = image.layers[0].bytes.len();
        let text = [
            format!("bytes={length}-"),
            format!("bytes={}-{}", length + 100, length + 200),
            "bytes=-0".to_owned(),
        ][form]
            .clone();
        for turn in TURNS {
            refused(stage, &image, &text, turn).await?;
        }
        let whole = stage.mirror.get(&image.layer_path()).follow().await?;
        expect::whole(&whole, &image.layers[0].bytes, "the whole blob")?;
        refused(stage, &image, &text, "after the whole").await?;
    }
    Ok(())
}

/// 416 with the size, on a connection that goes on with the next request.
async fn refused(stage: &Stage, image: &Sample, text: &str, turn: &str) -> Finding {
    let all = &image.layers[0].bytes;
    let what = format!("{text} of {} bytes, {turn}", all.len());
    let size = format!("bytes */{}", all.len());
    let mut connection = stage.mirror.connect().await?;
    let mut answer = get(stage, image, text).send_on(&mut connection).await?;
    let redirected = (300..400).contains(&answer.status);
    if redirected {
        answer = get(stage, image, text).follow().await?;
    }
    must!(
        answer.status != 200,
        "{what}: 200, not 416: the range was not heeded"
    );
    expect::status(&answer, 416, &what)?;
    expect::header(&answer, "content-range", &size, &what)?;
    let (announced, came) = (answer.header("content-length"), answer.body.len());
    must!(
        answer.complete(),
        "{what}: 416 announces {} bytes of body, of which {came} come",
        expect::shown(announced)
    );
    let closes = answer.headers("connection").any(|value| value == "close");
    if redirected || closes {
        return Ok(());
    }
    let next = stage.mirror.get(&image.layer_path()).range("bytes=1-4");
    let next = next.send_on(&mut connection).await;
    let Ok(next) = next else {
        must!(
            false,
            "{what}: the connection does not go on after the 416: {next:?}"
        );
        return Ok(());
    };
    super::part(&next, all, (1, 4), "the next request on the connection")
}

pub(super) async fn reversed(stage: &Stage) -> Finding {
    let image = target(stage, LENGTH).await?;
    for turn in TURNS {
        let answer = get(stage, &image, "bytes=20-10").follow().await?;
        expect::status(&answer, 416, &format!("bytes=20-10, {turn}"))?;
        let whole = stage.mirror.get(&image.layer_path()).follow().await?;
        expect::whole(&whole, &image.layers[0].bytes, "the whole blob after it")?;
    }
    Ok(())
}
