//! Wrong bytes from the registry.

use bytes::Bytes;
use serde_json::json;

use crate::check::{Finding, Stop, must};
use crate::checks::watch::{manifest, of, refused, whole};
use crate::client::Client;
use crate::origin::{Ask, Fault, sha256};
use crate::stage::content::{INDEX, MANIFEST, Part, blob_path, image_manifest, manifest_path};
use crate::stage::{Sample, Stage};

const LARGE: usize = 4 << 20;
const SMALL: usize = 100;

pub(super) async fn tampered_blob(stage: &Stage) -> Finding {
    stage.origin()?;
    let alarms = Alarms::now(stage).await;
    let mut blobs = Vec::new();
    for (size, at) in [
        (SMALL, 50),
        (LARGE, 0),
        (LARGE, LARGE / 2),
        (LARGE, LARGE - 1),
    ] {
        let told = format!("with a wrong one at {at}");
        let faults = vec![Fault::WrongByteAt(at as u64)];
        blobs.push(Spoiled::put(stage, &told, size, faults).await?);
    }
    had_later(stage, &blobs).await?;
    alarms.rose(stage).await
}

/// A blob that comes spoiled.
struct Spoiled {
    what: String,
    path: String,
    bytes: Bytes,
}

impl Spoiled {
    /// A blob of this size, with these faults for every GET of it; a cut one is not continued.
    async fn put(stage: &Stage, told: &str, size: usize, faults: Vec<Fault>) -> Result<Self, Stop> {
        let origin = stage.origin()?;
        let bytes = stage.fresh(size);
        let repository = stage.repository();
        let digest = stage.blob(&repository, bytes.clone()).await?;
        let ask = Ask::blob(&digest);
        if matches!(faults[..], [Fault::CutFin(_) | Fault::CutRst(_)]) {
            origin.when(ask.clone().get()).once().answer_all(faults);
            origin.when(ask).answer(Fault::HangUp);
        } else {
            origin.when(ask).answer_all(faults);
        }
        Ok(Self {
            what: format!("a blob of {size} bytes that comes {told}"),
            path: blob_path(&repository, &digest),
            bytes,
        })
    }
}

/// Asks for what is spoiled, twice, and for the same when the registry is honest again.
async fn had_later(stage: &Stage, blobs: &[Spoiled]) -> Finding {
    for _ in 0..2 {
        let asking = blobs.iter().map(|blob| stage.mirror.get(&blob.path).send());
        let answers = futures_util::future::join_all(asking).await;
        for (blob, answer) in blobs.iter().zip(&answers) {
            refused(&blob.what, answer)?;
        }
    }
    stage.origin()?.behave();
    for Spoiled { what, path, bytes } in blobs {
        let had = async || {
            let answer = stage.mirror.get(path).send().await?;
            if answer.status != 200 {
                return Ok(false);
            }
            whole(&format!("what was kept of {what}"), &answer, bytes)?;
            Ok(true)
        };
        stage
            .within_ttl(&format!("the right bytes, after {what}"), had)
            .await?;
    }
    Ok(())
}

/// What an operator sees of wrong bytes: metrics if the mirror shows them, and its log.
struct Alarms {
    metrics: Option<f64>,
    log: usize,
}

impl Alarms {
    async fn now(stage: &Stage) -> Self {
        Self {
            metrics: counted(stage).await,
            log: told(stage),
        }
    }

    async fn rose(&self, stage: &Stage) -> Finding {
        stage.process()?;
        let now = Self::now(stage).await;
        let counted = now.metrics > self.metrics;
        let shown = match self.metrics {
            Some(_) => "no metric rose and ",
            None => "",
        };
        must!(
            counted || now.log > self.log,
            "{shown}no line of the log tells of a blob that does not fit its digest"
        );
        Ok(())
    }
}

/// Sum of the metrics that speak of wrong digests.
async fn counted(stage: &Stage) -> Option<f64> {
    let address = stage.process().ok()?.address("admin")?;
    let client = Client::new(crate::client::Site::loopback(address));
    let page = client.request("GET", "/metrics").send().await.ok()?.text();
    let names = ["digest", "corrupt", "mismatch", "integrity", "verif"];
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| names.iter().any(|name| line.contains(name)));
    Some(
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum(),
    )
}

/// Lines of the log that speak of them.
fn told(stage: &Stage) -> usize {
    let log = stage
        .process()
        .map(crate::stage::Process::log)
        .unwrap_or_default();
    let words = [
        "does not fit",
        "does not match",
        "mismatch",
        "corrupt",
        "wrong digest",
        "integrity",
        "verification failed",
        "wrong bytes",
        "invalid digest",
    ];
    let lines = log.lines().map(str::to_ascii_lowercase);
    lines
        .filter(|line| words.iter().any(|word| line.contains(word)))
        .count()
}

pub(super) async fn tampered_manifest(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let other = sha256(b"something else");
    for (by_tag, fault, told) in [
        (
            false,
            Fault::WrongByteAt(20),
            "by digest, with a wrong byte",
        ),
        (true, Fault::WrongByteAt(20), "by tag, with a wrong byte"),
        (
            true,
            Fault::Digest(other.clone()),
            "by tag, with a false Docker-Content-Digest",
        ),
    ] {
        let image = stage.image_of(&[stage.fresh(1000)]).await?;
        // Found under the false digest too: whoever asks for what it was told must see the lie.
        origin.push_manifest_as(&image.repository, &other, MANIFEST, image.manifest.clone());
        let path = if by_tag {
            image.by_tag()
        } else {
            image.by_digest()
        };
        let manifests = of(Ask::manifests(), &image.repository);
        match &fault {
            Fault::Digest(_) => origin.when(manifests).answer(fault),
            _ => origin.when(manifests.get()).answer(fault),
        }
        let answer = manifest(&stage.mirror, &path).send().await?;
        must!(
            answer.status == 502,
            "a manifest {told}: {}, not 502",
            answer.status
        );
        origin.behave();
        stage
            .within_ttl("the right manifest", async || {
                let answer = manifest(&stage.mirror, &path).send().await?;
                if answer.status != 200 {
                    return Ok(false);
                }
                whole(
                    &format!("what was kept of a manifest {told}"),
                    &answer,
                    &image.manifest,
                )?;
                Ok(true)
            })
            .await?;
    }
    Ok(())
}

pub(super) async fn wrong_length(stage: &Stage) -> Finding {
    let mut blobs = Vec::new();
    for (told, faults) in [
        ("too short", vec![Fault::ShortBody(1000)]),
        ("too long", vec![Fault::LongBody(1000)]),
        (
            "too short, in chunks",
            vec![Fault::ShortBody(1000), Fault::Chunked],
        ),
        (
            "too long, in chunks",
            vec![Fault::LongBody(1000), Fault::Chunked],
        ),
        (
            "too short, to the connection's end",
            vec![Fault::ShortBody(1000), Fault::CloseDelimited],
        ),
        ("cut by FIN", vec![Fault::CutFin(LARGE as u64 / 2)]),
        ("cut by RST", vec![Fault::CutRst(LARGE as u64 / 2)]),
        ("empty", vec![Fault::ShortBody(LARGE as u64)]),
    ] {
        blobs.push(Spoiled::put(stage, told, LARGE, faults).await?);
    }
    had_later(stage, &blobs).await
}

pub(super) async fn wrong_size(stage: &Stage) -> Finding {
    stage.origin()?;
    for stated in [LARGE + 1, LARGE - 1] {
        let image = misstated(stage, stated).await?;
        let answer = manifest(&stage.mirror, &image.by_tag()).send().await?;
        whole("the manifest", &answer, &image.manifest)?;
        let answer = stage.mirror.get(&image.layer_path()).send().await;
        refused(
            &format!("a blob of {LARGE} bytes, by its descriptor {stated}"),
            &answer,
        )?;
    }
    Ok(())
}

/// An image whose manifest states this size for its layer.
async fn misstated(stage: &Stage, stated: usize) -> Result<Sample, Stop> {
    let mut image = stage.image_of(&[stage.fresh(LARGE)]).await?;
    let digest = image.layers[0].digest.clone();
    let bytes = Bytes::from(vec![0; stated]);
    let manifest = image_manifest(&image.config, &[Part { digest, bytes }]).to_string();
    image.manifest = manifest.into();
    let (repository, bytes) = (&image.repository, image.manifest.clone());
    image.digest = stage
        .manifest(repository, Some(&image.tag), MANIFEST, bytes)
        .await?;
    Ok(image)
}

pub(super) async fn ambiguous(stage: &Stage) -> Finding {
    stage.origin()?;
    let image = stage.image_of(&[stage.fresh(1000)]).await?;
    let mut both: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap_or_default();
    both["manifests"] = json!([
        {"mediaType": MANIFEST, "digest": image.digest, "size": image.manifest.len()}
    ]);
    let mut index = both.clone();
    index["mediaType"] = INDEX.into();
    let mut silent = both.clone();
    silent
        .as_object_mut()
        .map(|silent| silent.remove("mediaType"));
    let plain = image.manifest.clone();
    for (tag, media_type, bytes) in [
        ("both-manifest", MANIFEST, Bytes::from(both.to_string())),
        ("both-index", INDEX, Bytes::from(index.to_string())),
        ("silent-manifest", MANIFEST, Bytes::from(silent.to_string())),
        ("called-index", INDEX, plain),
    ] {
        let repository = stage.repository();
        let digest = stage
            .manifest(&repository, Some(tag), media_type, bytes.clone())
            .await?;
        for (reference, accept) in [
            (tag, media_type),
            (&digest, media_type),
            (&digest, if media_type == INDEX { MANIFEST } else { INDEX }),
            (tag, "*/*"),
        ] {
            let asking = stage.mirror.get(&manifest_path(&repository, reference));
            let answer = asking.header("Accept", accept).send().await?;
            if answer.status >= 400 {
                continue;
            }
            whole(&format!("the manifest {tag}"), &answer, &bytes)?;
            let came = answer.header("content-type").unwrap_or_default();
            must!(
                came == media_type,
                "{tag}, with Accept {accept}: Content-Type {came}, not the registry's {media_type}"
            );
        }
    }
    Ok(())
}
