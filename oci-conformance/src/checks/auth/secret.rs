//! What must not be written down where others read it.

use std::time::Duration;

use tokio::time::Instant;

use super::{blobs, get, image, login, warm};
use crate::check::{Finding, Stop, must};
use crate::client::{Client, Site};
use crate::origin::{Ask, Fault, Reply};
use crate::setup::ACCOUNT;
use crate::stage::Stage;
use crate::stage::user::READER;

/// In every signed URL here.
const SIGNATURE: &str = "suite-signature-9d3c4b";
/// A token that nobody gave out.
const MADE_UP: &str = "suite-made-up-token-5512";

pub(super) async fn is_not_told(stage: &Stage) -> Finding {
    let process = stage.process()?;
    let origin = stage.origin()?;
    let image = image(stage, 200).await?;
    origin.require_tokens();
    READER.owns(stage, &image.repository)?;
    let token = login(stage, &image.by_tag(), READER).await?;
    warm(stage, &image, &token).await?;
    let mut errors = String::new();
    let bearer = format!("Bearer {MADE_UP}");
    for target in [image.by_tag(), image.layer_path()] {
        for credential in [&bearer, &READER.basic()] {
            errors += &get(stage, &target, credential).await?.text();
        }
    }
    // Redirects that work, that lead nowhere, and that are refused.
    let made = blobs(stage, &image.repository, 201, 4).await?;
    for ((target, bytes), host) in made
        .iter()
        .zip(["", "localhost", "127.0.0.2", "nowhere.test"])
    {
        let path = format!("/store{target}");
        origin.serve_at(&path, bytes.clone());
        let base = match host {
            "" => origin.url(),
            host => format!("http://{host}:{}", origin.addr().port()),
        };
        let url = format!("{base}{path}?X-Amz-Signature={SIGNATURE}");
        origin.when(Ask::path(target)).answer(Fault::Redirect(url));
        errors += &get(stage, target, &token).await?.text();
    }
    // A registry that breaks off, and one that repeats what it was sent.
    let path = image.by_digest();
    let echo = format!("not {token} with {}", READER.basic());
    let reply = Reply::new(500).body(echo);
    origin.when(Ask::path(&path)).answer(Fault::Reply(reply));
    errors += &stage.mirror.ask("GET", &path).send().await?.text();
    let bare = token.trim_start_matches("Bearer ").to_owned();
    let basic = READER.basic().trim_start_matches("Basic ").to_owned();
    let secrets = [
        ("a token", bare.as_str()),
        ("a made-up token", MADE_UP),
        ("a password", READER.password),
        ("a Basic login", basic.as_str()),
        ("the mirror's own password", ACCOUNT.1),
        ("a signed URL", SIGNATURE),
    ];
    let mut metrics = String::new();
    if let Some(addr) = process.admin() {
        let admin = Client::new(Site::loopback(addr));
        for path in ["/metrics", "/", "/status", "/healthz"] {
            metrics += &admin.get(path).send().await?.text();
        }
    }
    let log = settled(stage, &image.repository).await?;
    for (what, secret) in secrets {
        for (place, text) in [("log", &log), ("metrics", &metrics), ("errors", &errors)] {
            let line = text.lines().find(|line| line.contains(secret));
            must!(line.is_none(), "{what} is in the {place}: {line:?}");
        }
    }
    Ok(())
}

/// The log once it has what was done last, if it ever has.
async fn settled(stage: &Stage, name: &str) -> Result<String, Stop> {
    let process = stage.process()?;
    let end = Instant::now() + Duration::from_secs(2);
    let last = format!("/v2/{name}/manifests/no-such-tag");
    stage.mirror.ask("GET", &last).send().await?;
    loop {
        let log = process.log();
        if log.contains("no-such-tag") || Instant::now() > end {
            return Ok(log);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
