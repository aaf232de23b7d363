//! Who may read, and whose credentials go where.
//!
//! The scripted origin is the registry and its token server. A client here does what clients do: it
//! asks the mirror, takes the challenge to the realm that it names, and comes back with the token.
//! So a mirror that relays its upstream's challenges and one with a token server of its own are
//! asked alike.

mod challenge;
mod ending;
mod realm;
mod redirect;
mod secret;
mod sharing;
mod token;

use bytes::Bytes;

use crate::check::{Check, Stop, check, must, skip};
use crate::client::{Challenge, Response, challenges};
use crate::origin::{Ask, Kind, content};
use crate::stage::content::blob_path;
use crate::stage::user::{READER, User};
use crate::stage::{Sample, Stage};

pub(super) const CHECKS: &[Check] = &[
    check!(Auth 1 Own, "own: a client must be able to answer it at the registry's own token server", "a challenge that is passed on keeps realm, service and scope", challenge::is_passed_on),
    check!(Auth 2 Own, "RFC 9110, 11.3 and 11.6.1", "challenges are read in every form that registries send", challenge::is_read_in_every_form),
    check!(Auth 3 Own, "own: a registry's challenge must not lead into the operator's network", "a realm at another host or port, in whatever disguise, is not asked", realm::is_not_asked),
    check!(Auth 4 Own, "own: as for realms, one step later", "a redirect of the token server to another host or port is not followed", realm::is_not_redirected),
    check!(Auth 5 Own, "token authentication specification of distribution, Requesting a Token; OAuth2 Token Authentication", "tokens are asked for by GET with one scope each, by POST with a password, and the other way if one is refused", token::requests),
    check!(Auth 6 Own, "token authentication specification of distribution, Token Response Fields", "a token is used whatever its field and its lifetime, and another is got when it is rejected", token::answers),
    check!(Auth 7 Own, "token authentication specification of distribution, expires_in", "one token serves 50 pulls at once, and it is renewed before it ends", token::is_shared_and_renewed),
    check!(Auth 8 Own, "RFC 6750, 3.1", "insufficient_scope leads to one wider token and then to the error; 403 is not tried again", token::insufficient_scope),
    check!(Auth 9 Own, "own: ECR takes Basic only, Docker Hub gives everybody a token", "an upstream with Basic only, and one with anonymous tokens, can be read", token::basic_and_anonymous),
    check!(Auth 10 Must, "distribution-spec main, API: clients MUST NOT forward Authorization across host boundaries", "Authorization reaches no other host, port or registry, and no foreign URL of a layer", redirect::authorization_stays),
    check!(Auth 11 Own, "own: one user's token must not work for another", "a client's token is never used for another client", sharing::tokens_are_not_shared),
    check!(Auth 12 Own, "own: bytes may be shared by digest, the right to read them may not", "what is cached from a private repository is refused to nobody and to the token of another repository", sharing::cached_is_refused),
    check!(Auth 13 Own, "own: who lost a right must lose it here too", "after a right or a token has ended, what is cached is refused once the grant has ended", ending::revoked),
    check!(Auth 14 Own, "own: a right must not be got by the side door", "HEAD, Range, tags, referrers and mount give nothing that GET refuses", sharing::nothing_extra),
    check!(Auth 15 Own, "token authentication specification of distribution: a smaller grant is no error", "a garbage credential proves nothing, and neither does a 200 of the token server", sharing::no_proof),
    check!(Auth 16 Own, "own: GHSA-2v5f-5r6w-p67r, a registry that opened when its upstream answered 429", "a question of rights that is answered 429 or 5xx opens nothing", ending::fails_closed),
    check!(Auth 17 Own, "own: logs and metrics are read by more people than secrets are for", "no password, token or signed URL is in the log, the metrics or an error", secret::is_not_told),
];

/// An image in a repository of its own, with a layer that no other check has.
async fn image(stage: &Stage, seed: u64) -> Result<Sample, Stop> {
    let layers = [content(0xA000 + seed, 48 << 10)];
    stage.image_in(&stage.repository(), "latest", &layers).await
}

/// The same where tokens are demanded and only [`READER`] gets a useful one.
async fn private_image(stage: &Stage, seed: u64) -> Result<Sample, Stop> {
    let image = image(stage, seed).await?;
    stage.origin()?.require_tokens();
    READER.owns(stage, &image.repository)?;
    Ok(image)
}

/// The `Authorization` that this user gets for `target`, by the challenge to an anonymous request.
///
/// # Errors
/// Fails the check if the target is served to nobody in particular; skips it if the mirror does not
/// say how to log in, because then no client can.
async fn login(stage: &Stage, target: &str, user: User) -> Result<String, Stop> {
    let answer = stage.mirror.ask("GET", target).send().await?;
    must!(
        answer.status != 200,
        "{target} is private, but an anonymous client is given it"
    );
    let bearer = bearer_of(&answer);
    let Some(challenge) = bearer.filter(|_| answer.status == 401) else {
        skip!(
            "private repositories cannot be had through it: {} without a Bearer challenge",
            answer.status
        );
    };
    token_of(stage, &challenge, Some(user)).await
}

/// The `Authorization` from the realm of a challenge.
async fn token_of(
    stage: &Stage,
    challenge: &Challenge,
    user: Option<User>,
) -> Result<String, Stop> {
    let realm = challenge.parameter("realm").unwrap_or_default();
    let mut target = realm.to_owned();
    target.push(if realm.contains('?') { '&' } else { '?' });
    for name in ["service", "scope"] {
        if let Some(value) = challenge.parameter(name) {
            target.push_str(&format!("{name}={}&", value.replace(' ', "%20")));
        }
    }
    let mut request = stage.mirror.request("GET", target.trim_end_matches('&'));
    if let Some(user) = user {
        request = request.header("Authorization", &user.basic());
    }
    let answer = request.send().await?.json();
    let token = answer["token"].as_str().or(answer["access_token"].as_str());
    match token {
        Some(token) => Ok(format!("Bearer {token}")),
        None => Err(Stop::Fail(format!(
            "the realm `{realm}` of the challenge gives no token"
        ))),
    }
}

fn bearer_of(answer: &Response) -> Option<Challenge> {
    let found = challenges(answer).into_iter();
    let mut bearer = found.filter(|challenge| challenge.scheme == "bearer");
    bearer.next()
}

/// GET with these credentials.
async fn get(stage: &Stage, target: &str, authorization: &str) -> Result<Response, Stop> {
    let request = stage.mirror.ask("GET", target);
    Ok(request
        .header("Authorization", authorization)
        .send()
        .await?)
}

/// Pulls all of an image with these credentials, so that it is cached.
async fn warm(stage: &Stage, image: &Sample, authorization: &str) -> Result<(), Stop> {
    for target in all_of(image) {
        let answer = get(stage, &target, authorization).await?;
        must!(
            answer.status == 200 && answer.complete(),
            "who may read it gets {} for {target}",
            answer.status
        );
    }
    Ok(())
}

/// Every part of an image as a client asks for it.
fn all_of(image: &Sample) -> [String; 4] {
    [
        image.by_tag(),
        image.by_digest(),
        image.layer_path(),
        blob_path(&image.repository, &image.config.digest),
    ]
}

/// Small blobs in a repository, each of its own.
async fn blobs(
    stage: &Stage,
    repository: &str,
    seed: u64,
    count: u64,
) -> Result<Vec<(String, Bytes)>, Stop> {
    let mut made = Vec::new();
    for index in 0..count {
        let bytes = content((0xA000 + seed) << 16 | index, 1024);
        let digest = stage.blob(repository, bytes.clone()).await?;
        made.push((blob_path(repository, &digest), bytes));
    }
    Ok(made)
}

/// Requests for this repository, and for `/v2/` on the way to it, that carry no such credential.
fn without(repository: &str, authorization: &str) -> Ask {
    let (repository, authorization) = (repository.to_owned(), authorization.to_owned());
    Ask::of(move |seen| {
        let concerned = seen.repository == repository || seen.kind == Kind::Ping;
        concerned && seen.authorization() != Some(&authorization)
    })
}
