//! Where a challenge must not lead: the second origin stands for whatever else listens in the
//! operator's network, and counts.

use super::image;
use crate::check::{Finding, Stop, must, skip};
use crate::origin::{Ask, Fault, Origin, Reply};
use crate::setup::ACCOUNT;
use crate::stage::{Sample, Stage, User};

/// Somewhere else than the registry's own host and port.
struct Elsewhere {
    what: &'static str,
    url: String,
}

/// The second origin in every disguise, and addresses that nobody should be sent to.
fn elsewhere(own: &Origin, second: &Origin) -> Vec<Elsewhere> {
    let (first, port) = (own.addr(), second.addr().port());
    let at = |what, host: &str| Elsewhere {
        what,
        url: format!("http://{host}:{port}/token"),
    };
    let to = |what, url: String| Elsewhere { what, url };
    vec![
        at("another port", "127.0.0.1"),
        at("another name", "localhost"),
        at("another name with a dot", "localhost."),
        at("the unspecified address", "0.0.0.0"),
        at("a short address", "127.1"),
        at("an address as one number", "2130706433"),
        at("an address in hexadecimal", "0x7f000001"),
        at("a mapped address", "[::ffff:127.0.0.1]"),
        to(
            "the registry as user info",
            format!("http://{first}@localhost:{port}/token"),
        ),
        to(
            "the registry before a backslash",
            format!("http://{first}\\@localhost:{port}/token"),
        ),
        to("another scheme", format!("gopher://127.0.0.1:{port}/token")),
        to("no host", format!("//127.0.0.1:{port}/token")),
        to("a file", "file:///etc/hostname".to_owned()),
        to(
            "the metadata address",
            "http://169.254.169.254/latest/meta-data/".to_owned(),
        ),
        to(
            "a private address",
            "http://10.254.254.254/token".to_owned(),
        ),
    ]
}

/// An account that the mirror may have must not go there either.
async fn bait(stage: &Stage, seed: u64) -> Result<Sample, Stop> {
    let image = image(stage, seed).await?;
    let (name, password) = ACCOUNT;
    User { name, password }.owns(stage, &image.repository)?;
    Ok(image)
}

pub(super) async fn is_not_asked(stage: &Stage) -> Finding {
    let scripted = stage.scripted()?;
    let (origin, second) = (&scripted.first, &scripted.second);
    for (at, place) in elsewhere(origin, second).into_iter().enumerate() {
        let image = bait(stage, 40 + at as u64).await?;
        let repository = image.repository.clone();
        let challenge = format!(
            r#"Bearer realm="{}",service="suite",scope="repository:{repository}:pull""#,
            place.url
        );
        // Also to whoever has a credential already: none was got here for this repository.
        let ask = Ask::of(move |seen| seen.repository == repository);
        origin.when(ask).answer(Fault::Challenge(challenge));
        for target in [image.by_tag(), image.layer_path()] {
            let answer = stage.mirror.get(&target).send().await?;
            nobody_came(second, &place)?;
            must!(
                answer.status >= 400,
                "{}: {} where the origin answers 401 only",
                place.what,
                answer.status
            );
        }
        origin.behave();
    }
    Ok(())
}

pub(super) async fn is_not_redirected(stage: &Stage) -> Finding {
    let scripted = stage.scripted()?;
    let (origin, second) = (&scripted.first, &scripted.second);
    origin.require_tokens();
    for (at, place) in elsewhere(origin, second).into_iter().enumerate() {
        let status = [307, 302, 308, 301, 303][at % 5];
        let image = bait(stage, 60 + at as u64).await?;
        let reply = Reply::new(status).header("Location", &place.url);
        origin.when(Ask::token()).answer(Fault::Reply(reply));
        let answer = stage.mirror.get(&image.by_digest()).send().await?;
        if origin.count(Ask::token()) == 0 {
            skip!("it asks no token server itself");
        }
        nobody_came(second, &place)?;
        must!(
            answer.status >= 400,
            "{}: {} without a token",
            place.what,
            answer.status
        );
        origin.behave();
    }
    Ok(())
}

fn nobody_came(second: &Origin, place: &Elsewhere) -> Finding {
    let seen = second.seen(Ask::any());
    let Some(first) = seen.first() else {
        return Ok(());
    };
    let with = match first.authorization() {
        Some(_) => "with a credential",
        None => "without a credential",
    };
    must!(
        false,
        "{}: the mirror was sent to {} and sent {first} there, {with}",
        place.what,
        place.url
    );
    Ok(())
}
