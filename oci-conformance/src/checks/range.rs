//! Parts of blobs come as RFC 9110 says, also out of a blob that is still on its way.
//!
//! That a registry takes ranges at all is a SHOULD of the specification; one that answers 200 to
//! all of them fails wherever a part is wanted, and says so in the same words.

mod cold;
mod forms;
mod multipart;
mod parts;

use crate::check::{Check, Finding, Stop, check, must};
use crate::client::{Request, Response};
use crate::stage::Stage;
use crate::stage::content::Sample;

use super::expect;

pub(super) const CHECKS: &[Check] = &[
    check!(Range 1 Rfc, "RFC 9110, 14.1.2, 14.4 and 15.3.7; distribution-spec v1.1.1, Pulling blobs", "one range is 206 with exactly its bytes and a Content-Range with the total", parts::exact),
    check!(Range 2 Rfc, "RFC 9110, 14.1.2", "a range that ends beyond the blob ends with the blob", parts::clipped),
    check!(Range 3 Rfc, "RFC 9110, 14.2, 14.4 and 15.5.17", "a range that begins beyond the blob is 416 with the size, and the connection lives on", parts::unsatisfiable),
    check!(Range 4 Own, "own: RFC 9110, 14.2, lets it be refused, and the official suite wants that", "a range that ends before it begins is 416", parts::reversed),
    check!(Range 5 Rfc, "RFC 9110, 14.2", "an unknown unit is ignored; bad syntax is ignored or refused, never answered with a part", forms::not_ranges),
    check!(Range 6 Rfc, "RFC 9110, 14.6 and 15.3.7.2", "several ranges are the whole blob, or parts that are what they say", forms::several),
    check!(Range 7 Rfc, "RFC 9110, 13.1.5", "If-Range is 206 with the strong ETag, 200 with any other", forms::if_range),
    check!(Range 8 Rfc, "RFC 9110, 14.2", "Range in a HEAD is ignored", forms::head),
    check!(Range 9 Own, "own: lazy-loading snapshotters read cold blobs by ranges", "a range of a blob that nobody has pulled is 206 with the right bytes", cold::uncached),
    check!(Range 10 Own, "own: clients go on where they were cut while others pull", "a range of a blob on its way is right and fetches the blob no second time", cold::on_its_way),
    check!(Range 11 Own, "own: containerd fetches a cold blob by parallel ranges", "16 parallel ranges of a cold blob make up its digest", cold::parallel),
    check!(Range 12 Own, "own: RFC 9110, 15.3.7: a part is what its Content-Range says, not what was asked", "wrong answers of upstream to ranges never become wrong bytes", cold::upstream_wrong),
];

/// An image whose layer is long enough to cut parts out of it, cold where that can be.
async fn target(stage: &Stage, length: usize) -> Result<Sample, Stop> {
    let image = stage.image_of(&[stage.fresh(length)]).await?;
    let length = image.layers[0].bytes.len();
    if length < 32 {
        return Err(Stop::Skip(format!(
            "the given layer has {length} bytes: too few to cut"
        )));
    }
    Ok(image)
}

fn get(stage: &Stage, image: &Sample, range: &str) -> Request {
    stage.mirror.get(&image.layer_path()).range(range)
}

/// 206 with these bytes of `all`, first to last, and a `Content-Range` that says so.
fn part(answer: &Response, all: &[u8], (first, last): (usize, usize), what: &str) -> Finding {
    must!(
        answer.status != 200,
        "{what}: 200, not 206: the range was not heeded"
    );
    expect::status(answer, 206, what)?;
    let said = format!("bytes {first}-{last}/{}", all.len());
    expect::header(answer, "content-range", &said, what)?;
    expect::body(answer, &all[first..=last], what)
}
