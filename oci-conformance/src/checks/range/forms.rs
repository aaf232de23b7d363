//! Range fields that are none, many, conditional, or in the wrong request.

use super::super::expect::{self, TURNS};
use super::{get, multipart, part, target};
use crate::check::{Finding, must};
use crate::client::Response;
use crate::stage::{Sample, Stage};

const LENGTH: usize = 100_000;

pub(super) async fn not_ranges(stage: &Stage) -> Finding {
    let image = target(stage, LENGTH).await?;
    let all = &image.layers[0].bytes;
    for text in ["items=0-5", "lines=1-2", "seconds=-3"] {
        for turn in TURNS {
            let answer = get(stage, &image, text).follow().await?;
            expect::whole(&answer, all, &format!("Range: {text}, {turn}"))?;
        }
    }
    for text in [
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=--5",
        "bytes=1-2-3",
        "bytes=+1-5",
        "bytes=0x1-0x5",
        "bytes 0-5",
        "bytes=1-2;3-4",
        "0-5",
    ] {
        let answer = get(stage, &image, text).follow().await?;
        let what = format!("Range: {text}");
        must!(
            matches!(answer.status, 200 | 400 | 416),
            "{what}: {}, neither ignored (200) nor refused (400, 416)",
            answer.status
        );
        if answer.status == 200 {
            expect::body(&answer, all, &what)?;
        }
    }
    Ok(())
}

pub(super) async fn several(stage: &Stage) -> Finding {
    for text in [
        "bytes=0-1,4-9",
        "bytes=4-9, 0-1",
        "bytes=0-9,5-20,-4",
        "bytes=0-0,99999999-",
        "bytes=1-3 , ,7-8",
    ] {
        let image = target(stage, LENGTH).await?;
        for turn in TURNS {
            let answer = get(stage, &image, text).follow().await?;
            self_described(&answer, &image, &format!("{text}, {turn}"))?;
        }
    }
    Ok(())
}

/// The whole, or a part or parts that are what they say.
fn self_described(answer: &Response, image: &Sample, what: &str) -> Finding {
    let all = &image.layers[0].bytes;
    if answer.status == 200 {
        return expect::body(answer, all, what);
    }
    let came = answer.status;
    must!(came == 206, "{what}: {came}, not 200 or 206");
    must!(answer.complete(), "{what}: the body ends early");
    let parts = match multipart::parts(answer) {
        Ok(parts) => parts,
        Err(why) => {
            must!(false, "{what}: {why}");
            return Ok(());
        }
    };
    must!(!parts.is_empty(), "{what}: 206 without a part");
    for (said, bytes) in &parts {
        let Some((first, last, total)) = multipart::content_range(said) else {
            must!(false, "{what}: Content-Range `{said}`");
            return Ok(());
        };
        must!(
            total == all.len() && all.get(first..=last) == Some(&bytes[..]),
            "{what}: the part said to be `{said}` has {} bytes that are not those",
            bytes.len()
        );
    }
    Ok(())
}

pub(super) async fn if_range(stage: &Stage) -> Finding {
    let image = target(stage, LENGTH).await?;
    let all = &image.layers[0].bytes;
    let with = |validator: &str| get(stage, &image, "bytes=10-19").header("If-Range", validator);
    for turn in TURNS {
        for other in ["\"something else\"", "Thu, 01 Jan 1970 00:00:01 GMT"] {
            let answer = with(other).follow().await?;
            expect::whole(&answer, all, &format!("If-Range: {other}, {turn}"))?;
        }
    }
    let whole = stage.mirror.get(&image.layer_path()).follow().await?;
    let tag = whole.header("etag").unwrap_or_default().to_owned();
    must!(
        tag.starts_with('"'),
        "the blob has no strong ETag (`{tag}`), so that nothing can be matched"
    );
    let answer = with(&tag).follow().await?;
    part(&answer, all, (10, 19), &format!("If-Range: {tag}"))?;
    // Weak tags never match here (13.1.5).
    let weak = format!("W/{tag}");
    let answer = with(&weak).follow().await?;
    expect::whole(&answer, all, &format!("If-Range: {weak}"))
}

pub(super) async fn head(stage: &Stage) -> Finding {
    let image = target(stage, LENGTH).await?;
    let length = image.layers[0].bytes.len().to_string();
    for range in ["bytes=0-9", "bytes=999999999-"] {
        for turn in TURNS {
            let request = stage.mirror.head(&image.layer_path()).range(range);
            let answer = request.follow().await?;
            let what = format!("HEAD with Range: {range}, {turn}");
            expect::status(&answer, 200, &what)?;
            expect::header(&answer, "content-length", &length, &what)?;
            let said = answer.header("content-range");
            must!(
                said.is_none(),
                "{what}: Content-Range `{}`",
                said.unwrap_or_default()
            );
        }
        let whole = stage.mirror.get(&image.layer_path()).follow().await?;
        expect::status(&whole, 200, "the whole blob")?;
    }
    Ok(())
}
