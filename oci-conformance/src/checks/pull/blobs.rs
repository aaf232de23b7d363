//! Blobs: whole, by HEAD, of every size and digest, and those that are not a registry's to give.

use bytes::Bytes;
use serde_json::json;

use super::super::expect::{self, TURNS};
use crate::check::{Finding, must};
use crate::origin::{Ask, Fault, content, sha256};
use crate::stage::content::{MANIFEST, blob_path, image_manifest, manifest_path};
use crate::stage::{Part, Stage};

/// The form that image-spec gives as an example of an algorithm which nobody has registered.
const UNREGISTERED: &str = "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8";

pub(super) async fn by_digest(stage: &Stage) -> Finding {
    let image = stage.image_of(&[stage.fresh(200_000)]).await?;
    for part in image.layers.iter().chain([&image.config]) {
        let path = blob_path(&image.repository, &part.digest);
        for turn in TURNS {
            let what = format!("{}, {turn}", part.digest);
            let mut answer = stage.mirror.get(&path).send().await?;
            if (300..400).contains(&answer.status) {
                // A blob store knows nothing of the registry's header.
                answer = stage.mirror.get(&path).follow().await?;
            } else {
                expect::digest_of(&answer, &part.bytes, &what)?;
            }
            expect::whole(&answer, &part.bytes, &what)?;
            let length = part.bytes.len().to_string();
            expect::header(&answer, "content-length", &length, &what)?;
        }
    }
    Ok(())
}

pub(super) async fn head_cold(stage: &Stage) -> Finding {
    let image = stage.image_of(&[stage.fresh(300_000)]).await?;
    let layer = &image.layers[0];
    let answer = stage.mirror.head(&image.layer_path()).follow().await?;
    expect::status(&answer, 200, "HEAD")?;
    let length = layer.bytes.len().to_string();
    expect::header(&answer, "content-length", &length, "HEAD")?;
    let (_, extra) = expect::with_rest(stage.mirror.head(&image.layer_path())).await?;
    must!(extra == 0, "HEAD: {extra} bytes of body");
    if let Ok(origin) = stage.origin() {
        // Whoever fetches behind the answer has begun before it answers something else.
        let other = expect::manifest(stage, "GET", &image.by_tag());
        expect::status(&other.send().await?, 200, "the manifest")?;
        let bodies = origin.count(Ask::blob(&layer.digest).get());
        must!(
            bodies == 0,
            "after HEAD alone the origin was asked {bodies} times for the blob"
        );
    }
    Ok(())
}

pub(super) async fn tiny(stage: &Stage) -> Finding {
    let repository = stage.repository();
    for bytes in [Bytes::new(), Bytes::from_static(b"{}")] {
        let digest = stage.blob(&repository, bytes.clone()).await?;
        let path = blob_path(&repository, &digest);
        let length = bytes.len().to_string();
        for turn in TURNS {
            let what = format!("the blob of {length} bytes, {turn}");
            let answer = stage.mirror.get(&path).follow().await?;
            expect::whole(&answer, &bytes, &what)?;
            expect::header(&answer, "content-length", &length, &what)?;
            let answer = stage.mirror.head(&path).follow().await?;
            let what = format!("HEAD of {what}");
            expect::status(&answer, 200, &what)?;
            expect::header(&answer, "content-length", &length, &what)?;
        }
    }
    Ok(())
}

pub(super) async fn sha512(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let bytes = stage.fresh(100_000);
    let digest = stage.blob_sha512(&repository, bytes.clone()).await?;
    let path = blob_path(&repository, &digest);
    for turn in TURNS {
        let answer = stage.mirror.get(&path).follow().await?;
        let what = format!("the blob, {turn}");
        expect::whole(&answer, &bytes, &what)?;
        expect::header(&answer, "docker-content-digest", &digest, &what)?;
    }
    let part = |bytes: Bytes, digest: &str| Part {
        digest: digest.to_owned(),
        bytes,
    };
    let config = Bytes::from_static(b"{}");
    let named = stage.blob(&repository, config.clone()).await?;
    let manifest = image_manifest(&part(config, &named), &[part(bytes, &digest)]);
    let manifest = Bytes::from(manifest.to_string());
    let digest = stage
        .manifest_sha512(&repository, MANIFEST, manifest.clone())
        .await?;
    for turn in TURNS {
        let path = manifest_path(&repository, &digest);
        let answer = expect::manifest(stage, "GET", &path).follow().await?;
        let what = format!("the manifest, {turn}");
        expect::whole(&answer, &manifest, &what)?;
        expect::header(&answer, "docker-content-digest", &digest, &what)?;
    }
    if stage.origin().is_ok() {
        verified(stage, &repository).await?;
    }
    Ok(())
}

/// Bytes that do not fit a sha512 digest are not passed on as a whole answer.
async fn verified(stage: &Stage, repository: &str) -> Finding {
    let origin = stage.origin()?;
    let digest = stage.blob_sha512(repository, stage.fresh(100_000)).await?;
    let wrong = Ask::blob(&digest).get();
    origin.when(wrong).answer(Fault::WrongByteAt(50_000));
    let path = blob_path(repository, &digest);
    let answer = stage.mirror.get(&path).send().await;
    must!(
        !answer.is_ok_and(|answer| answer.status == 200 && answer.complete()),
        "a blob with a wrong byte is passed on whole as {digest}"
    );
    let manifest = Bytes::from(format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],"annotations":{{"of":"{repository}"}}}}"#
    ));
    let digest = stage
        .manifest_sha512(repository, MANIFEST, manifest)
        .await?;
    let wrong = Ask::manifest(&digest).get();
    origin.when(wrong).answer(Fault::WrongByteAt(20));
    let path = manifest_path(repository, &digest);
    let answer = expect::manifest(stage, "GET", &path).send().await;
    must!(
        !answer.is_ok_and(|answer| answer.status == 200 && answer.complete()),
        "a manifest with a wrong byte is passed on as {digest}"
    );
    Ok(())
}

pub(super) async fn unregistered(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let repository = stage.repository();
    let path = blob_path(&repository, UNREGISTERED);
    for turn in ["first", "second"] {
        // Other content under the same name: who kept the first would give it again.
        let bytes = stage.fresh(30_000);
        origin.push_blob_as(&repository, UNREGISTERED, bytes.clone());
        let answer = stage.mirror.get(&path).send().await?;
        let what = format!("GET of a blob, the {turn} content");
        expect::whole(&answer, &bytes, &what)?;
        let answer = stage.mirror.head(&path).send().await?;
        let what = format!("HEAD of a blob, the {turn} content");
        expect::status(&answer, 200, &what)?;
    }
    let path = manifest_path(&repository, UNREGISTERED);
    for turn in ["first", "second"] {
        let bytes = Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","layers":[],"annotations":{{"of":"{turn}"}}}}"#
        ));
        origin.push_manifest_as(&repository, UNREGISTERED, MANIFEST, bytes.clone());
        let answer = expect::manifest(stage, "GET", &path).send().await?;
        let what = format!("GET of a manifest, the {turn} content");
        expect::whole(&answer, &bytes, &what)?;
    }
    let path = blob_path(&repository, "multihash+base58:QmNothing");
    let answer = stage.mirror.get(&path).send().await?;
    expect::status(&answer, 404, "GET of an unknown blob")
}

pub(super) async fn foreign(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let image = stage
        .image_in(&repository, "plain", &[stage.fresh(5_000)])
        .await?;
    let bytes = content(16, 20_000);
    let layer = Part {
        digest: sha256(&[&bytes[..], repository.as_bytes()].concat()),
        bytes,
    };
    let url = match stage.scripted() {
        Ok(scripted) => {
            let second = &scripted.second;
            second.serve_at("/foreign/layer", layer.bytes.clone());
            format!("{}/foreign/layer", second.url())
        }
        Err(_) => "https://layers.example.invalid/foreign/layer".to_owned(),
    };
    let mut manifest = image_manifest(&image.config, std::slice::from_ref(&layer));
    manifest["layers"][0]["mediaType"] =
        json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
    manifest["layers"][0]["urls"] = json!([url]);
    let manifest = Bytes::from(manifest.to_string());
    let tag = Some("foreign");
    let digest = stage
        .manifest(&repository, tag, MANIFEST, manifest.clone())
        .await?;
    let path = blob_path(&repository, &layer.digest);
    let upstream = stage.reference().head(&path).follow().await?.status;
    for turn in TURNS {
        for reference in ["foreign", &digest] {
            let path = manifest_path(&repository, reference);
            let answer = expect::manifest(stage, "GET", &path).follow().await?;
            expect::whole(&answer, &manifest, &format!("{reference}, {turn}"))?;
        }
        for method in ["HEAD", "GET"] {
            let answer = expect::ask(stage, method, &path).follow().await?;
            let what = format!("{method} of the foreign layer, as upstream, {turn}");
            expect::status(&answer, upstream, &what)?;
        }
    }
    if let Ok(scripted) = stage.scripted() {
        let asked = scripted.second.count(Ask::path("/foreign/layer"));
        must!(asked == 0, "the layer's url was fetched {asked} times");
    }
    Ok(())
}
