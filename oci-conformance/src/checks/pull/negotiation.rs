//! What a client says it takes, has already, or can decode.

use bytes::Bytes;
use serde_json::json;

use super::super::expect::{self, TURNS};
use crate::check::{Finding, must};
use crate::client::Request;
use crate::origin::{Ask, Fault, Kind, Origin, Reply, Seen, sha256};
use crate::stage::content::{ANY_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, MANIFEST};
use crate::stage::{Sample, Stage};

/// Answers as docker-registry does: an OCI manifest only to whom accepts its type.
fn choosy(origin: &Origin, repository: &str, otherwise: Reply) {
    let of = repository.to_owned();
    let unfit = Ask::manifests().and(move |seen| seen.repository == of && !accepts(seen, MANIFEST));
    origin.when(unfit).answer(Fault::Reply(otherwise));
}

fn accepts(seen: &Seen, kind: &str) -> bool {
    let lines = seen.headers.iter().filter(|(name, _)| name == "accept");
    let mut types = lines
        .flat_map(|(_, line)| line.split(','))
        .map(|item| item.split(';').next().unwrap_or_default().trim());
    types.any(|item| item == kind || item == "*/*")
}

pub(super) async fn docker_only(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    for oci_first in [false, true] {
        // Some registries have no such manifest for Docker, others make one.
        let image = stage.image_of(&[stage.fresh(5_000)]).await?;
        let none = expect::refusal(404, "MANIFEST_UNKNOWN");
        choosy(origin, &image.repository, none);
        each_its_own(stage, &image, None, oci_first).await?;

        let image = stage.image_of(&[stage.fresh(5_000)]).await?;
        let converted = Bytes::from(
            json!({
                "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": [],
                "config": { "mediaType": "application/json", "size": 2, "digest": image.config.digest },
            })
            .to_string(),
        );
        let reply = Reply::new(200)
            .header("Content-Type", DOCKER_MANIFEST)
            .header("Docker-Content-Digest", &sha256(&converted))
            .body(converted.clone());
        choosy(origin, &image.repository, reply);
        each_its_own(stage, &image, Some(&converted), oci_first).await?;
    }
    Ok(())
}

/// Asks for the tag as a Docker-only client and as an OCI client, in turns.
async fn each_its_own(
    stage: &Stage,
    image: &Sample,
    converted: Option<&Bytes>,
    oci_first: bool,
) -> Finding {
    for turn in 0..4 {
        let oci = (turn % 2 == 0) == oci_first;
        let get = stage.mirror.get(&image.by_tag());
        if oci {
            let answer = get.header("Accept", ANY_MANIFEST).send().await?;
            let what = format!("OCI client, request {}", turn + 1);
            expect::whole(&answer, &image.manifest, &what)?;
            expect::header(&answer, "content-type", MANIFEST, &what)?;
            continue;
        }
        let accept = format!("{DOCKER_MANIFEST}, {DOCKER_LIST}");
        let answer = get.header("Accept", &accept).send().await?;
        let what = format!("Docker-only client, as upstream, request {}", turn + 1);
        match converted {
            None => expect::status(&answer, 404, &what)?,
            Some(bytes) => {
                expect::whole(&answer, bytes, &what)?;
                expect::header(&answer, "content-type", DOCKER_MANIFEST, &what)?;
            }
        }
    }
    Ok(())
}

pub(super) async fn accept_forms(stage: &Stage) -> Finding {
    let weighted = format!("{DOCKER_MANIFEST};q=0.9, {MANIFEST};q=0.5,*/*;q=0.1");
    let line = format!("{DOCKER_MANIFEST}, {DOCKER_LIST}, {MANIFEST}");
    let tight = line.replace(", ", ",");
    for (what, lines) in [
        ("one line", vec![line.as_str()]),
        ("one line without spaces", vec![tight.as_str()]),
        (
            "several lines",
            vec![DOCKER_MANIFEST, DOCKER_LIST, MANIFEST],
        ),
        ("weights", vec![weighted.as_str()]),
        ("*/* alone", vec!["*/*"]),
        ("no Accept", vec![]),
        ("an Accept that fits nothing", vec!["text/html"]),
    ] {
        let image = stage.image_of(&[stage.fresh(5_000)]).await?;
        if let Ok(origin) = stage.origin() {
            let none = expect::refusal(404, "MANIFEST_UNKNOWN");
            choosy(origin, &image.repository, none);
        }
        let with = |request: Request| {
            let lines = lines.iter();
            lines.fold(request, |request, line| request.header("Accept", line))
        };
        let upstream = with(stage.reference().get(&image.by_tag()))
            .follow()
            .await?;
        for turn in TURNS {
            let answer = with(stage.mirror.get(&image.by_tag())).follow().await?;
            let what = format!("{what}, as upstream, {turn}");
            expect::status(&answer, upstream.status, &what)?;
            if upstream.status != 200 {
                continue;
            }
            expect::body(&answer, &upstream.body, &what)?;
            let kind = upstream.header("content-type").unwrap_or_default();
            expect::header(&answer, "content-type", kind, &what)?;
        }
    }
    Ok(())
}

pub(super) async fn if_none_match(stage: &Stage) -> Finding {
    let image = stage.image_of(&[stage.fresh(60_000)]).await?;
    let layer = &image.layers[0].bytes;
    let targets = [
        ("manifest by tag", image.by_tag(), &image.manifest),
        ("manifest by digest", image.by_digest(), &image.manifest),
        ("blob", image.layer_path(), layer),
    ];
    for (what, path, bytes) in &targets {
        // Cold: something is there, so `*` is a hit before anybody has pulled it.
        let request = expect::manifest(stage, "GET", path).header("If-None-Match", "*");
        let answer = request.follow().await?;
        expect::status(&answer, 304, &format!("{what}, `*`, cold"))?;
        let answer = expect::manifest(stage, "GET", path).send().await?;
        if (300..400).contains(&answer.status) {
            // The blob store's answers are not the registry's.
            continue;
        }
        expect::whole(&answer, bytes, what)?;
        let tag = answer.header("etag").unwrap_or_default().to_owned();
        must!(
            tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'),
            "{what}: ETag `{tag}` is no strong entity tag"
        );
        conditions(stage, (what, path, bytes), &tag).await?;
    }
    Ok(())
}

async fn conditions(stage: &Stage, target: (&str, &str, &Bytes), tag: &str) -> Finding {
    let (what, path, bytes) = target;
    let list = format!("\"something else\", {tag}");
    let weak = format!("W/{tag}");
    for method in ["GET", "HEAD"] {
        for condition in [tag, &list, &weak, "*"] {
            let request = expect::manifest(stage, method, path);
            let request = request.header("If-None-Match", condition);
            let (answer, extra) = expect::with_rest(request).await?;
            let what = format!("{method} of {what}, If-None-Match: {condition}");
            expect::status(&answer, 304, &what)?;
            must!(extra == 0, "{what}: {extra} bytes of body");
            expect::header(&answer, "etag", tag, &what)?;
        }
        let request = expect::manifest(stage, method, path);
        let request = request.header("If-None-Match", "\"something else\"");
        let answer = request.send().await?;
        let what = format!("{method} of {what}, If-None-Match of something else");
        expect::status(&answer, 200, &what)?;
        if method == "GET" {
            expect::whole(&answer, bytes, &what)?;
        }
    }
    Ok(())
}

pub(super) async fn encodings(stage: &Stage) -> Finding {
    let name = stage.repository();
    // It would shrink well.
    let layer = Bytes::from(name.repeat(4_000));
    let image = stage.image_of(&[layer]).await?;
    let layer = &image.layers[0];
    let list = format!("/v2/{}/tags/list", image.repository);
    for coding in ["gzip", "zstd, gzip, deflate", "br;q=1.0, *;q=0.5"] {
        for (what, path, bytes) in [
            ("manifest by tag", image.by_tag(), Some(&image.manifest)),
            ("manifest", image.by_digest(), Some(&image.manifest)),
            ("blob", image.layer_path(), Some(&layer.bytes)),
            ("tag list", list.clone(), None),
        ] {
            let request = expect::manifest(stage, "GET", &path);
            let answer = request.header("Accept-Encoding", coding).follow().await?;
            let what = format!("{what}, Accept-Encoding: {coding}");
            expect::status(&answer, 200, &what)?;
            let coded = answer.header("content-encoding").unwrap_or("identity");
            must!(coded == "identity", "{what}: Content-Encoding `{coded}`");
            if let Some(bytes) = bytes {
                expect::body(&answer, bytes, &what)?;
            }
        }
    }
    if let Ok(origin) = stage.origin() {
        upstream_encodings(stage, origin).await?;
    }
    Ok(())
}

/// The origin was asked for no coding, and what it codes unasked is not passed on.
async fn upstream_encodings(stage: &Stage, origin: &Origin) -> Finding {
    let content = |seen: &Seen| matches!(seen.kind, Kind::Manifest(_) | Kind::Blob(_));
    for seen in origin.seen(Ask::of(content)) {
        let asked = seen.header("accept-encoding").unwrap_or("identity");
        let coded = asked.split(',').map(str::trim).find(|item| {
            let weightless = item.replace(' ', "").ends_with(";q=0");
            !weightless && !item.is_empty() && !item.starts_with("identity")
        });
        must!(
            coded.is_none(),
            "upstream is asked for `{seen}` with Accept-Encoding `{asked}`"
        );
    }
    let image = stage.image_of(&[stage.fresh(40_000)]).await?;
    origin.when(Ask::any()).answer(Fault::Gzip);
    for path in [image.layer_path(), image.by_digest()] {
        let request = expect::manifest(stage, "GET", &path);
        let answer = request.header("Accept-Encoding", "gzip").send().await?;
        must!(
            answer.header("content-encoding").is_none(),
            "{path}: upstream's Content-Encoding is passed on"
        );
    }
    Ok(())
}
