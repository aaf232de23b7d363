//! What is new upstream is seen in time.

use bytes::Bytes;
use serde_json::json;

use super::expect;
use super::referrers;
use super::tags::{names, path};
use crate::check::{Finding, must};
use crate::stage::Stage;
use crate::stage::content::{MANIFEST, descriptor, manifest_path};

pub(super) async fn within_ttl(stage: &Stage) -> Finding {
    stage.origin()?;
    let repository = stage.repository();
    let old = stage
        .image_in(&repository, "moving", &[stage.fresh(1_000)])
        .await?;
    // The mirror learns what there is, and what there is not.
    let answer = expect::manifest(stage, "GET", &old.by_tag()).send().await?;
    expect::whole(&answer, &old.manifest, "the tag before it moves")?;
    let coming = manifest_path(&repository, "coming");
    let answer = expect::manifest(stage, "GET", &coming).send().await?;
    expect::status(&answer, 404, "the tag before it is there")?;
    let list = path(&repository);
    let answer = stage.mirror.get(&list).send().await?;
    let found = names(&answer, &repository, "the list before")?;
    must!(found == ["moving"], "the list before holds {found:?}");
    let referrers = referrers::path(&repository, &old.digest);
    let answer = stage.mirror.get(&referrers).send().await?;
    let found = referrers::entries(stage, &answer, "referrers before there is one")?;
    must!(found.is_empty(), "referrers before there is one: {found:?}");

    let new = stage
        .image_in(&repository, "coming", &[stage.fresh(1_000)])
        .await?;
    let moved = Some("moving");
    stage
        .manifest(&repository, moved, MANIFEST, new.manifest.clone())
        .await?;
    let artifact = Bytes::from(
        json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x",
            "config": descriptor("application/x", &old.config), "layers": [],
            "subject": {"mediaType": MANIFEST, "digest": old.digest, "size": old.manifest.len()},
        })
        .to_string(),
    );
    let artifact = stage
        .manifest(&repository, None, MANIFEST, artifact)
        .await?;

    for (what, tag) in [
        ("a new tag is had", "coming"),
        ("a moved tag is had", "moving"),
    ] {
        for method in ["GET", "HEAD"] {
            let seen = async || {
                let path = manifest_path(&repository, tag);
                let answer = expect::manifest(stage, method, &path).send().await?;
                Ok(answer.header("docker-content-digest") == Some(&new.digest))
            };
            stage
                .within_ttl(&format!("{what} by {method}"), seen)
                .await?;
        }
    }
    let listed = async || {
        let answer = stage.mirror.get(&list).send().await?;
        let found = names(&answer, &repository, "the list after")?;
        Ok(found == ["coming", "moving"])
    };
    stage.within_ttl("a new tag is listed", listed).await?;
    let listed = async || {
        let answer = stage.mirror.get(&referrers).send().await?;
        let found = referrers::entries(stage, &answer, "referrers after there is one")?;
        Ok(found.iter().any(|entry| entry["digest"] == *artifact))
    };
    stage.within_ttl("a new referrer is listed", listed).await
}
