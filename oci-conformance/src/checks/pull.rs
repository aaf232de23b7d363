//! Manifests and blobs are had as the specification says.

use crate::check::{Check, Finding, check, must};
use crate::origin::sha256;
use crate::stage::Stage;

pub(super) const CHECKS: &[Check] = &[
    check!(Pull 1 Must, "distribution-spec v1.1.1, end-1", "GET /v2/ is 200, or 401 with a challenge that can be read", ping),
    check!(Pull 3 Must, "distribution-spec v1.1.1, end-3", "a manifest by digest is 200 and hashes to the digest", manifest_by_digest),
];

async fn ping(stage: &Stage) -> Finding {
    let answer = stage.mirror.request("GET", "/v2/").plain().send().await?;
    match answer.status {
        200 => Ok(()),
        401 => {
            let challenge = answer.header("www-authenticate").unwrap_or_default();
            let scheme = challenge.split(' ').next().unwrap_or_default();
            let known = ["bearer", "basic"]
                .iter()
                .any(|name| scheme.eq_ignore_ascii_case(name));
            must!(known, "401 with WWW-Authenticate `{challenge}`");
            Ok(())
        }
        status => {
            must!(false, "{status}, not 200 or 401");
            Ok(())
        }
    }
}

async fn manifest_by_digest(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let answer = stage.mirror.get(&image.by_digest()).send().await?;
    must!(answer.status == 200, "{}, not 200", answer.status);
    let digest = sha256(&answer.body);
    must!(
        digest == image.digest,
        "the body hashes to {digest}, not {}",
        image.digest
    );
    Ok(())
}
