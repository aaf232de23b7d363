//! Rights that end, and questions about them that nobody answers.

use super::{all_of, get, login, private_image, warm};
use crate::check::{Finding, Stop, must};
use crate::origin::{Ask, Fault};
use crate::stage::user::{OTHER, READER};
use crate::stage::{Sample, Stage};

pub(super) async fn revoked(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    // The token ends; its owner may get another.
    let image = private_image(stage, 170).await?;
    let token = login(stage, &image.by_tag(), READER).await?;
    warm(stage, &image, &token).await?;
    origin.expire_tokens();
    ends(stage, &image, &token, "an ended token").await?;
    let again = login(stage, &image.by_tag(), READER).await?;
    warm(stage, &image, &again).await?;
    // The right ends.
    origin.revoke(&image.repository);
    ends(stage, &image, &again, "a token whose owner lost the right").await?;
    // What was public is so no more.
    let public = super::image(stage, 171).await?;
    for target in all_of(&public) {
        stage.mirror.ask("GET", &target).send().await?;
    }
    origin.revoke(&public.repository);
    for target in all_of(&public) {
        let what = format!("{target} was public and is still given to everybody");
        let held = async || Ok(stage.mirror.ask("GET", &target).send().await?.status == 401);
        stage.within_ttl(&what, held).await?;
    }
    Ok(())
}

async fn ends(stage: &Stage, image: &Sample, token: &str, who: &str) -> Finding {
    for target in all_of(image) {
        let held = async || {
            let status = get(stage, &target, token).await?.status;
            must!(
                matches!(status, 200 | 401 | 403),
                "{who} is answered {status} for {target}"
            );
            Ok(status != 200)
        };
        let what = format!("{who} still opens {target}");
        stage.within_ttl(&what, held).await?;
    }
    Ok(())
}

pub(super) async fn fails_closed(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let faults = [
        Fault::TooMany(Some("1".to_owned())),
        Fault::Status(500),
        Fault::Status(503),
        Fault::HangUp,
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        origin.reset();
        let image = private_image(stage, 180 + 2 * at as u64).await?;
        let other = private_image(stage, 181 + 2 * at as u64).await?;
        OTHER.owns(stage, &other.repository)?;
        let token = login(stage, &image.by_tag(), READER).await?;
        let stranger = login(stage, &other.by_tag(), OTHER).await?;
        warm(stage, &image, &token).await?;
        warm(stage, &other, &stranger).await?;
        let repository = image.repository.clone();
        let ask = Ask::of(move |seen| seen.repository == repository);
        origin.when(ask).answer(fault.clone());
        // A right that is alive may still serve; it must not be a stranger's, and must end.
        for target in all_of(&image) {
            for credential in ["", "Bearer garbage", &stranger] {
                let status = with(stage, &target, credential).await?;
                must!(
                    status >= 400,
                    "where the origin fails ({fault:?}), `{credential}` opens {target}: {status}"
                );
            }
        }
        for target in all_of(&image) {
            let held = async || Ok(with(stage, &target, &token).await? >= 400);
            let what = format!("where the origin fails ({fault:?}), an old grant opens {target}");
            stage.within_ttl(&what, held).await?;
        }
        origin.behave();
        let held = async || Ok(with(stage, &image.by_digest(), &token).await? == 200);
        let what = "the registry answers again, and is not asked".to_owned();
        stage.within_ttl(&what, held).await?;
    }
    Ok(())
}

async fn with(stage: &Stage, target: &str, credential: &str) -> Result<u16, Stop> {
    let mut request = stage.mirror.ask("GET", target);
    if !credential.is_empty() {
        request = request.header("Authorization", credential);
    }
    Ok(request.send().await?.status)
}
