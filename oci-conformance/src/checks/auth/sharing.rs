//! What one client has pulled is not another's.

use super::{all_of, get, login, private_image, warm};
use crate::check::{Finding, Stop, must};
use crate::client::Response;
use crate::origin::{Ask, content};
use crate::stage::content::blob_path;
use crate::stage::user::{OTHER, READER, User};
use crate::stage::{Sample, Stage};

/// A repository of [`OTHER`]'s with these layers; its token.
async fn others(stage: &Stage, layers: &Sample) -> Result<(Sample, String), Stop> {
    let repository = stage.repository();
    let bytes: Vec<_> = layers
        .layers
        .iter()
        .map(|part| part.bytes.clone())
        .collect();
    let image = stage.image_in(&repository, "latest", &bytes).await?;
    OTHER.owns(stage, &repository)?;
    let token = login(stage, &image.by_tag(), OTHER).await?;
    Ok((image, token))
}

/// Lists and status of an image, beside its parts.
fn questions(image: &Sample) -> Vec<String> {
    let mut targets = all_of(image).to_vec();
    targets.push(format!("/v2/{}/tags/list", image.repository));
    targets.push(format!(
        "/v2/{}/referrers/{}",
        image.repository, image.digest
    ));
    targets
}

pub(super) async fn tokens_are_not_shared(stage: &Stage) -> Finding {
    let image = private_image(stage, 90).await?;
    let (_, other) = others(stage, &super::image(stage, 91).await?).await?;
    let token = login(stage, &image.by_tag(), READER).await?;
    let first = get(stage, &image.by_digest(), &token).await?;
    must!(first.status == 200, "who may read it gets {}", first.status);
    let origin = stage.origin()?;
    origin.forget_requests();
    let garbage = "Bearer garbage".to_owned();
    for (who, credential) in [
        ("an anonymous client", None),
        ("the token of another repository", Some(other)),
        ("a garbage token", Some(garbage)),
    ] {
        for target in questions(&image) {
            let mut request = stage.mirror.ask("GET", &target);
            if let Some(credential) = &credential {
                request = request.header("Authorization", credential);
            }
            let answer = request.send().await?;
            must!(
                answer.status >= 400,
                "{who} is given {target}: {}",
                answer.status
            );
            let token = token.clone();
            let used = Ask::of(move |seen| seen.authorization() == Some(&token));
            must!(
                origin.count(used) == 0,
                "for {who} the origin was asked {target} with somebody else's token"
            );
        }
    }
    // A second reader is served, and with a token of its own.
    OTHER.owns(stage, &image.repository)?;
    let second = login(stage, &image.by_tag(), OTHER).await?;
    let answer = get(stage, &image.layer_path(), &second).await?;
    must!(
        answer.status == 200 && answer.body == image.layers[0].bytes,
        "a second reader gets {}",
        answer.status
    );
    let used = Ask::of(move |seen| seen.authorization() == Some(&token));
    must!(
        origin.count(used) == 0,
        "for a second reader the origin was asked with the first one's token"
    );
    Ok(())
}

pub(super) async fn cached_is_refused(stage: &Stage) -> Finding {
    let image = private_image(stage, 92).await?;
    let token = login(stage, &image.by_tag(), READER).await?;
    warm(stage, &image, &token).await?;
    // The same bytes are OTHER's too, under another name.
    let (same, other) = others(stage, &image).await?;
    warm(stage, &same, &other).await?;
    for target in all_of(&image) {
        for method in ["GET", "HEAD"] {
            let request = stage.mirror.ask(method, &target);
            refused(&request.send().await?, "nobody", method, &target, &[401])?;
            let request = stage.mirror.ask(method, &target);
            let answer = request.header("Authorization", &other).send().await?;
            let who = "the token of another repository with the same bytes";
            refused(&answer, who, method, &target, &[401, 403])?;
        }
    }
    // And a public repository gives what is its own only.
    let public = super::image(stage, 93).await?;
    for digest in [&image.layers[0].digest, &image.config.digest] {
        let target = blob_path(&public.repository, digest);
        let answer = stage.mirror.ask("GET", &target).send().await?;
        let who = "who asks a public repository that has it not";
        refused(&answer, who, "GET", &target, &[401, 403, 404])?;
    }
    let answer = get(stage, &image.layer_path(), &token).await?;
    must!(
        answer.status == 200,
        "after that who may read it gets {}",
        answer.status
    );
    Ok(())
}

fn refused(
    answer: &Response,
    who: &str,
    method: &str,
    target: &str,
    statuses: &[u16],
) -> Result<(), Stop> {
    must!(
        statuses.contains(&answer.status),
        "{who}: {method} {target} of cached private content is {}, not one of {statuses:?}",
        answer.status
    );
    Ok(())
}

pub(super) async fn nothing_extra(stage: &Stage) -> Finding {
    let image = private_image(stage, 94).await?;
    let token = login(stage, &image.by_tag(), READER).await?;
    warm(stage, &image, &token).await?;
    let unrelated = super::image(stage, 95).await?;
    let (own, other) = others(stage, &unrelated).await?;
    for credential in [None, Some(&other)] {
        for target in questions(&image) {
            for (method, range) in [("HEAD", None), ("GET", Some("bytes=0-0")), ("GET", None)] {
                let mut request = stage.mirror.ask(method, &target);
                if let Some(range) = range {
                    request = request.range(range);
                }
                if let Some(credential) = credential {
                    request = request.header("Authorization", credential);
                }
                let answer = request.send().await?;
                must!(
                    answer.status >= 400,
                    "{method} {target} with range {range:?} by who may not read it: {}",
                    answer.status
                );
            }
        }
    }
    // Nor does asking in one's own repository make the bytes belong there.
    let (stranger, digest) = (own.repository, &image.layers[0].digest);
    let target = blob_path(&stranger, digest);
    let mount = format!(
        "/v2/{stranger}/blobs/uploads/?mount={digest}&from={}",
        image.repository
    );
    for (method, asked) in [("HEAD", &target), ("POST", &mount), ("GET", &target)] {
        let request = stage.mirror.ask(method, asked);
        let answer = request.header("Authorization", &other).send().await?;
        must!(
            !matches!(answer.status, 200 | 201 | 206),
            "{method} {asked} by who may not read the source: {}",
            answer.status
        );
    }
    Ok(())
}

pub(super) async fn no_proof(stage: &Stage) -> Finding {
    let image = private_image(stage, 96).await?;
    let token = login(stage, &image.by_tag(), READER).await?;
    warm(stage, &image, &token).await?;
    // The token server gives everybody a token; it is good for what its owner may read, here nothing.
    let refused_first = stage.mirror.ask("GET", &image.by_tag()).send().await?;
    let mut credentials = vec![
        "Bearer garbage".to_owned(),
        "Bearer QQ==".to_owned(),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
        "Basic Og==".to_owned(),
        "Basic not-base64".to_owned(),
        User {
            password: "wrong",
            ..READER
        }
        .basic(),
        "Negotiate YQ==".to_owned(),
        token.replace("Bearer", "Digest"),
        format!("{token}x"),
    ];
    if let Some(challenge) = super::bearer_of(&refused_first) {
        credentials.push(super::token_of(stage, &challenge, None).await?);
    }
    for credential in &credentials {
        for target in all_of(&image) {
            let answer = get(stage, &target, credential).await?;
            must!(
                answer.status >= 400 && answer.status < 500,
                "with `{credential}` {target} is {}",
                answer.status
            );
        }
    }
    // No content that is not cached either.
    let fresh = stage.blob(&image.repository, content(0xA097, 2048)).await?;
    for credential in &credentials {
        let target = blob_path(&image.repository, &fresh);
        let answer = get(stage, &target, credential).await?;
        must!(
            answer.status >= 400,
            "with `{credential}` {target} is {}",
            answer.status
        );
    }
    image_is_still_read(stage, &image, &token).await
}

async fn image_is_still_read(stage: &Stage, image: &Sample, token: &str) -> Finding {
    let answer = get(stage, &image.by_tag(), token).await?;
    must!(
        answer.status == 200,
        "after that who may read it gets {}",
        answer.status
    );
    Ok(())
}
