//! What else in a request could lead astray: `Host`, odd paths, and a way that comes round again.

use std::time::Duration;

use super::at;
use crate::check::{Finding, Stop, must};
use crate::client::{Request, Response};
use crate::origin::{Ask, Fault, content};
use crate::stage::content::{blob_path, manifest_path};
use crate::stage::user::READER;
use crate::stage::{Sample, Stage};

/// Nobody's name.
const EVIL: &str = "evil.conformance.test";

fn astray(request: Request) -> Request {
    request
        .header("X-Forwarded-Host", EVIL)
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Prefix", "/evil")
        .header("X-Original-URL", "/evil")
        .header(
            "Forwarded",
            &format!("host={EVIL};proto=https;for=10.0.0.1"),
        )
}

pub(super) async fn hosts_are_not_believed(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    let repository = &image.repository;
    let own_tags = stage.scripted().is_ok();
    if let Ok(origin) = stage.origin() {
        origin.tag(repository, "older", &image.digest);
        origin.forget_requests();
    }
    let mut targets = vec![
        ("GET", image.by_tag()),
        ("GET", image.layer_path()),
        ("GET", format!("/v2/{repository}/tags/list?n=1")),
        ("GET", "/v2/".to_owned()),
    ];
    if own_tags || stage.is_writable() {
        targets.push(("POST", format!("/v2/{repository}/blobs/uploads/")));
    }
    for (method, target) in targets {
        for host in [None, Some(EVIL), Some("127.0.0.1:1")] {
            let mut request = astray(stage.mirror.ask(method, &target));
            if let Some(host) = host {
                request = request.header("Host", host);
            }
            let answer = request.send().await?;
            let refused = host.is_some() && matches!(answer.status, 400 | 404 | 421);
            let usual = matches!(answer.status, 200 | 202 | 401 | 405);
            must!(
                usual || refused,
                "{method} {target} with Host {host:?}: {}",
                answer.status
            );
            says_nothing(&answer, method, &target)?;
        }
    }
    let Ok(origin) = stage.origin() else {
        return Ok(());
    };
    let addr = origin.addr().to_string();
    for seen in origin.seen(Ask::any()) {
        let host = seen.header("host").unwrap_or_default();
        must!(
            host == addr,
            "the origin at {addr} is asked with Host {host}"
        );
        let evil = seen.headers.iter().find(|(_, value)| value.contains(EVIL));
        must!(evil.is_none(), "the origin is told {evil:?}");
    }
    // A challenge leads where upstream says.
    READER.owns(stage, repository)?;
    origin.require_tokens();
    let fresh = stage.blob(repository, content(0xB050, 1024)).await?;
    let target = blob_path(repository, &fresh);
    for host in [addr.as_str(), EVIL] {
        let request = astray(stage.mirror.ask("GET", &target)).header("Host", host);
        says_nothing(&request.send().await?, "GET", &target)?;
    }
    Ok(())
}

fn says_nothing(answer: &Response, method: &str, target: &str) -> Finding {
    let led = answer.headers.iter().find(|(_, value)| {
        value.contains(EVIL) || value.contains("127.0.0.1:1/") || value.contains("/evil")
    });
    must!(
        led.is_none(),
        "{method} {target}: the client's own words come back as {led:?}"
    );
    Ok(())
}

/// The path in an odd form, or in the form of another place.
fn odd_forms(image: &Sample) -> Vec<String> {
    let (name, tag) = (&image.repository, &image.tag);
    let (first, rest) = name.split_once('/').unwrap_or(("x", name));
    vec![
        format!("/v2/{first}%2F{rest}/manifests/{tag}"),
        format!("/v2/{first}%2f{rest}/manifests/{tag}"),
        format!("/v2/{first}%252F{rest}/manifests/{tag}"),
        format!("/v2/{first}%5C{rest}/manifests/{tag}"),
        format!("/v2/other/../{name}/manifests/{tag}"),
        format!("/v2/{first}/./{rest}/manifests/{tag}"),
        format!("/v2/other/%2e%2e/{name}/manifests/{tag}"),
        format!("/v2/..%2F..%2F{name}/manifests/{tag}"),
        format!("/v2/../v2/{name}/manifests/{tag}"),
        format!("/v2//{name}/manifests/{tag}"),
        format!("//v2/{name}/manifests/{tag}"),
        format!("/v2/{name}//manifests/{tag}"),
        format!("/v2/{name}/manifests//{tag}"),
        format!("/v2/{name}/manifests/{tag}/"),
        format!("/v2/{name}/manifests/{tag}%00"),
        format!("/v2/{name}%00/manifests/{tag}"),
        format!("/v2/{name}%0d%0a/manifests/{tag}"),
        format!("/v2/{name}/manifests/..%2F..%2Ftags%2Flist"),
        format!("/v2/{name}/blobs/..%2Fmanifests%2F{tag}"),
        format!("/v2/{name}/manifests/%2e%2e"),
        "/v2/../../../../etc/passwd".to_owned(),
        "/v2/%2e%2e/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        format!("/v2/{name};x=y/manifests/{tag}"),
    ]
}

pub(super) async fn odd_paths(stage: &Stage) -> Finding {
    let image = stage.image().await?;
    for path in odd_forms(&image) {
        let answer = stage.mirror.ask("GET", &path).send().await?;
        must!(
            matches!(answer.status, 400 | 404),
            "{path} is answered {}, not 400 or 404",
            answer.status
        );
    }
    let host = stage.mirror.site().authority();
    let plain = image.by_tag();
    let named = stage
        .mirror
        .namespace()
        .map_or(plain.clone(), |ns| at(&plain, ns));
    for target in [
        plain.replace("/manifests", "\0/manifests"),
        format!("{plain}\0"),
        plain.replace("/manifests", "\\/manifests"),
        plain.trim_start_matches('/').to_owned(),
        "*".to_owned(),
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        // To hang up on bytes that are no request is an answer too.
        if let Ok(answer) = stage.mirror.raw(bytes.as_bytes()).await {
            must!(
                matches!(answer.status, 400 | 404),
                "{target:?} is answered {}, not 400 or 404",
                answer.status
            );
        }
    }
    absolute(stage, &image, &named).await?;
    if let Ok(origin) = stage.origin() {
        let odd = Ask::of(|seen| {
            let path = seen.path.to_ascii_lowercase();
            ["%2f", "%5c", "%2e", "%00", "..", "//", "/./"]
                .iter()
                .any(|part| path.contains(part))
        });
        if let Some(seen) = origin.seen(odd).first() {
            must!(false, "an odd path was passed on: {seen}");
        }
    }
    Ok(())
}

/// RFC 9112, 3.2.2 makes every server take the absolute form, of its own name; with another name
/// it is no order to go there.
async fn absolute(stage: &Stage, image: &Sample, path: &str) -> Finding {
    let host = stage.mirror.site().authority();
    let get = |target: String| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let own = stage
        .mirror
        .raw(&get(format!("http://{host}{path}")))
        .await?;
    must!(
        matches!(own.status, 200 | 400 | 404),
        "the absolute form of its own URL is answered {}",
        own.status
    );
    let mut foreign = vec![format!("http://{EVIL}{path}")];
    let second = stage.scripted().ok().map(|scripted| &scripted.second);
    if let Some(second) = second {
        second.forget_requests();
        foreign.push(format!("{}{path}", second.url()));
    }
    for target in foreign {
        let answer = stage.mirror.raw(&get(target.clone())).await?;
        let own = answer.status == 200 && answer.body == image.manifest;
        must!(
            own || (400..500).contains(&answer.status),
            "{target} is answered {}",
            answer.status
        );
    }
    let asked = second.map_or(0, |second| second.count(Ask::any()));
    must!(
        asked == 0,
        "an absolute target made the mirror ask another host"
    );
    Ok(())
}

/// Most requests for one blob that a mirror makes before it sees that it goes round.
const ROUNDS: usize = 12;

pub(super) async fn loops_end(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image().await?;
    // What the mirror sends upstream comes back to its own door.
    let answer = stage.mirror.ask("GET", &image.by_digest()).send().await?;
    must!(answer.status == 200, "{}, not 200", answer.status);
    let of = image.repository.clone();
    let asked = origin.seen(Ask::of(move |seen| seen.repository == of));
    let Some(seen) = asked.last() else {
        must!(false, "it never asked upstream");
        return Ok(());
    };
    let via = seen.header("via").is_some();
    must!(
        via,
        "its requests to upstream have no Via: {:?}",
        seen.headers
    );
    let fresh = stage.blob(&image.repository, content(0xB060, 1024)).await?;
    origin.forget_requests();
    let path = blob_path(&image.repository, &fresh);
    let mut request = stage.mirror.ask("GET", &path);
    for (name, value) in &seen.headers {
        if !matches!(
            name.as_str(),
            "host" | "connection" | "authorization" | "range"
        ) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await?;
    must!(
        answer.status >= 400,
        "its own request, come back, is answered {}",
        answer.status
    );
    let passed = origin.count(Ask::blob(&fresh));
    must!(
        passed == 0,
        "its own request, come back, goes upstream again"
    );
    goes_round(stage, &image).await
}

/// A registry that redirects to the mirror, as one does that is its own upstream by mistake.
async fn goes_round(stage: &Stage, image: &Sample) -> Result<(), Stop> {
    let origin = stage.origin()?;
    let fresh = stage.blob(&image.repository, content(0xB061, 1024)).await?;
    for (path, tried) in [
        (blob_path(&image.repository, &fresh), fresh.clone()),
        (
            manifest_path(&image.repository, "round"),
            "round".to_owned(),
        ),
    ] {
        let ns = stage.mirror.namespace().unwrap_or_default().to_owned();
        let back = format!("{}{}", stage.mirror.site(), at(&path, &ns));
        origin.when(Ask::path(&path)).answer(Fault::Redirect(back));
        let answer = stage.mirror.ask("GET", &path).wait(Duration::from_secs(60));
        let answer = answer.send().await?;
        let count = origin.count(Ask::path(&path));
        must!(
            answer.status >= 400 && count <= ROUNDS,
            "{tried} goes round: {} after {count} requests upstream",
            answer.status
        );
        origin.behave();
    }
    Ok(())
}
