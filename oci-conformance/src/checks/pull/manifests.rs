//! Manifests: by tag, by digest, by HEAD, of every type, byte for byte.

use bytes::Bytes;
use serde_json::json;

use super::super::expect::{self, TURNS};
use crate::check::{Finding, Stop, must};
use crate::client::Response;
use crate::origin::sha256;
use crate::stage::content::{
    DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, blob_path, image_manifest, manifest_path,
};
use crate::stage::{Part, Sample, Stage};

/// What HEAD and GET must say alike.
const SAME: [&str; 3] = ["docker-content-digest", "content-length", "content-type"];
/// What must be the same cold and warm.
const STEADY: [&str; 5] = [
    "docker-content-digest",
    "content-length",
    "content-type",
    "etag",
    "accept-ranges",
];
/// Bytes of the large manifest's annotations: with the rest it stays below 4 MiB.
const LARGE: usize = 3_900_000;

pub(super) async fn by_tag(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    for turn in TURNS {
        let answer = expect::manifest(stage, "GET", &image.by_tag());
        let answer = answer.follow().await?;
        expect::whole(&answer, &image.manifest, &format!("by tag, {turn}"))?;
    }
    Ok(())
}

pub(super) async fn by_digest(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    for turn in TURNS {
        let answer = expect::manifest(stage, "GET", &image.by_digest());
        let answer = answer.follow().await?;
        let what = format!("by digest, {turn}");
        expect::status(&answer, 200, &what)?;
        let digest = sha256(&answer.body);
        must!(
            answer.complete() && digest == image.digest,
            "{what}: the body hashes to {digest}, not {}",
            image.digest
        );
    }
    Ok(())
}

pub(super) async fn content_type(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let json: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap_or_default();
    for turn in TURNS {
        for (method, path) in [
            ("HEAD", image.by_tag()),
            ("GET", image.by_tag()),
            ("HEAD", image.by_digest()),
            ("GET", image.by_digest()),
        ] {
            let answer = expect::manifest(stage, method, &path).follow().await?;
            let what = format!("{method} {path}, {turn}");
            expect::status(&answer, 200, &what)?;
            expect::header(&answer, "content-type", &image.media_type, &what)?;
            must!(
                !image.media_type.contains(';'),
                "{what}: Content-Type `{}` has parameters",
                image.media_type
            );
            if let Some(own) = json["mediaType"].as_str() {
                expect::header(&answer, "content-type", own, &what)?;
            }
        }
    }
    Ok(())
}

pub(super) async fn head(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    for (by, path) in [("tag", image.by_tag()), ("digest", image.by_digest())] {
        for turn in TURNS {
            let what = format!("HEAD by {by}, {turn}");
            let answer = expect::manifest(stage, "HEAD", &path).follow().await?;
            expect::status(&answer, 200, &what)?;
            expect::digest_of(&answer, &image.manifest, &what)?;
            let length = image.manifest.len().to_string();
            expect::header(&answer, "content-length", &length, &what)?;
            let request = expect::manifest(stage, "HEAD", &path);
            let (_, extra) = expect::with_rest(request).await?;
            must!(extra == 0, "{what}: {extra} bytes of body");
        }
    }
    Ok(())
}

pub(super) async fn heads_agree(stage: &Stage) -> Finding {
    for order in [["HEAD", "GET"], ["GET", "HEAD"]] {
        let image = stage.image_of(&[stage.fresh(40_000)]).await?;
        agree(stage, &image.by_digest(), order).await?;
        agree(stage, &image.layer_path(), order).await?;
        let image = stage.image_of(&[stage.fresh(40_000)]).await?;
        agree(stage, &image.by_tag(), order).await?;
    }
    Ok(())
}

/// Asks cold and warm in this order and compares.
async fn agree(stage: &Stage, path: &str, order: [&str; 2]) -> Finding {
    let mut answers: Vec<(String, Response)> = Vec::new();
    for turn in TURNS {
        for method in order {
            let answer = expect::manifest(stage, method, path).send().await?;
            if (300..400).contains(&answer.status) {
                // A blob store's headers are not the registry's.
                return Ok(());
            }
            let what = format!("{method} {path}, {turn}");
            expect::status(&answer, 200, &what)?;
            answers.push((what, answer));
        }
    }
    let (first, rest) = answers.split_at(1);
    for (what, answer) in rest {
        same(&SAME, (&first[0].0, &first[0].1), (what, answer))?;
    }
    for at in 0..2 {
        let (cold, warm) = (&answers[at], &answers[at + 2]);
        same(&STEADY, (&cold.0, &cold.1), (&warm.0, &warm.1))?;
    }
    Ok(())
}

fn same(names: &[&str], one: (&str, &Response), other: (&str, &Response)) -> Finding {
    for name in names {
        let (here, there) = (one.1.header(name), other.1.header(name));
        must!(
            here == there,
            "{name} is {} at {}, but {} at {}",
            expect::shown(here),
            one.0,
            expect::shown(there),
            other.0
        );
    }
    Ok(())
}

pub(super) async fn kinds(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let image = stage
        .image_in(&repository, "image", &[stage.fresh(5_000)])
        .await?;
    let child = entry(MANIFEST, &image.digest, image.manifest.len());
    let index = document(INDEX, &json!([child]));
    let inner = put(stage, &repository, "index", INDEX, &index).await?;
    let nested = document(INDEX, &json!([entry(INDEX, &inner, index.len())]));
    let outer = put(stage, &repository, "nested", INDEX, &nested).await?;
    let schema2 = schema2(&image);
    let docker = put(stage, &repository, "schema2", DOCKER_MANIFEST, &schema2).await?;
    let list = document(
        DOCKER_LIST,
        &json!([entry(DOCKER_MANIFEST, &docker, schema2.len())]),
    );
    let fat = put(stage, &repository, "list", DOCKER_LIST, &list).await?;
    let child = image.digest.clone();
    for (reference, kind, bytes) in [
        ("index", INDEX, &index),
        (inner.as_str(), INDEX, &index),
        ("nested", INDEX, &nested),
        (outer.as_str(), INDEX, &nested),
        (child.as_str(), MANIFEST, &image.manifest),
        ("list", DOCKER_LIST, &list),
        (fat.as_str(), DOCKER_LIST, &list),
        ("schema2", DOCKER_MANIFEST, &schema2),
        (docker.as_str(), DOCKER_MANIFEST, &schema2),
    ] {
        let path = manifest_path(&repository, reference);
        for turn in TURNS {
            let answer = expect::manifest(stage, "GET", &path).follow().await?;
            let what = format!("{reference} of type {kind}, {turn}");
            expect::whole(&answer, bytes, &what)?;
            expect::header(&answer, "content-type", kind, &what)?;
            expect::digest_of(&answer, bytes, &what)?;
        }
    }
    Ok(())
}

fn entry(kind: &str, digest: &str, size: usize) -> serde_json::Value {
    json!({
        "mediaType": kind, "digest": digest, "size": size,
        "platform": { "architecture": "amd64", "os": "linux" },
    })
}

fn document(kind: &str, manifests: &serde_json::Value) -> Bytes {
    let document = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
    document.to_string().into()
}

fn schema2(image: &Sample) -> Bytes {
    let part = |kind: &str, part: &Part| json!({ "mediaType": kind, "digest": part.digest, "size": part.bytes.len() });
    let layer = "application/vnd.docker.image.rootfs.diff.tar";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": part("application/vnd.docker.container.image.v1+json", &image.config),
        "layers": [part(layer, &image.layers[0])],
    });
    manifest.to_string().into()
}

async fn put(
    stage: &Stage,
    repository: &str,
    tag: &str,
    kind: &str,
    bytes: &Bytes,
) -> Result<String, Stop> {
    stage
        .manifest(repository, Some(tag), kind, bytes.clone())
        .await
}

pub(super) async fn exact(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let image = stage
        .image_in(&repository, "plain", &[stage.fresh(5_000)])
        .await?;
    let plain = image_manifest(&image.config, &image.layers);
    let mut unknown = plain.clone();
    unknown["x-unknown"] = json!({ "deep": [1, 2.50, "\u{e9}", null] });
    let mut data = plain.clone();
    data["config"]["data"] = json!(base64_of(&image.config.bytes));
    let mut large = plain.clone();
    large["annotations"] = json!({ "org.example.large": "x".repeat(LARGE) });
    let spaced = plain
        .to_string()
        .replace(':', " :\t ")
        .replace('{', "{\r\n");
    // The colons of digests and types stand in texts, where no space may be added.
    let spaced = spaced.replace("sha256 :\t ", "sha256:");
    for (tag, bytes) in [
        ("whitespace", format!("\n {spaced}\n\n").into()),
        ("unknown", unknown.to_string().into()),
        ("data", data.to_string().into()),
        ("large", large.to_string().into()),
    ] {
        let bytes: Bytes = bytes;
        let digest = put(stage, &repository, tag, MANIFEST, &bytes).await?;
        for reference in [tag, &digest] {
            for turn in TURNS {
                let path = manifest_path(&repository, reference);
                let answer = expect::manifest(stage, "GET", &path).follow().await?;
                let what = format!("the manifest with {tag} as {reference}, {turn}");
                expect::whole(&answer, &bytes, &what)?;
            }
        }
    }
    // What the large manifest names is still had beside it.
    let path = blob_path(&repository, &image.config.digest);
    let answer = stage.mirror.get(&path).follow().await?;
    expect::whole(&answer, &image.config.bytes, "the config")
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
