//! Downloads that break off, and URLs that end before their time.

use crate::check::{Finding, must, skip};
use crate::checks::watch::whole;
use crate::client::Response;
use crate::origin::{Ask, Fault};
use crate::stage::Stage;
use crate::stage::content::blob_path;

const SIZE: usize = 4 << 20;
/// Where a download breaks off.
const CUT: u64 = 1_500_000;

pub(super) async fn resumed(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    for (cut, told) in [
        (Fault::CutFin(CUT), "cut by FIN"),
        (Fault::CutRst(CUT), "cut by RST"),
        (Fault::CutFin(CUT), "cut, and answered whole to the Range"),
    ] {
        let bytes = stage.fresh(SIZE);
        let repository = stage.repository();
        let digest = stage.blob(&repository, bytes.clone()).await?;
        let ask = Ask::blob(&digest).get();
        origin.when(ask.clone()).once().answer(cut);
        if told.ends_with("Range") {
            origin.when(ask.clone()).answer(Fault::WholeForRange);
        }
        let answer = stage
            .mirror
            .get(&blob_path(&repository, &digest))
            .send()
            .await?;
        whole(&format!("a download {told}"), &answer, &bytes)?;
        let ranges = origin.seen(ask).into_iter().skip(1);
        let ranges: Vec<_> = ranges.map(|seen| seen.range().map(str::to_owned)).collect();
        let goes_on = ranges.iter().flatten().any(|range| starts_late(range));
        must!(
            goes_on,
            "a download {told} at {CUT} is not continued by Range: {ranges:?}"
        );
    }
    Ok(())
}

/// Whether a range begins after what came certainly.
fn starts_late(range: &str) -> bool {
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split('-').next());
    start
        .and_then(|start| start.parse::<u64>().ok())
        .is_some_and(|start| start > 0)
}

/// The second origin is the blob store: URLs of it end, the first one goes on to give new ones.
pub(super) async fn presigned(stage: &Stage) -> Finding {
    let (origin, store) = (stage.origin()?, &stage.scripted()?.second);
    for cut in [false, true] {
        let bytes = stage.fresh(SIZE);
        let repository = stage.repository();
        let digest = stage.blob(&repository, bytes.clone()).await?;
        let [old, new] = ["old", "new"].map(|name| format!("/store/{name}/{digest}"));
        for (path, times) in [(&old, 1), (&new, usize::MAX)] {
            store.serve_at(path, bytes.clone());
            let place = format!("{}{path}?signature=x", store.url());
            let ask = Ask::blob(&digest).get();
            origin.when(ask).times(times).answer(Fault::Redirect(place));
        }
        if cut {
            store
                .when(Ask::path(&old))
                .once()
                .answer(Fault::CutFin(CUT));
        }
        store.when(Ask::path(&old)).answer(Fault::Status(403));
        let asking = stage.mirror.get(&blob_path(&repository, &digest));
        let answer = asking.send().await?;
        if relayed(&answer) {
            skip!("the mirror sends its clients to the blob store");
        }
        let refused = answer.status >= 400 && store.count(Ask::path(&old)) == 0;
        if refused {
            skip!("the mirror does not follow redirects to {{upstream2}}, a private address");
        }
        let when = if cut {
            "in the middle"
        } else {
            "before its first use"
        };
        whole(&format!("a blob whose URL expired {when}"), &answer, &bytes)?;
    }
    Ok(())
}

fn relayed(answer: &Response) -> bool {
    matches!(answer.status, 301 | 302 | 303 | 307 | 308)
}
