//! Referrers: descriptors of what has a manifest as its subject.

use bytes::Bytes;
use serde_json::{Value, json};

use super::expect;
use super::tags::has_own_content;
use crate::check::{Finding, Stop, must, skip};
use crate::client::Response;
use crate::origin::{Ask, Fault, Kind, Reply, sha256};
use crate::stage::content::{INDEX, MANIFEST, descriptor, manifest_path};
use crate::stage::{Part, Sample, Stage};

const SIGNATURE: &str = "application/vnd.example.signature.v1+json";
const SBOM: &str = "application/vnd.example.sbom.v1";

pub(super) fn path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/referrers/{digest}")
}

/// A manifest that refers to another, and the descriptor that a list must have of it.
pub(super) struct Referrer {
    media_type: &'static str,
    bytes: Bytes,
    expected: Value,
}

/// An artifact by its own type, one by its config's, an index with a type and one without.
fn referrers(image: &Sample) -> Vec<Referrer> {
    let subject = json!({
        "mediaType": image.media_type, "digest": image.digest, "size": image.manifest.len(),
    });
    let config = |kind: &str| descriptor(kind, &image.config);
    let layer: Vec<Value> = image
        .layers
        .iter()
        .map(|part| descriptor("application/x", part))
        .collect();
    let one = |media_type, document: Value, kind: Option<&str>| {
        let mut document = document;
        document["schemaVersion"] = json!(2);
        document["mediaType"] = json!(media_type);
        document["subject"] = subject.clone();
        let bytes = Bytes::from(document.to_string());
        let digest = sha256(&bytes);
        let mut expected = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        if let Some(kind) = kind {
            expected["artifactType"] = json!(kind);
        }
        if document["annotations"].is_object() {
            expected["annotations"] = document["annotations"].clone();
        }
        Referrer {
            media_type,
            bytes,
            expected,
        }
    };
    let empty = "application/vnd.oci.empty.v1+json";
    vec![
        one(
            MANIFEST,
            json!({
                "artifactType": SIGNATURE, "config": config(empty), "layers": layer,
                "annotations": {"org.example.signature": "abcd", "org.example.k\u{e9}y": "\u{2713}"},
            }),
            Some(SIGNATURE),
        ),
        one(
            MANIFEST,
            json!({"config": config(SBOM), "layers": layer}),
            Some(SBOM),
        ),
        one(
            INDEX,
            json!({
                "artifactType": SBOM, "manifests": [], "annotations": {"org.example.of": "index"},
            }),
            Some(SBOM),
        ),
        one(INDEX, json!({"manifests": []}), None),
    ]
}

/// An image with its referrers, where the registry under test finds them.
async fn referred(stage: &Stage) -> Result<(Sample, Vec<Referrer>), Stop> {
    if stage.origin().is_err() {
        stage.writable()?;
    }
    let image = stage.image_of(&[stage.fresh(1_000)]).await?;
    let referrers = referrers(&image);
    for one in &referrers {
        stage
            .manifest(&image.repository, None, one.media_type, one.bytes.clone())
            .await?;
    }
    Ok((image, referrers))
}

/// The entries of a 200 index. 404 is a registry's word that it has no such API, but a mirror of
/// one that has it may not say so.
pub(super) fn entries(stage: &Stage, answer: &Response, what: &str) -> Result<Vec<Value>, Stop> {
    if answer.status == 404 && stage.origin().is_err() {
        skip!("404: the registry has no referrers API");
    }
    expect::status(answer, 200, what)?;
    expect::header(answer, "content-type", INDEX, what)?;
    let json = answer.json();
    let form = json["schemaVersion"] == 2 && json["mediaType"] == INDEX;
    must!(
        form,
        "{what}: the body is no image index: {}",
        answer.text()
    );
    match json["manifests"].as_array() {
        Some(entries) => Ok(entries.clone()),
        None => Err(Stop::Fail(format!("{what}: no list `manifests`: {json}"))),
    }
}

/// Exactly these descriptors, in any order.
fn exactly(found: &[Value], wanted: &[&Value], what: &str) -> Finding {
    must!(
        found.len() == wanted.len(),
        "{what}: {} entries, not {}: {found:?}",
        found.len(),
        wanted.len()
    );
    for descriptor in wanted {
        let digest = &descriptor["digest"];
        let Some(entry) = found.iter().find(|entry| entry["digest"] == *digest) else {
            return Err(Stop::Fail(format!("{what}: {digest} is missing")));
        };
        for field in ["mediaType", "size", "artifactType", "annotations"] {
            let (came, meant) = (entry.get(field), descriptor.get(field));
            // No annotations may be an empty map.
            let none = field == "annotations" && meant.is_none();
            let none = none && came.is_none_or(|came| *came == json!({}));
            must!(
                came == meant || none,
                "{what}: {field} of {digest} is {}, not {}",
                came.unwrap_or(&Value::Null),
                meant.map_or("left out".to_owned(), Value::to_string)
            );
        }
    }
    Ok(())
}

pub(super) async fn list(stage: &Stage) -> Finding {
    let (image, referrers) = referred(stage).await?;
    let wanted: Vec<&Value> = referrers.iter().map(|one| &one.expected).collect();
    for turn in expect::TURNS {
        let path = path(&image.repository, &image.digest);
        let answer = stage.mirror.get(&path).send().await?;
        let what = format!("referrers, {turn}");
        let found = entries(stage, &answer, &what)?;
        exactly(&found, &wanted, &what)?;
    }
    for one in &referrers {
        let digest = one.expected["digest"].as_str().unwrap_or_default();
        let path = manifest_path(&image.repository, digest);
        let answer = expect::manifest(stage, "GET", &path).follow().await?;
        expect::whole(&answer, &one.bytes, &format!("the referrer {digest}"))?;
    }
    Ok(())
}

pub(super) async fn none(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let answer = stage
        .mirror
        .get(&path(&image.repository, &image.digest))
        .send()
        .await?;
    let found = entries(stage, &answer, "an image without referrers")?;
    // A given image may have some.
    let ours = has_own_content(stage);
    must!(
        !ours || found.is_empty(),
        "an image without referrers has {found:?}"
    );
    let unknown = sha256(&stage.fresh(100));
    let answer = stage
        .mirror
        .get(&path(&image.repository, &unknown))
        .send()
        .await?;
    let found = entries(stage, &answer, "a digest that is not there")?;
    must!(found.is_empty(), "a digest that is not there has {found:?}");
    for digest in [
        "sha256:odd",
        "sha256:",
        "latest",
        &format!("sha256:{}", "AB".repeat(32)),
    ] {
        let answer = stage
            .mirror
            .get(&path(&image.repository, digest))
            .send()
            .await?;
        expect::status(&answer, 400, &format!("referrers of `{digest}`"))?;
    }
    Ok(())
}

pub(super) async fn filtered(stage: &Stage) -> Finding {
    let (image, referrers) = referred(stage).await?;
    let base = path(&image.repository, &image.digest);
    // The + of a media type is a space to some readers of queries, so it is escaped.
    for (kind, query) in [
        (SBOM, SBOM.to_owned()),
        (SIGNATURE, SIGNATURE.replace('/', "%2F").replace('+', "%2B")),
        ("application/none", "application/none".to_owned()),
    ] {
        let answer = stage
            .mirror
            .get(&format!("{base}?artifactType={query}"))
            .send()
            .await?;
        let what = format!("artifactType={kind}");
        let found = entries(stage, &answer, &what)?;
        let applied = answer.header("oci-filters-applied");
        let applied_here = applied
            .is_some_and(|applied| applied.split(',').any(|name| name.trim() == "artifactType"));
        must!(
            applied_here,
            "{what}: OCI-Filters-Applied is {}; {} entries came",
            expect::shown(applied),
            found.len()
        );
        let wanted: Vec<&Value> = referrers
            .iter()
            .map(|one| &one.expected)
            .filter(|one| one["artifactType"] == kind)
            .collect();
        exactly(&found, &wanted, &what)?;
    }
    let answer = stage.mirror.get(&base).send().await?;
    let applied = answer.header("oci-filters-applied");
    must!(
        applied.is_none_or(str::is_empty),
        "without a filter OCI-Filters-Applied is {}",
        expect::shown(applied)
    );
    Ok(())
}

pub(super) async fn fallback(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image_of(&[stage.fresh(1_000)]).await?;
    let longer = stage
        .manifest_sha512(&image.repository, MANIFEST, image.manifest.clone())
        .await?;
    for (how, reply) in [
        ("empty", Reply::new(404)),
        (
            "a page",
            Reply::new(404)
                .header("Content-Type", "text/plain")
                .body("404 page not found"),
        ),
        ("JSON", expect::refusal(404, "UNSUPPORTED")),
    ] {
        let api = Ask::of(|seen| matches!(seen.kind, Kind::Referrers(_)));
        origin.when(api).answer(Fault::Reply(reply));
        for digest in [&image.digest, &longer] {
            let answer = stage
                .mirror
                .get(&path(&image.repository, digest))
                .send()
                .await?;
            let what = format!("referrers where upstream has no API (404, {how})");
            expect::status(&answer, 404, &what)?;
        }
        origin.behave();
    }
    for digest in [&image.digest, &longer] {
        let (algorithm, encoded) = digest.split_once(':').unwrap_or_default();
        // At most 32 and 64 characters (Referrers tag schema).
        let tag = format!("{algorithm}-{}", &encoded[..64]);
        let answer = expect::manifest(stage, "GET", &manifest_path(&image.repository, &tag))
            .send()
            .await?;
        expect::status(
            &answer,
            404,
            &format!("the fallback tag {tag} before it is there"),
        )?;
        let config = &image.config;
        let entry = Part {
            digest: config.digest.clone(),
            bytes: config.bytes.clone(),
        };
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, &entry)], "annotations": {"of": tag}});
        let index = Bytes::from(index.to_string());
        stage
            .manifest(&image.repository, Some(&tag), INDEX, index.clone())
            .await?;
        let had = async || {
            let path = manifest_path(&image.repository, &tag);
            let answer = expect::manifest(stage, "GET", &path).send().await?;
            Ok(answer.status == 200 && answer.body == index)
        };
        stage
            .within_ttl(&format!("the fallback tag {tag} is had"), had)
            .await?;
    }
    Ok(())
}
