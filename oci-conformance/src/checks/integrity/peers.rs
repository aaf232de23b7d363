//! Bytes between peers: spoiled on the way, or asked by somebody without a right.

use std::time::Duration;

use crate::check::{Finding, Stop, must, skip};
use crate::checks::watch::{manifest, whole, within};
use crate::client::{Client, Site};
use crate::origin::sha256;
use crate::stage::{Sample, Stage, Swarm};

const SIZE: usize = 8 << 20;
/// What may come over the wire beside pieces: heads, maps, words of another kind.
const BESIDE: u64 = 1 << 20;
/// alice:secret
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";
/// Where servers of blobs show lists, or their state.
const LISTS: [&str; 14] = [
    "/",
    "/v2/",
    "/v2/_catalog",
    "/blobs",
    "/blobs/",
    "/pieces",
    "/pieces/",
    "/digests",
    "/list",
    "/index",
    "/status",
    "/metrics",
    "/flights",
    "/debug/pprof/",
];

pub(super) async fn spoiled_piece(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let swarm = stage.swarm().await?;
    shared(stage, &swarm).await?;
    for (told, spoiled) in [("a piece", 1), ("every piece", u64::MAX)] {
        swarm.bytes.spoil(spoiled);
        let before = swarm.bytes.passed();
        origin.forget_requests();
        let image = stage.image_of(&[stage.fresh(SIZE)]).await?;
        pull(
            &swarm.mirror,
            &image,
            &format!("when its peer spoils {told}"),
        )
        .await?;
        let passed = swarm.bytes.passed() - before;
        if passed < SIZE as u64 / 16 {
            skip!("the node asked its peer for {passed} bytes only: nothing was spoiled");
        }
        let most = 2 * SIZE as u64 + BESIDE;
        must!(
            passed < most,
            "{passed} bytes came from a peer that spoils {told}, for a blob of {SIZE}"
        );
    }
    Ok(())
}

/// An image of which bytes came from the peer; proves that the swarm works.
async fn shared(stage: &Stage, swarm: &Swarm) -> Result<Sample, Stop> {
    let mut last = None;
    let sharing = within(Duration::from_secs(20), "a peer gives bytes", async || {
        let before = swarm.bytes.passed();
        let image = stage.image_of(&[stage.fresh(SIZE)]).await?;
        pull(&swarm.mirror, &image, "from a node").await?;
        last = Some(image);
        Ok(swarm.bytes.passed() - before > SIZE as u64 / 2)
    });
    match (sharing.await, last) {
        (Ok(()), Some(image)) => Ok(image),
        _ => Err(Stop::Skip(
            "the node takes no bytes from its peer".to_owned(),
        )),
    }
}

async fn pull(mirror: &Client, image: &Sample, when: &str) -> Finding {
    let answer = manifest(mirror, &image.by_tag()).send().await?;
    whole(&format!("the manifest, {when}"), &answer, &image.manifest)?;
    let answer = mirror.get(&image.layer_path()).send().await?;
    whole(
        &format!("the blob, {when}"),
        &answer,
        &image.layers[0].bytes,
    )
}

pub(super) async fn closed_port(stage: &Stage) -> Finding {
    let swarm = match stage.swarm().await {
        Ok(swarm) => swarm,
        Err(_) => return of_one_mirror(stage).await,
    };
    let public = shared(stage, &swarm).await?;
    let port = Client::new(Site::loopback(swarm.peer_port()?));
    let private = private(stage, &swarm.mirror).await?;
    let (given, kept) = (&public.layers[0].digest, &private.layers[0].digest);
    let mut ways: Vec<_> = swarm.bytes.targets();
    ways.retain(|target| target.contains(given));
    ways.dedup();
    ways.truncate(2);
    let mut opens = false;
    for way in &ways {
        let answer = port.request("GET", way).send().await?;
        opens |= answer.status < 300;
        let unknown = sha256(format!("nobody has this, {way}").as_bytes());
        gives_nothing(
            &port,
            &way.replace(given, kept),
            &way.replace(given, &unknown),
        )
        .await?;
    }
    tells_nothing(&port, &[given, kept]).await?;
    if !opens {
        skip!("no list is told; no request is known that the peer port answers");
    }
    Ok(())
}

/// What one mirror's peer port does, when it is not known how it is asked.
async fn of_one_mirror(stage: &Stage) -> Finding {
    stage.origin()?;
    let port = stage.peer_port()?;
    let image = private(stage, &stage.mirror).await?;
    if port.connect().await.is_err() {
        skip!("nobody listens at the peer port; a swarm needs --run-supernode and --run-node");
    }
    let kept = &image.layers[0].digest;
    let unknown = sha256(b"nobody has this");
    let paths = ["/", "/blobs/", "/pieces/", "/v2/blobs/"].map(str::to_owned);
    for path in paths
        .into_iter()
        .chain([image.layer_path().replace(kept, "")])
    {
        gives_nothing(port, &format!("{path}{kept}"), &format!("{path}{unknown}")).await?;
    }
    tells_nothing(port, &[kept]).await
}

/// An image that only alice reads, pulled by her.
async fn private(stage: &Stage, mirror: &Client) -> Result<Sample, Stop> {
    let origin = stage.origin()?;
    let image = stage.image_of(&[stage.fresh(1 << 20)]).await?;
    origin.require_basic();
    origin.private(&image.repository, "alice", "secret");
    for (path, bytes) in [
        (image.by_tag(), &image.manifest),
        (image.layer_path(), &image.layers[0].bytes),
    ] {
        let answer = mirror
            .get(&path)
            .header("Authorization", ALICE)
            .send()
            .await?;
        if whole("what alice reads", &answer, bytes).is_err() {
            return Err(Stop::Skip(
                "the mirror does not use its clients' credentials".to_owned(),
            ));
        }
    }
    Ok(image)
}

/// A held blob that the asker may not read is answered as one that nobody has.
async fn gives_nothing(port: &Client, kept: &str, unknown: &str) -> Finding {
    for method in ["GET", "HEAD"] {
        let held = port.request(method, kept).send().await?;
        let status = held.status;
        must!(status >= 400, "{method} {kept} at the peer port: {status}");
        let other = port.request(method, unknown).send().await?.status;
        must!(
            status == other,
            "{method} of a held blob is {status} and of an unknown one {other}: that tells them apart"
        );
    }
    Ok(())
}

/// No page names a digest that is held.
async fn tells_nothing(port: &Client, held: &[&String]) -> Finding {
    for path in LISTS {
        // A port that is no HTTP server tells nothing either.
        let Ok(answer) = port.request("GET", path).send().await else {
            continue;
        };
        let page = answer.text();
        for digest in held {
            let hex = digest.rsplit(':').next().unwrap_or(digest);
            must!(
                !page.contains(&hex[..12]),
                "{path} at the peer port names {digest}"
            );
        }
    }
    Ok(())
}
