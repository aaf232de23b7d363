//! What cannot be: digests, names, tags and methods outside of the grammar.

use super::expect;
use crate::check::{Finding, must};
use crate::origin::Ask;
use crate::stage::Stage;
use crate::stage::content::{blob_path, manifest_path};

pub(super) async fn digests(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let repository = &image.repository;
    let hex = image.digest.trim_start_matches("sha256:").to_owned();
    let forms = [
        "sha256:".to_owned(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", "AB".repeat(32)),
        format!("sha256:{}", "zz".repeat(32)),
        format!("sha512:{hex}"),
        format!("SHA256:{hex}"),
        format!("sha256:{hex}:{hex}"),
        format!(":{hex}"),
    ];
    for digest in &forms {
        for path in [
            blob_path(repository, digest),
            manifest_path(repository, digest),
        ] {
            for method in ["GET", "HEAD"] {
                let answer = expect::manifest(stage, method, &path).send().await?;
                let what = format!("{method} {path}");
                must!(
                    matches!(answer.status, 400 | 404),
                    "{what}: {}, not 400 or 404",
                    answer.status
                );
                let json = expect::codes(&answer).is_some();
                if answer.status == 400 && method == "GET" && json {
                    expect::code(&answer, &["DIGEST_INVALID"], &what)?;
                }
            }
        }
    }
    // The upper-case form of a digest that is there: whoever folds the case would serve it.
    let upper = format!("sha256:{}", hex.to_ascii_uppercase());
    let path = manifest_path(repository, &upper);
    let answer = expect::manifest(stage, "GET", &path).send().await?;
    must!(
        matches!(answer.status, 400 | 404),
        "a digest in upper case: {}, not 400 or 404",
        answer.status
    );
    Ok(())
}

pub(super) async fn names(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let here = &image.repository;
    let long_tag = "t".repeat(129);
    let long_name = format!("{here}/{}", "n".repeat(255 - here.len()));
    let tags = [
        long_tag.as_str(),
        ".dot",
        "-dash",
        "a$b",
        "a%20b",
        "caf%C3%A9",
    ];
    let mut paths: Vec<String> = tags.map(|tag| manifest_path(here, tag)).into();
    for name in [
        "UPPER/case",
        "-leading/dash",
        "trailing-/dash",
        "two..dots/x",
        "a___b/x",
        "_a/b",
        "a./b",
        &long_name,
    ] {
        paths.push(manifest_path(name, "latest"));
        paths.push(blob_path(name, &image.digest));
        paths.push(format!("/v2/{name}/tags/list"));
    }
    if let Ok(origin) = stage.origin() {
        origin.forget_requests();
    }
    for path in &paths {
        let answer = expect::manifest(stage, "GET", path).send().await?;
        must!(
            matches!(answer.status, 400 | 404),
            "GET {path}: {}, not 400 or 404",
            answer.status
        );
    }
    if let Ok(origin) = stage.origin() {
        let asked = origin.seen(Ask::any());
        must!(
            asked.is_empty(),
            "upstream was asked for what cannot be: {}",
            asked[0]
        );
    }
    longest(stage).await
}

/// The longest tag and every odd but valid name are still served.
async fn longest(stage: &Stage) -> Finding {
    if !(stage.is_writable() || stage.origin().is_ok()) {
        return Ok(());
    }
    let tag = "t".repeat(128);
    let odd = format!("{}/a.b_c__d---e/0/{}", stage.repository(), "n".repeat(120));
    let image = stage.image_in(&odd, &tag, &[stage.fresh(1_000)]).await?;
    let answer = expect::manifest(stage, "GET", &image.by_tag())
        .send()
        .await?;
    let what = "a tag of 128 characters in a long but valid name";
    expect::whole(&answer, &image.manifest, what)
}

pub(super) async fn methods(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let list = format!("/v2/{}/tags/list", image.repository);
    for (method, path) in [
        ("PROPFIND", image.by_tag()),
        ("PATCH", image.by_digest()),
        ("POST", image.by_tag()),
        ("PROPFIND", image.layer_path()),
        ("PATCH", image.layer_path()),
        ("POST", list),
        ("PROPFIND", "/v2/".to_owned()),
    ] {
        let answer = stage.mirror.request(method, &path).send().await?;
        let what = format!("{method} {path}");
        expect::status(&answer, 405, &what)?;
        let allowed = answer
            .header("allow")
            .unwrap_or_default()
            .to_ascii_uppercase();
        let mut allowed = allowed.split(',').map(str::trim);
        must!(
            allowed.any(|name| name == "GET"),
            "{what}: 405 whose Allow is {}, though GET is served",
            expect::shown(answer.header("allow"))
        );
        expect::code(&answer, &["UNSUPPORTED"], &what)?;
    }
    Ok(())
}
