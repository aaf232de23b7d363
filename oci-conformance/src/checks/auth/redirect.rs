//! Credentials stay with whom they were given for.

use super::{blobs, get, image, login, warm};
use crate::check::{Finding, Stop, must};
use crate::origin::{Ask, Fault, Kind, Origin, content, sha256};
use crate::stage::content::{MANIFEST, blob_path, descriptor, manifest_path};
use crate::stage::user::READER;
use crate::stage::{Part, Scripted, Stage};

pub(super) async fn authorization_stays(stage: &Stage) -> Finding {
    let scripted = stage.scripted()?;
    let origin = &scripted.first;
    let image = image(stage, 80).await?;
    READER.owns(stage, &image.repository)?;
    origin.require_tokens();
    let token = login(stage, &image.by_tag(), READER).await?;
    warm(stage, &image, &token).await?;
    redirects(stage, &image.repository, 81, &token).await?;
    // The same by Basic, which has no realm that binds it.
    origin.require_basic();
    redirects(stage, &image.repository, 82, &READER.basic()).await?;
    foreign_urls(stage, &image.repository, &READER.basic()).await?;
    other_registry(stage, scripted).await
}

/// Blobs and manifests that the registry keeps elsewhere.
async fn redirects(stage: &Stage, repository: &str, seed: u64, credential: &str) -> Finding {
    let scripted = stage.scripted()?;
    let (origin, second) = (&scripted.first, &scripted.second);
    let (own, other) = (origin.addr().port(), second.addr().port());
    let bases = [
        format!("http://127.0.0.1:{other}"),
        format!("http://localhost:{own}"),
        format!("http://localhost:{other}"),
        format!("http://[::ffff:127.0.0.1]:{other}"),
    ];
    let made = blobs(stage, repository, seed, bases.len() as u64).await?;
    for (base, (target, bytes)) in bases.iter().zip(&made) {
        let path = format!("/store{target}");
        for at in [origin, second] {
            at.serve_at(&path, bytes.clone());
        }
        let redirect = Fault::Redirect(format!("{base}{path}?signature=presigned"));
        origin.when(Ask::path(target)).answer(redirect);
        let answer = get(stage, target, credential).await?;
        must!(
            answer.status != 200 || answer.body == *bytes,
            "{base}: 200 with other bytes than the blob's"
        );
        kept(origin, base, |host| host.starts_with("localhost"))?;
        kept(second, base, |_| true)?;
        origin.behave();
    }
    let path = manifest_path(repository, "latest");
    second.serve_at("/store/manifest", "{}");
    let redirect = Fault::Redirect(format!("http://localhost:{other}/store/manifest"));
    origin.when(Ask::path(&path)).answer(redirect);
    get(stage, &path, credential).await?;
    kept(second, "a manifest's redirect", |_| true)?;
    origin.behave();
    Ok(())
}

/// Fails if a request that came by one of these `Host`s had a credential.
fn kept(at: &Origin, what: &str, host: impl Fn(&str) -> bool) -> Result<(), Stop> {
    let seen = at.seen(Ask::of(|seen| seen.authorization().is_some()));
    let leaked = seen
        .iter()
        .find(|seen| host(seen.header("host").unwrap_or_default()));
    if let Some(leaked) = leaked {
        let host = leaked.header("host").unwrap_or_default();
        must!(false, "{what}: Authorization came to {host} with {leaked}");
    }
    Ok(())
}

/// A layer that lies elsewhere, by `urls` of its descriptor.
async fn foreign_urls(stage: &Stage, repository: &str, credential: &str) -> Finding {
    let second = &stage.scripted()?.second;
    let layer = Part {
        digest: sha256(&content(0xA083, 4096)),
        bytes: content(0xA083, 4096),
    };
    let url = format!("http://127.0.0.1:{}/foreign/layer", second.addr().port());
    second.serve_at("/foreign/layer", layer.bytes.clone());
    let kind = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let mut foreign = descriptor(kind, &layer);
    foreign["urls"] = serde_json::json!([url]);
    let config = content(0xA084, 64);
    let config = Part {
        digest: stage.blob(repository, config.clone()).await?,
        bytes: config,
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [foreign],
    });
    stage
        .manifest(repository, Some("foreign"), MANIFEST, manifest.to_string())
        .await?;
    let answer = get(stage, &manifest_path(repository, "foreign"), credential).await?;
    must!(
        answer.status == 200,
        "the manifest of a foreign layer is {}, not 200",
        answer.status
    );
    let target = blob_path(repository, &layer.digest);
    get(stage, &target, credential).await?;
    kept(second, "a foreign layer", |_| true)
}

/// A pull from the second registry right after one from the first.
async fn other_registry(stage: &Stage, scripted: &Scripted) -> Finding {
    let repository = stage.repository();
    let (first, second) = (&scripted.first, &scripted.second);
    let bytes = content(0xA085, 1024);
    let digest = second.push_blob(&repository, bytes.clone());
    let path = blob_path(&repository, &digest);
    let named = format!("{path}?ns={}", scripted.second_name);
    let answer = stage.mirror.ask("GET", &named).send().await?;
    kept(second, "a pull from the second registry", |_| true)?;
    if answer.status != 200 || answer.body != bytes {
        // It does not tell registries apart by `ns`, and need not.
        return Ok(());
    }
    // What is said to the mirror of one registry is not for the other.
    let credential = READER.basic();
    let of_second = Ask::of(move |seen| seen.kind == Kind::Blob(digest.clone()));
    first.forget_requests();
    get(stage, &named, &credential).await?;
    must!(
        first.count(of_second.and(|seen| seen.authorization().is_some())) == 0,
        "a credential for the second registry came to the first"
    );
    Ok(())
}
