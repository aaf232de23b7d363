//! What is deleted is gone, and only who may delete deletes.

use crate::check::{Check, Finding, Stop, check, must, skip};
use crate::client::Response;
use crate::origin::{Ask, content, sha256};
use crate::stage::content::{blob_path, manifest_path};
use crate::stage::user::{OTHER, READER};
use crate::stage::{Sample, Stage};

pub(super) const CHECKS: &[Check] = &[
    check!(Management 1 Must, "distribution-spec v1.1.1, Content Management", "a tag, a manifest and a blob that are deleted are 202, and then 404 at once", deleted),
    check!(Management 2 Must, "distribution-spec v1.1.1, Content Management", "where deleting is disabled it is 400 or 405", disabled),
    check!(Management 3 Own, "own: who may not delete must not be able to empty a cache either", "a delete without the right is upstream's 401 or 403, and what is cached stays", without_right),
    check!(Management 4 Own, "own: what its owner has withdrawn must not live on in caches", "what was deleted upstream is served no more within the stated lifetime", out_of_band),
];

/// What a tag, a manifest or a blob is asked by.
struct Thing {
    what: &'static str,
    path: String,
    /// Paths that must be 404 after it is deleted.
    gone: Vec<String>,
}

fn things(image: &Sample, untagged: &Sample) -> [Thing; 3] {
    let thing = |what, path: String, gone: &[String]| Thing {
        what,
        path,
        gone: gone.to_vec(),
    };
    let layer = untagged.layer_path();
    [
        thing("tag", image.by_tag(), &[image.by_tag()]),
        thing(
            "manifest",
            untagged.by_digest(),
            &[untagged.by_digest(), untagged.by_tag()],
        ),
        thing("blob", layer.clone(), &[layer]),
    ]
}

pub(super) async fn deleted(stage: &Stage) -> Finding {
    stage.writable()?;
    let repository = stage.repository();
    let image = stage
        .image_in(&repository, "first", &[content(0xD000, 3000)])
        .await?;
    let other = stage
        .image_in(&repository, "second", &[content(0xD001, 3000)])
        .await?;
    let mut refused = Vec::new();
    for thing in things(&image, &other) {
        // It was had before, so whoever keeps anything keeps this.
        for path in &thing.gone {
            for method in ["GET", "HEAD"] {
                let there = stage.mirror.ask(method, path).send().await?;
                must!(
                    there.status == 200,
                    "before it is deleted, {method} {path} is {}",
                    there.status
                );
            }
        }
        let answer = stage.mirror.ask("DELETE", &thing.path).send().await?;
        if matches!(answer.status, 400 | 405) {
            refused.push(thing.what);
            continue;
        }
        must!(
            answer.status == 202,
            "DELETE of a {} is {}, not 202",
            thing.what,
            answer.status
        );
        for path in &thing.gone {
            for method in ["HEAD", "GET"] {
                let after = stage.mirror.ask(method, path).send().await?;
                must!(
                    after.status == 404,
                    "after the {} was deleted, {method} {path} is {}",
                    thing.what,
                    after.status
                );
            }
        }
        listed(stage, &image, &thing).await?;
    }
    if refused.len() == 3 {
        skip!("deleting is disabled");
    }
    if let Ok(origin) = stage.origin() {
        let left = origin.blob(&repository, &other.layers[0].digest);
        must!(
            left.is_none() || refused.contains(&"blob"),
            "the deleted blob is still at the origin"
        );
    }
    Ok(())
}

/// A deleted tag is not in the list, and its manifest is there all the same.
async fn listed(stage: &Stage, image: &Sample, thing: &Thing) -> Finding {
    if thing.what != "tag" {
        return Ok(());
    }
    let tags = format!("/v2/{}/tags/list", image.repository);
    let tags = stage.mirror.ask("GET", &tags).send().await?.text();
    must!(
        !tags.contains(&format!("\"{}\"", image.tag)),
        "a deleted tag is still in the list {tags}"
    );
    let left = stage.mirror.ask("GET", &image.by_digest()).send().await?;
    must!(
        left.status == 200,
        "with its tag the manifest is gone: {}",
        left.status
    );
    Ok(())
}

/// Nothing that is there is deleted, so that this can be tried anywhere.
pub(super) async fn disabled(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let repository = &image.repository;
    let digest = sha256(b"never pushed");
    let mut answers = Vec::new();
    for (what, path) in [
        ("manifest", manifest_path(repository, &digest)),
        ("blob", blob_path(repository, &digest)),
        ("tag", manifest_path(repository, "never-pushed")),
    ] {
        let answer = stage.mirror.ask("DELETE", &path).send().await?;
        must!(
            matches!(answer.status, 202 | 400 | 401 | 403 | 404 | 405),
            "DELETE of a {what} that is not there is {}, where 404, 400 and 405 are known",
            answer.status
        );
        answers.push(answer.status);
    }
    let off = |status: &u16| matches!(status, 400 | 405);
    if !answers.iter().any(off) {
        skip!("deleting is not disabled here: {answers:?}");
    }
    // Disabled for one kind only is allowed; disabled and then done is not.
    for target in [image.by_tag(), image.by_digest(), image.layer_path()] {
        let still = stage.mirror.ask("GET", &target).send().await?;
        must!(
            still.status == 200,
            "after the refusals {answers:?}, {target} is {}",
            still.status
        );
    }
    Ok(())
}

async fn with(stage: &Stage, method: &str, path: &str, credential: &str) -> Result<Response, Stop> {
    let mut request = stage.mirror.ask(method, path);
    if !credential.is_empty() {
        request = request.header("Authorization", credential);
    }
    Ok(request.send().await?)
}

pub(super) async fn without_right(stage: &Stage) -> Finding {
    stage.writable()?;
    let origin = stage.origin()?;
    let image = stage.image().await?;
    let other = stage.image().await?;
    READER.owns(stage, &image.repository)?;
    OTHER.owns(stage, &other.repository)?;
    origin.require_basic();
    let all = [image.by_tag(), image.by_digest(), image.layer_path()];
    for path in &all {
        let had = with(stage, "GET", path, &READER.basic()).await?.status;
        if had != 200 {
            skip!("private repositories cannot be had through it: {had}");
        }
    }
    let bytes = Ask::any().get().and(|seen| seen.body_bytes() > 0);
    for credential in ["", &OTHER.basic(), "Bearer garbage"] {
        for path in &all {
            let answer = with(stage, "DELETE", path, credential).await?;
            if answer.status == 405 {
                skip!("it takes no deletes");
            }
            must!(
                matches!(answer.status, 401 | 403),
                "DELETE {path} without the right is {}, not 401 or 403",
                answer.status
            );
            let digest = [&image.digest, &image.layers[0].digest];
            let kept = origin.resolve(&image.repository, &image.tag).as_ref() == Some(digest[0])
                && origin.blob(&image.repository, digest[1]).is_some();
            must!(kept, "DELETE {path} without the right deleted it upstream");
        }
    }
    origin.forget_requests();
    for path in &all {
        let answer = with(stage, "GET", path, &READER.basic()).await?;
        must!(
            answer.status == 200,
            "after others tried to delete it, {path} is {} to its reader",
            answer.status
        );
    }
    let again = origin.count(bytes);
    must!(
        again == 0 || !stage.is_mirror(),
        "after others tried to delete it, the cached image was fetched {again} times more"
    );
    Ok(())
}

pub(super) async fn out_of_band(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image().await?;
    let all = [
        image.by_tag(),
        image.by_digest(),
        image.layer_path(),
        blob_path(&image.repository, &image.config.digest),
    ];
    for path in &all {
        for method in ["GET", "HEAD"] {
            let had = stage.mirror.ask(method, path).send().await?;
            must!(had.status == 200, "{method} {path} is {}", had.status);
        }
    }
    origin.forget(&image.repository);
    for path in &all {
        for method in ["GET", "HEAD"] {
            let held = async || {
                let status = stage.mirror.ask(method, path).send().await?.status;
                must!(
                    matches!(status, 200 | 404),
                    "{method} {path} of a repository that is gone is {status}"
                );
                Ok(status == 404)
            };
            let what = format!("{method} {path} is still served after it is gone upstream");
            stage.within_ttl(&what, held).await?;
        }
    }
    Ok(())
}
