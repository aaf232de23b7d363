//! Tokens as a mirror gets them: how it asks, what it makes of the answer, when it asks again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{blobs, get, image, without};
use crate::check::{Finding, Stop, must, skip};
use crate::client::challenges;
use crate::origin::{Ask, Fault, Post, Seen, TokenAnswer, TokenField};
use crate::setup::ACCOUNT;
use crate::stage::user::{OTHER, READER, User};
use crate::stage::{Sample, Stage};

/// The shortest lifetime that a token server may give.
const SHORTEST: Duration = Duration::from_secs(60);

/// Goes on only if the mirror gets anonymous tokens, as public content at Docker Hub needs them.
async fn gets_tokens(stage: &Stage, seed: u64) -> Result<(), Stop> {
    let origin = stage.origin()?;
    let image = image(stage, seed).await?;
    origin.require_tokens();
    let answer = stage.mirror.ask("GET", &image.by_digest()).send().await?;
    let asked = origin.count(Ask::token());
    if answer.status == 401 && asked == 0 {
        skip!("it leaves every challenge to its clients");
    }
    must!(
        answer.status == 200,
        "a public image of a registry with tokens is {}, after {asked} requests at the token server",
        answer.status
    );
    Ok(())
}

pub(super) async fn requests(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    gets_tokens(stage, 100).await?;
    origin.reset();
    let image = image(stage, 101).await?;
    let path = format!("/auth/{}", image.repository);
    origin.serve_at(&path, r#"{"token":"two-scopes","expires_in":300}"#);
    let own = format!("repository:{}:pull", image.repository);
    let extra = "repository:suite/base:pull";
    let challenge = format!(
        r#"Bearer realm="{}{path}",service="suite",scope="{own} {extra}""#,
        origin.url()
    );
    let ask = without(&image.repository, "Bearer two-scopes");
    origin.when(ask).answer(Fault::Challenge(challenge));
    let answer = stage.mirror.ask("GET", &image.by_digest()).send().await?;
    must!(
        answer.status == 200,
        "after a challenge with two scopes: {}",
        answer.status
    );
    for seen in origin.seen(Ask::path(&path)) {
        must!(
            seen.method == "GET",
            "an anonymous token is asked for by {}",
            seen.method
        );
        let scopes = seen.query.matches("scope=").count();
        must!(
            scopes == 2,
            "two scopes are asked for in {scopes} parameters: {}",
            seen.query
        );
    }
    origin.reset();
    with_account(stage).await
}

/// The part that needs an account of the mirror's own.
async fn with_account(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    origin.require_tokens();
    let first = account_image(stage, 102).await?;
    if stage
        .mirror
        .ask("GET", &first.by_digest())
        .send()
        .await?
        .status
        != 200
    {
        skip!("POST needs a mirror that has the account {{user}} at the first origin");
    }
    for status in [400, 401, 404, 405] {
        origin.answer_tokens(TokenAnswer {
            post: Post::Refused(status),
            ..TokenAnswer::default()
        });
        let image = account_image(stage, 103 + u64::from(status)).await?;
        let answer = stage.mirror.ask("GET", &image.by_digest()).send().await?;
        must!(
            answer.status == 200,
            "where the token server answers POST {status}: {}",
            answer.status
        );
    }
    origin.answer_tokens(TokenAnswer::default());
    for status in [404, 405] {
        origin.forget_requests();
        origin
            .when(Ask::token().get())
            .answer(Fault::Status(status));
        let image = account_image(stage, 110 + u64::from(status)).await?;
        let answer = stage.mirror.ask("GET", &image.by_digest()).send().await?;
        must!(
            answer.status == 200,
            "where the token server answers GET {status}: {}",
            answer.status
        );
        for seen in origin.seen(Ask::token().and(|seen| seen.method == "POST")) {
            is_oauth2(&seen, &image)?;
        }
        origin.behave();
    }
    Ok(())
}

async fn account_image(stage: &Stage, seed: u64) -> Result<Sample, Stop> {
    let image = image(stage, seed).await?;
    let (name, password) = ACCOUNT;
    User { name, password }.owns(stage, &image.repository)?;
    Ok(image)
}

fn is_oauth2(seen: &Arc<Seen>, image: &Sample) -> Finding {
    let form = String::from_utf8_lossy(&seen.body).into_owned();
    let has = |field: &str| form.split('&').any(|pair| pair.starts_with(field));
    for field in ["grant_type=", "service=", "client_id=", "scope="] {
        must!(has(field), "a POST for a token lacks {field}");
    }
    let grant = has("grant_type=password") || has("grant_type=refresh_token");
    must!(grant, "a POST for a token has an unknown grant_type");
    let kind = seen.header("content-type").unwrap_or_default();
    must!(
        kind.starts_with("application/x-www-form-urlencoded"),
        "a POST for a token is {kind}"
    );
    let name = image.repository.rsplit('/').next().unwrap_or_default();
    must!(
        form.contains(name),
        "a POST for a token does not name the repository"
    );
    Ok(())
}

pub(super) async fn answers(stage: &Stage) -> Finding {
    gets_tokens(stage, 120).await?;
    let origin = stage.origin()?;
    let (past, future) = ("2001-02-03T04:05:06Z", "2199-01-01T00:00:00Z");
    let mut forms = Vec::new();
    for field in [TokenField::Token, TokenField::AccessToken, TokenField::Both] {
        forms.push((field, Some(300), None));
    }
    for expires_in in [None, Some(0), Some(30), Some(-1), Some(i64::MAX)] {
        forms.push((TokenField::Both, expires_in, None));
    }
    for issued_at in [past, future, "yesterday"] {
        forms.push((TokenField::Both, Some(300), Some(issued_at.to_owned())));
    }
    for (at, (field, expires_in, issued_at)) in forms.into_iter().enumerate() {
        let what = format!("{field:?}, expires_in {expires_in:?}, issued_at {issued_at:?}");
        let lasts = issued_at.is_none() && matches!(expires_in, None | Some(300));
        origin.answer_tokens(TokenAnswer {
            field,
            expires_in,
            issued_at,
            ..TokenAnswer::default()
        });
        let repository = stage.repository();
        let made = blobs(stage, &repository, 121 + at as u64, 3).await?;
        origin.forget_requests();
        one_pull(stage, &made[0].0, &what).await?;
        let first = origin.count(Ask::token());
        must!(
            (1..=2).contains(&first),
            "{what}: {first} tokens for one blob"
        );
        one_pull(stage, &made[1].0, &what).await?;
        let second = origin.count(Ask::token());
        must!(
            !lasts || second == first,
            "{what}: another token for the next blob"
        );
        // A token that the registry no longer takes is replaced, whatever was said of its life.
        origin.expire_tokens();
        one_pull(stage, &made[2].0, &what).await?;
        let third = origin.count(Ask::token());
        must!(
            third <= second + 2,
            "{what}: {} tokens in place of a rejected one",
            third - second
        );
    }
    Ok(())
}

async fn one_pull(stage: &Stage, target: &str, what: &str) -> Finding {
    let answer = stage.mirror.ask("GET", target).send().await?;
    must!(answer.status == 200, "{what}: {}", answer.status);
    Ok(())
}

pub(super) async fn is_shared_and_renewed(stage: &Stage) -> Finding {
    gets_tokens(stage, 140).await?;
    let origin = stage.origin()?;
    let repository = stage.repository();
    let many = blobs(stage, &repository, 141, 50).await?;
    origin.answer_tokens(TokenAnswer {
        expires_in: Some(300),
        ..TokenAnswer::default()
    });
    origin.forget_requests();
    let pulls = many
        .iter()
        .map(|(target, _)| stage.mirror.ask("GET", target));
    for answer in join_all(pulls.map(|pull| pull.send())).await {
        let status = answer?.status;
        must!(status == 200, "one of 50 pulls at once: {status}");
    }
    let tokens = origin.count(Ask::token());
    must!(
        tokens == 1,
        "{tokens} tokens for 50 pulls of one repository"
    );
    // The shortest life that the protocol knows. What is asked is never cached.
    let repository = stage.repository();
    origin.answer_tokens(TokenAnswer {
        expires_in: Some(60),
        ..TokenAnswer::default()
    });
    let all = blobs(stage, &repository, 142, 80).await?;
    origin.forget_requests();
    let begun = Instant::now();
    let mut targets = all.iter();
    loop {
        let Some((target, _)) = targets.next() else {
            return Err(Stop::Skip("this machine is too slow to tell".to_owned()));
        };
        one_pull(stage, target, "a short-lived token").await?;
        if origin.count(Ask::token()) > 1 {
            return Ok(());
        }
        must!(
            begun.elapsed() < SHORTEST,
            "a token for 60 s is still used after {:?}",
            begun.elapsed()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

pub(super) async fn insufficient_scope(stage: &Stage) -> Finding {
    gets_tokens(stage, 150).await?;
    let origin = stage.origin()?;
    origin.reset();
    let realm = format!("{}/token", origin.url());
    // One refusal for want of scope, then all is well; and one that never ends.
    for (seed, times) in [(151, 1), (152, usize::MAX)] {
        let image = image(stage, seed).await?;
        let (repository, any) = (image.repository.clone(), image.repository.clone());
        let scope = format!("repository:{repository}:pull");
        let wide = format!("{scope},metadata_read");
        let of = |at: String, named: bool| {
            Ask::of(move |seen| seen.repository == at && seen.authorization().is_some() == named)
        };
        let challenge =
            |scope: &str| format!(r#"Bearer realm="{realm}",service="suite",scope="{scope}""#);
        origin
            .when(of(repository, false))
            .answer(Fault::Challenge(challenge(&scope)));
        let more = format!(r#"{},error="insufficient_scope""#, challenge(&wide));
        origin
            .when(of(any.clone(), true))
            .times(times)
            .answer(Fault::Challenge(more));
        origin.forget_requests();
        let answer = stage.mirror.ask("GET", &image.layer_path()).send().await?;
        let tokens = origin.seen(Ask::token().and(move |seen| seen.query.contains(last(&any))));
        let asked = tokens.iter().filter(|seen| {
            let scope = seen.parameter("scope").unwrap_or_default();
            scope.contains("metadata_read")
        });
        let asked = asked.count();
        if times == 1 {
            must!(
                answer.status == 200 && asked == 1,
                "after insufficient_scope: {}, and {asked} requests for the wider token",
                answer.status
            );
        } else {
            must!(
                matches!(answer.status, 401 | 403) && asked <= 1 && tokens.len() <= 2,
                "where no scope suffices: {}, after {} tokens, {asked} of them wider",
                answer.status,
                tokens.len()
            );
        }
        origin.behave();
    }
    forbidden(stage, &realm).await
}

fn last(repository: &str) -> &str {
    repository.rsplit('/').next().unwrap_or_default()
}

/// 403 is final.
async fn forbidden(stage: &Stage, realm: &str) -> Finding {
    let origin = stage.origin()?;
    let image = image(stage, 153).await?;
    let challenge = format!(
        r#"Bearer realm="{realm}",service="suite",scope="repository:{}:pull""#,
        image.repository
    );
    let (one, two, three) = (
        image.repository.clone(),
        image.repository.clone(),
        image.repository.clone(),
    );
    origin
        .when(Ask::of(move |seen| {
            seen.repository == one && seen.authorization().is_none()
        }))
        .answer(Fault::Challenge(challenge));
    origin
        .when(Ask::of(move |seen| seen.repository == two))
        .answer(Fault::Status(403));
    origin.forget_requests();
    let answer = stage.mirror.ask("GET", &image.layer_path()).send().await?;
    let tried = origin.count(Ask::of(move |seen| {
        seen.repository == three && seen.authorization().is_some()
    }));
    must!(
        answer.status == 403,
        "where upstream answers 403: {}",
        answer.status
    );
    must!(
        tried <= 1,
        "a request that was answered 403 is made {tried} times"
    );
    Ok(())
}

pub(super) async fn basic_and_anonymous(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = account_image(stage, 160).await?;
    READER.owns(stage, &image.repository)?;
    origin.require_basic();
    let refused = stage.mirror.ask("GET", &image.by_digest()).send().await?;
    if refused.status != 200 {
        let basic = challenges(&refused).iter().any(|c| c.scheme == "basic");
        must!(
            refused.status == 401 && basic,
            "without a login: {} with {:?}, not 401 with upstream's Basic challenge",
            refused.status,
            challenges(&refused)
        );
        for target in [image.by_tag(), image.by_digest(), image.layer_path()] {
            let answer = get(stage, &target, &READER.basic()).await?;
            must!(
                answer.status == 200,
                "{target} with a good Basic login: {}",
                answer.status
            );
            let wrong = get(stage, &target, &OTHER.basic()).await?;
            must!(
                matches!(wrong.status, 401 | 403),
                "{target} with another's Basic login: {}",
                wrong.status
            );
        }
    }
    origin.reset();
    gets_anonymous(stage).await
}

async fn gets_anonymous(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = image(stage, 161).await?;
    origin.require_tokens();
    let mut credential: Option<String> = None;
    for target in super::all_of(&image) {
        let mut request = stage.mirror.ask("GET", &target);
        if let Some(credential) = &credential {
            request = request.header("Authorization", credential);
        }
        let mut answer = request.send().await?;
        if answer.status == 401 {
            // Anonymous tokens may also be left to the client.
            let bearer = super::bearer_of(&answer);
            must!(
                bearer.is_some(),
                "{target} of a public repository: 401 without a Bearer challenge"
            );
            if let Some(challenge) = bearer {
                let token = super::token_of(stage, &challenge, None).await?;
                answer = get(stage, &target, &token).await?;
                credential = Some(token);
            }
        }
        must!(
            answer.status == 200,
            "{target} of a public repository at a registry with tokens: {}",
            answer.status
        );
    }
    Ok(())
}
