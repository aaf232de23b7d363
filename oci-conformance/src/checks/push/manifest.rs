//! Manifests that are taken, what the answer says, and what is served then.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{begin, expect, is_ours, location, named, push, put, upload};
use crate::check::{Finding, Stop, must, skip};
use crate::client::Response;
use crate::origin::{content, sha256};
use crate::stage::content::{
    ANY_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, blob_path, image_manifest,
    manifest_path,
};
use crate::stage::{Part, Stage};

/// The parts of an image, pushed; each seed makes another image.
async fn parts(stage: &Stage, repository: &str, seed: u64) -> Result<(Part, Part), Stop> {
    let config = json!({"architecture": "amd64", "os": "linux", "seed": seed, "rootfs": {
        "type": "layers", "diff_ids": [],
    }});
    let config = push(stage, repository, &Bytes::from(config.to_string())).await?;
    let layer = push(stage, repository, &content(0xC100 + seed, 2000)).await?;
    Ok((config, layer))
}

async fn document(stage: &Stage, repository: &str, seed: u64) -> Result<Value, Stop> {
    let (config, layer) = parts(stage, repository, seed).await?;
    Ok(image_manifest(&config, &[layer]))
}

/// What every accepted manifest is answered.
async fn accepted(
    stage: &Stage,
    answer: &Response,
    bytes: &Bytes,
    how: &str,
) -> Result<String, Stop> {
    expect(answer, how, &[201])?;
    let digest = sha256(bytes);
    let said = answer.header("docker-content-digest");
    must!(
        said.is_none_or(|said| said == digest),
        "{how}: Docker-Content-Digest is {said:?}, not {digest}"
    );
    must!(
        said.is_some(),
        "{how}: the answer has no Docker-Content-Digest"
    );
    let place = location(answer, how)?;
    if stage.is_mirror() {
        is_ours(stage, &place, how)?;
    }
    let pulled = stage.mirror.request("GET", &named(stage, &place));
    let pulled = pulled.header("Accept", ANY_MANIFEST).send().await?;
    must!(
        pulled.status == 200 && pulled.body == *bytes,
        "{how}: its Location {place} is {} with {} of {} bytes",
        pulled.status,
        pulled.body.len(),
        bytes.len()
    );
    Ok(digest)
}

pub(super) async fn taken(stage: &Stage) -> Finding {
    stage.writable()?;
    let repository = stage.repository();
    // Odd whitespace: it is kept byte for byte.
    let document = document(stage, &repository, 1).await?;
    let text = format!(
        " {}\n",
        serde_json::to_string_pretty(&document).unwrap_or_default()
    );
    let bytes = Bytes::from(text);
    let answer = put(stage, &repository, "tagged", (MANIFEST, &bytes)).await?;
    let digest = accepted(stage, &answer, &bytes, "a manifest by tag").await?;
    for reference in ["tagged", &digest] {
        reads(stage, &repository, reference, &bytes).await?;
    }
    let bytes = Bytes::from(self::document(stage, &repository, 2).await?.to_string());
    let digest = sha256(&bytes);
    let answer = put(stage, &repository, &digest, (MANIFEST, &bytes)).await?;
    accepted(stage, &answer, &bytes, "a manifest by digest").await?;
    reads(stage, &repository, &digest, &bytes).await?;
    // A second time it is there already.
    let answer = put(stage, &repository, &digest, (MANIFEST, &bytes)).await?;
    accepted(stage, &answer, &bytes, "a manifest by digest again").await?;
    other_types(stage, &repository, (&digest, bytes.len())).await
}

/// An index of what was pushed, and the two types of Docker's own.
async fn other_types(stage: &Stage, repository: &str, (digest, size): (&str, usize)) -> Finding {
    let (config, layer) = parts(stage, repository, 10).await?;
    let mut docker = image_manifest(&config, &[layer]);
    docker["mediaType"] = DOCKER_MANIFEST.into();
    docker["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    docker["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    let docker = Bytes::from(docker.to_string());
    let index = |media_type: &str, of: &str, digest: &str, size: usize| {
        let of = json!({"mediaType": of, "digest": digest, "size": size,
            "platform": {"architecture": "amd64", "os": "linux"}});
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [of]});
        Bytes::from(index.to_string())
    };
    let list = index(DOCKER_LIST, DOCKER_MANIFEST, &sha256(&docker), docker.len());
    for (tag, media_type, bytes) in [
        ("index", INDEX, index(INDEX, MANIFEST, digest, size)),
        ("docker", DOCKER_MANIFEST, docker),
        ("list", DOCKER_LIST, list),
    ] {
        let answer = put(stage, repository, tag, (media_type, &bytes)).await?;
        accepted(stage, &answer, &bytes, media_type).await?;
        let read = stage.mirror.ask("GET", &manifest_path(repository, tag));
        let read = read.send().await?;
        let said = read.header("content-type").unwrap_or_default();
        must!(
            said == media_type && read.body == bytes,
            "what was pushed as {media_type} is {said}, {}",
            sha256(&read.body)
        );
    }
    Ok(())
}

async fn reads(stage: &Stage, repository: &str, reference: &str, bytes: &Bytes) -> Finding {
    let path = manifest_path(repository, reference);
    let answer = stage.mirror.ask("GET", &path);
    let answer = answer.send().await?;
    must!(
        answer.status == 200 && answer.body == *bytes,
        "{path} is {} with {}, not {}",
        answer.status,
        sha256(&answer.body),
        sha256(bytes)
    );
    Ok(())
}

pub(super) async fn headers(stage: &Stage) -> Finding {
    stage.writable()?;
    if let Ok(origin) = stage.origin() {
        origin.habits(|habits| habits.chunk_min = Some(4096));
        let begun = begin(stage, &stage.repository(), "").await?;
        let said = begun.header("oci-chunk-min-length");
        must!(
            said == Some("4096"),
            "OCI-Chunk-Min-Length is {said:?}, not the origin's 4096"
        );
        origin.habits(|habits| habits.chunk_min = None);
    }
    let repository = stage.repository();
    let mut document = document(stage, &repository, 3).await?;
    let subject = document.to_string();
    let (size, subject) = (subject.len(), Bytes::from(subject));
    let answer = put(stage, &repository, "subject", (MANIFEST, &subject)).await?;
    expect(&answer, "the subject's manifest", &[201])?;
    let digest = sha256(&subject);
    document["subject"] = json!({"mediaType": MANIFEST, "digest": digest, "size": size});
    let bytes = Bytes::from(document.to_string());
    let answer = put(stage, &repository, &sha256(&bytes), (MANIFEST, &bytes)).await?;
    expect(&answer, "a manifest with a subject", &[201])?;
    let said = answer.header("oci-subject").map(str::to_owned);
    let referrers = format!("/v2/{repository}/referrers/{digest}");
    let listed = stage.mirror.ask("GET", &referrers).send().await?;
    must!(
        said.is_some() || listed.status != 200,
        "there is a referrers API, and no OCI-Subject"
    );
    if let Some(said) = &said {
        must!(*said == digest, "OCI-Subject is {said}, not {digest}");
        let shown = listed.text().contains(&sha256(&bytes));
        must!(
            listed.status == 200 && shown,
            "OCI-Subject was said, and the referrers are {} without it",
            listed.status
        );
    }
    let tags = tagged(stage, &repository).await?;
    if said.is_none() && !tags {
        skip!("it has neither a referrers API nor tags in the query");
    }
    Ok(())
}

/// Tags in the query; whether they are taken.
async fn tagged(stage: &Stage, repository: &str) -> Result<bool, Stop> {
    let bytes = Bytes::from(document(stage, repository, 4).await?.to_string());
    let reference = format!("{}?tag=one&tag=two.2&tag=three", sha256(&bytes));
    let answer = put(stage, repository, &reference, (MANIFEST, &bytes)).await?;
    expect(&answer, "a manifest with tags in the query", &[201])?;
    let said: Vec<String> = answer
        .headers("oci-tag")
        .flat_map(|line| line.split(','))
        .map(|tag| tag.trim().to_owned())
        .collect();
    for tag in ["one", "two.2", "three"] {
        let path = manifest_path(repository, tag);
        let read = stage.mirror.ask("GET", &path);
        let read = read.send().await?.status;
        let told = said.iter().any(|said| said == tag);
        must!(
            told == (read == 200),
            "OCI-Tag has {said:?}, and then {tag} is {read}"
        );
    }
    Ok(!said.is_empty())
}

pub(super) async fn served_at_once(stage: &Stage) -> Finding {
    stage.writable()?;
    let repository = stage.repository();
    upload(stage, &repository).await?;
    let first = document_bytes(stage, &repository, 5).await?;
    let tag = manifest_path(&repository, "moving");
    // It was asked for before it was there, by name, by digest, and its parts.
    let by_digest = manifest_path(&repository, &sha256(&first));
    let layer = content(0xC1F0, 2500);
    let blob = blob_path(&repository, &sha256(&layer));
    for path in [&tag, &by_digest, &blob] {
        for method in ["HEAD", "GET"] {
            let absent = stage.mirror.ask(method, path).send().await?;
            expect(&absent, &format!("{method} {path} before its push"), &[404])?;
        }
    }
    push(stage, &repository, &layer).await?;
    status(stage, &blob, 200, "a blob that was 404 before its push").await?;
    let answer = put(stage, &repository, "moving", (MANIFEST, &first)).await?;
    expect(&answer, "PUT of a manifest", &[201])?;
    reads(stage, &repository, "moving", &first).await?;
    reads(stage, &repository, &sha256(&first), &first).await?;
    // And each time it moves.
    for seed in 6..9 {
        let next = document_bytes(stage, &repository, seed).await?;
        let answer = put(stage, &repository, "moving", (MANIFEST, &next)).await?;
        expect(&answer, "PUT of a manifest", &[201])?;
        let head = stage.mirror.ask("HEAD", &tag);
        let head = head.send().await?;
        let said = head.header("docker-content-digest");
        must!(
            said == Some(sha256(&next).as_str()),
            "right after a tag was moved, HEAD has {said:?}, not {}",
            sha256(&next)
        );
        reads(stage, &repository, "moving", &next).await?;
    }
    let tags = format!("/v2/{repository}/tags/list");
    let listed = stage.mirror.ask("GET", &tags).send().await?;
    must!(
        listed.text().contains("\"moving\""),
        "right after its push the tag is not in {tags}: {}",
        listed.status
    );
    Ok(())
}

async fn document_bytes(stage: &Stage, repository: &str, seed: u64) -> Result<Bytes, Stop> {
    let document = document(stage, repository, seed).await?;
    Ok(Bytes::from(document.to_string()))
}

async fn status(stage: &Stage, path: &str, wanted: u16, what: &str) -> Finding {
    for method in ["HEAD", "GET"] {
        let answer = stage.mirror.ask(method, path).send().await?;
        must!(
            answer.status == wanted,
            "{what}: {method} is {}, not {wanted}",
            answer.status
        );
    }
    Ok(())
}
