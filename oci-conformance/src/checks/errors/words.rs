//! What errors must not say.

use super::expect;
use super::no_tls::NoTls;
use crate::check::{Finding, Stop, must};
use crate::client::{Response, Trouble};
use crate::origin::{Ask, Fault, Origin, Reply};
use crate::stage::{Sample, Stage};

/// Words that stand for what must not get out.
const BASIC: &str = "Basic dXNlcjp0b3BzZWNyZXQ=";
const PASSWORD: &str = "topsecret";
const BEARER: &str = "Bearer eyJhbGciOiJub25lIn0.c2VjcmV0LXRva2Vu.x";
const SIGNATURE: &str = "X-Amz-Signature=5ec2e75ec2e7";

pub(super) async fn nothing_secret(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let found = tries(stage, origin).await;
    origin.behave();
    // A mirror may remember for a while that upstream was away; the next check must not feel it.
    let well = async || {
        let image = stage.image_of(&[stage.fresh(1_000)]).await?;
        let answer = expect::manifest(stage, "GET", &image.by_tag());
        Ok(answer.send().await?.status == 200)
    };
    stage.within_ttl("upstream is well again", well).await?;
    found
}

async fn tries(stage: &Stage, origin: &Origin) -> Finding {
    // An upstream that repeats what it was sent, as some error pages do.
    let page = format!(
        "<html>no right for {BASIC}, {BEARER}, {PASSWORD} at {}</html>",
        origin.addr()
    );
    let headers = |status| {
        Reply::new(status)
            .header("Content-Type", "text/html")
            .header("X-Debug", &page)
            .body(page.clone())
    };
    let (of, deaf) = (origin.addr(), NoTls::start().await?);
    let inner = [of.to_string(), deaf.addr().to_string()];
    for (how, fault) in [
        ("403 with a page", Fault::Reply(headers(403))),
        ("404 with a page", Fault::Reply(headers(404))),
        ("500 with a page", Fault::Reply(headers(500))),
        ("a reset", Fault::Reset),
        (
            "a redirect to nowhere",
            Fault::Redirect(format!("http://{of}/gone?{SIGNATURE}")),
        ),
        (
            "a redirect to bad TLS",
            Fault::Redirect(deaf.url(&format!("/tls?{SIGNATURE}"))),
        ),
        (
            "a redirect to itself",
            Fault::Redirect(format!("http://{of}/loop?{SIGNATURE}")),
        ),
    ] {
        let image = stage.image_of(&[stage.fresh(10_000)]).await?;
        let of_image = image.repository.clone();
        origin
            .when(Ask::of(move |seen| {
                seen.repository == of_image || seen.path == "/loop"
            }))
            .answer(fault);
        each(stage, &inner, &image, how).await?;
        origin.behave();
    }
    let image = stage.image_of(&[stage.fresh(10_000)]).await?;
    origin.stop().await;
    let found = each(stage, &inner, &image, "a refused connection").await;
    origin.start_again().await;
    found
}

async fn each(stage: &Stage, inner: &[String; 2], image: &Sample, how: &str) -> Finding {
    let list = format!("/v2/{}/tags/list", image.repository);
    for path in [image.by_tag(), image.by_digest(), image.layer_path(), list] {
        for credential in [BASIC, BEARER] {
            let request = expect::manifest(stage, "GET", &path).plain();
            let request = request.header("Authorization", credential);
            match request.send().await {
                Ok(answer) => silent(&answer, inner, &format!("{path} after {how}"))?,
                // No answer says nothing.
                Err(Trouble::Ended(_)) => {}
                Err(trouble) => return Err(Stop::from(trouble)),
            }
        }
    }
    Ok(())
}

fn silent(answer: &Response, inner: &[String; 2], what: &str) -> Finding {
    if answer.status < 400 {
        return Ok(());
    }
    let mut said = answer.text();
    for (name, value) in &answer.headers {
        // A challenge names the token server: it is for the client.
        if name != "www-authenticate" {
            said.push_str(&format!("\n{name}: {value}"));
        }
    }
    let token = BEARER.trim_start_matches("Bearer ");
    let basic = BASIC.trim_start_matches("Basic ");
    for (name, secret) in [
        ("the password", PASSWORD),
        ("the client's credential", basic),
        ("the client's token", token),
        ("a presigned URL", SIGNATURE),
        ("upstream's address", &inner[0]),
        ("the address of a blob store", &inner[1]),
    ] {
        must!(
            !said.contains(secret),
            "{what}: the {} holds {name}: {said}",
            answer.status
        );
    }
    Ok(())
}
