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
    /// No other place has it, so that it is known who was sent where.
    path: String,
}

/// The second origin in every disguise, and addresses that nobody should be sent to.
fn elsewhere(own: &Origin, second: &Origin) -> Vec<Elsewhere> {
    let (first, port) = (own.addr(), second.addr().port());
    let urls = [
        ("another port", format!("http://127.0.0.1:{port}")),
        ("another name", format!("http://localhost:{port}")),
        ("a name with a dot", format!("http://localhost.:{port}")),
        ("the unspecified address", format!("http://0.0.0.0:{port}")),
        ("a short address", format!("http://127.1:{port}")),
        ("one number", format!("http://2130706433:{port}")),
        ("hexadecimal", format!("http://0x7f000001:{port}")),
        (
            "a mapped address",
            format!("http://[::ffff:127.0.0.1]:{port}"),
        ),
        ("user info", format!("http://{first}@localhost:{port}")),
        ("a backslash", format!("http://{first}\\@localhost:{port}")),
        ("another scheme", format!("gopher://127.0.0.1:{port}")),
        ("no scheme", format!("//127.0.0.1:{port}")),
        ("a file", "file://".to_owned()),
        ("the metadata address", "http://169.254.169.254".to_owned()),
        ("a private address", "http://10.254.254.254".to_owned()),
    ];
    let urls = urls.into_iter().enumerate();
    urls.map(|(at, (what, base))| Elsewhere {
        what,
        path: format!("/elsewhere-{at}"),
        url: format!("{base}/elsewhere-{at}"),
    })
    .collect()
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
    let mut came = Came::default();
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
        // Twice, in case the first one was answered by what an earlier challenge left.
        for target in [image.by_digest(), image.layer_path()] {
            let answer = stage.mirror.ask("GET", &target).send().await?;
            must!(
                answer.status >= 400,
                "{}: {} where the origin answers 401 only",
                place.what,
                answer.status
            );
        }
        came.look(second, &place);
        origin.behave();
    }
    came.finding()
}

pub(super) async fn is_not_redirected(stage: &Stage) -> Finding {
    let scripted = stage.scripted()?;
    let (origin, second) = (&scripted.first, &scripted.second);
    origin.require_tokens();
    let mut came = Came::default();
    for (at, place) in elsewhere(origin, second).into_iter().enumerate() {
        let status = [307, 302, 308, 301, 303][at % 5];
        let image = bait(stage, 60 + at as u64).await?;
        let reply = Reply::new(status).header("Location", &place.url);
        origin.when(Ask::token()).answer(Fault::Reply(reply));
        // Twice, in case the first one was answered by what an earlier challenge left.
        for target in [image.by_digest(), image.layer_path()] {
            let answer = stage.mirror.ask("GET", &target).send().await?;
            must!(
                answer.status >= 400,
                "{}: {} without a token",
                place.what,
                answer.status
            );
        }
        if origin.count(Ask::token()) == 0 {
            skip!("it asks no token server itself");
        }
        came.look(second, &place);
        origin.behave();
    }
    came.finding()
}

/// Where the mirror let itself be sent, all of it told at once.
#[derive(Default)]
struct Came(Vec<String>);

impl Came {
    fn look(&mut self, second: &Origin, place: &Elsewhere) {
        let seen = second.seen(Ask::path(&place.path));
        let Some(first) = seen.first() else { return };
        let with = match first.authorization() {
            Some(_) => ", with a credential",
            None => "",
        };
        let (what, url) = (place.what, &place.url);
        self.0.push(format!("{what} ({url}{with})"));
    }

    fn finding(self) -> Finding {
        let all = self.0.join("; ");
        must!(
            self.0.is_empty(),
            "the mirror was sent there and went: {all}"
        );
        Ok(())
    }
}
