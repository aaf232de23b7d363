//! What upstream says, told on; what it does not say, told as what it is.

use std::time::Duration;

use super::expect;
use super::no_tls::NoTls;
use crate::check::{Finding, Stop, must};
use crate::client::Response;
use crate::origin::{Ask, Fault, Gate, Origin, Reply};
use crate::stage::Stage;

/// Longest wait for a mirror that waits for a silent upstream.
const SILENCE_MAX: Duration = Duration::from_secs(100);

/// What may be told to be absent while nobody knows.
const BLOB: &str = "a blob";

/// What is asked for in a repository of an origin, none of it asked before: name and path.
async fn asks(stage: &Stage) -> Result<[(&'static str, String); 4], Stop> {
    let image = stage.image_of(&[stage.fresh(20_000)]).await?;
    let other = stage.image_of(&[stage.fresh(20_000)]).await?;
    Ok([
        ("a manifest by tag", image.by_tag()),
        ("a manifest by digest", other.by_digest()),
        (BLOB, image.layer_path()),
        ("a tag list", format!("/v2/{}/tags/list", image.repository)),
    ])
}

pub(super) async fn failing(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let found = fails(stage, origin).await;
    origin.behave();
    // A mirror may remember for a while that upstream was away; the next check must not feel it.
    serves_again(stage).await?;
    found
}

async fn fails(stage: &Stage, origin: &Origin) -> Finding {
    let gateway: &[u16] = &[502, 503];
    let mut wrong = Vec::new();
    for (how, fault) in [
        ("answers 500", Fault::Status(500)),
        ("answers 503", Fault::Status(503)),
        ("hangs up", Fault::HangUp),
        ("resets", Fault::Reset),
    ] {
        let asks = asks(stage).await?;
        origin.when(Ask::any()).answer(fault);
        wrong.extend(unlike(stage, &asks, how, gateway).await?);
        origin.behave();
        serves_again(stage).await?;
    }
    let refused = asks(stage).await?;
    origin.stop().await;
    let found = unlike(stage, &refused, "refuses connections", gateway).await;
    origin.start_again().await;
    wrong.extend(found?);
    serves_again(stage).await?;

    let (image, deaf) = (
        stage.image_of(&[stage.fresh(20_000)]).await?,
        NoTls::start().await?,
    );
    let blob = Ask::blob(&image.layers[0].digest);
    let place = deaf.url("/blob");
    origin.when(blob).answer(Fault::Redirect(place));
    let blob = [(BLOB, image.layer_path())];
    wrong.extend(unlike(stage, &blob, "redirects to bad TLS", gateway).await?);
    origin.behave();
    serves_again(stage).await?;

    let asks = asks(stage).await?;
    let silent = Gate::closed();
    let hold = Fault::HoldHead(silent.clone());
    origin.when(Ask::any()).answer(hold);
    let found = unlike(stage, &asks, "is silent", &[504]).await;
    silent.open();
    wrong.extend(found?);
    must!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// What is not answered as wanted. All are asked at the same time, since some mirrors wait long.
async fn unlike(
    stage: &Stage,
    asks: &[(&'static str, String)],
    how: &str,
    wanted: &[u16],
) -> Result<Vec<String>, Stop> {
    let sent = asks.iter().map(|(_, path)| {
        let request = expect::manifest(stage, "GET", path);
        request.wait(SILENCE_MAX).send()
    });
    let answers = futures_util::future::join_all(sent).await;
    let mut wrong = Vec::new();
    for ((what, _), answer) in asks.iter().zip(answers) {
        // dockerd waits for 75 s after a 5xx on a layer, and goes on at once after a 404.
        let gentle = |status| *what == BLOB && status == 404;
        let came = match answer {
            Ok(answer) if wanted.contains(&answer.status) || gentle(answer.status) => continue,
            Ok(answer) => answer.status.to_string(),
            Err(trouble) => trouble.to_string(),
        };
        wrong.push(format!(
            "upstream {how}: {what} is {came}, not one of {wanted:?}"
        ));
    }
    Ok(wrong)
}

async fn serves_again(stage: &Stage) -> Finding {
    let served = async || {
        let image = stage.image_of(&[stage.fresh(1_000)]).await?;
        let manifest = expect::manifest(stage, "GET", &image.by_tag())
            .send()
            .await?;
        let blob = stage.mirror.get(&image.layer_path()).send().await?;
        Ok(manifest.status == 200 && blob.status == 200)
    };
    let what = "upstream is well again, and the mirror serves from it";
    stage.within_ttl(what, served).await
}

pub(super) async fn reworded(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let page = "<!DOCTYPE html><html><body><h1>Sorry</h1></body></html>";
    for status in [400, 403, 404] {
        let html = Reply::new(status)
            .header("Content-Type", "text/html")
            .body(page);
        for (how, reply) in [("an HTML", html), ("an empty", Reply::new(status))] {
            let asks = asks(stage).await?;
            origin.when(Ask::any()).answer(Fault::Reply(reply));
            for (what, path) in asks {
                let answer = expect::manifest(stage, "GET", &path).send().await?;
                let what = format!("{what}, upstream answers {how} {status}");
                expect::status(&answer, status, &what)?;
                must!(
                    answer.complete() && answer.json().is_object(),
                    "{what}: the body is no JSON: {}",
                    answer.text()
                );
                expect::error_form(&answer, &what)?;
            }
            origin.behave();
        }
    }
    Ok(())
}

pub(super) async fn refusals(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    for (what, path) in asks(stage).await? {
        origin
            .when(Ask::any())
            .answer(Fault::Reply(expect::refusal(403, "DENIED")));
        let answer = expect::manifest(stage, "GET", &path).send().await?;
        origin.behave();
        let what = format!("{what}, upstream answers 403");
        expect::status(&answer, 403, &what)?;
        expect::code(&answer, &["DENIED"], &what)?;
    }
    let basic = r#"Basic realm="Registry \"one\"", charset="UTF-8""#;
    for (what, path) in asks(stage).await? {
        origin
            .when(Ask::any())
            .answer(Fault::Challenge(basic.to_owned()));
        let answer = expect::manifest(stage, "GET", &path).send().await?;
        origin.behave();
        challenged(&answer, basic, &format!("{what}, upstream wants Basic"))?;
    }
    origin.require_tokens();
    for (what, path) in asks(stage).await? {
        let repository = path.trim_start_matches("/v2/");
        let end = ["/manifests/", "/blobs/", "/tags/"].map(|part| repository.find(part));
        let end = end.into_iter().flatten().min().unwrap_or(repository.len());
        let repository = &repository[..end];
        origin.private(repository, "owner", "password");
        let answer = expect::manifest(stage, "GET", &path).send().await?;
        let what = format!("{what}, upstream wants a token of an account");
        expect::status(&answer, 401, &what)?;
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        let scope = format!("scope=\"repository:{repository}:pull\"");
        must!(
            challenge.starts_with("Bearer realm=") && challenge.contains(&scope),
            "{what}: the challenge is `{challenge}`"
        );
    }
    Ok(())
}

fn challenged(answer: &Response, challenge: &str, what: &str) -> Finding {
    expect::status(answer, 401, what)?;
    expect::header(answer, "www-authenticate", challenge, what)?;
    match expect::codes(answer) {
        Some(_) => expect::code(answer, &["UNAUTHORIZED"], what),
        // Upstream's body was empty.
        None => Ok(()),
    }
}

pub(super) async fn limited(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let found = limits(stage, origin).await;
    origin.behave();
    // A mirror leaves upstream alone for as long as it was told to.
    serves_again(stage).await?;
    found
}

/// With a credential, which leaves a mirror nothing else to ask for, and without one.
async fn limits(stage: &Stage, origin: &Origin) -> Finding {
    let reply = expect::refusal(429, "TOOMANYREQUESTS").header("Retry-After", "2");
    for (at, named) in (0..4).flat_map(|at| [(at, true), (at, false)]) {
        let (what, path) = asks(stage).await?[at].clone();
        let limited = Fault::Reply(reply.clone());
        origin.when(Ask::any()).answer(limited);
        let mut request = expect::manifest(stage, "GET", &path).plain();
        if named {
            request = request.header("Authorization", "Basic c29tZWJvZHk6c2VjcmV0");
        }
        let answer = request.send().await?;
        origin.behave();
        let what = format!("{what}, upstream answers 429");
        // Where a registry has challenged before, an account may have a limit of its own.
        let challenged = answer.header("www-authenticate").is_some();
        if named || answer.status != 401 || !challenged {
            expect::status(&answer, 429, &what)?;
            expect::code(&answer, &["TOOMANYREQUESTS"], &what)?;
            retry_after(&answer, &what)?;
        }
        serves_again(stage).await?;
    }
    Ok(())
}

fn retry_after(answer: &Response, what: &str) -> Finding {
    let after = answer.header("retry-after");
    let seconds = after.and_then(|after| after.parse::<u32>().ok());
    let date = after.is_some_and(|after| after.ends_with(" GMT"));
    must!(
        date || seconds.is_some_and(|seconds| seconds <= 2),
        "{what}: Retry-After is {}, upstream's is 2",
        expect::shown(after)
    );
    Ok(())
}
