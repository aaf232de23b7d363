//! What several checks expect of an answer, or of the origin behind the mirror.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::check::{Finding, Stop, must, skip};
use crate::client::{Client, Request, Response, Trouble};
use crate::origin::{Ask, Origin, Outcome};
use crate::stage::Stage;
use crate::stage::content::ANY_MANIFEST;

/// How long a request that must not come is looked out for. A mirror that sends it is caught only
/// if it does so within this time; one that does not is never blamed.
const LOOKOUT: Duration = Duration::from_millis(500);
/// Answers that a mirror gives meanwhile, so that what was sent to it before has been read.
const PINGS: usize = 10;
/// Less than mirrors wait for a registry's answer.
const STOOD_STILL: Duration = Duration::from_secs(10);

/// Asks for a manifest as clients do, who name the types they know; some registries answer 404 to
/// who names none.
pub(super) fn manifest(client: &Client, path: &str) -> Request {
    client.get(path).header("Accept", ANY_MANIFEST)
}

/// 200 with exactly these bytes.
pub(super) fn whole(what: &str, answer: &Response, bytes: &[u8]) -> Finding {
    must!(answer.status == 200, "{what}: {}, not 200", answer.status);
    let (came, ending) = (answer.body.len(), answer.ending);
    let of = bytes.len();
    must!(
        answer.complete(),
        "{what}: {came} of {of} bytes, then {ending:?}"
    );
    must!(
        answer.body == bytes,
        "{what}: 200 with {came} bytes which are not the right {of}"
    );
    Ok(())
}

/// Anything that a client cannot take for the whole of what it asked.
pub(super) fn refused(what: &str, answer: &Result<Response, Trouble>) -> Finding {
    if let Ok(answer) = answer {
        let taken = answer.status == 200 && answer.complete();
        let length = answer.body.len();
        must!(!taken, "{what}: a complete 200 with {length} bytes");
    }
    Ok(())
}

/// Those requests that are for this repository.
pub(super) fn of(ask: Ask, repository: &str) -> Ask {
    let repository = repository.to_owned();
    ask.and(move |seen| seen.repository == repository)
}

/// Fails if more than `count` such requests are open at the origin within a short while, in which the
/// mirror answers others.
pub(super) async fn no_more_than(
    stage: &Stage,
    origin: &Origin,
    ask: Ask,
    count: usize,
) -> Finding {
    for _ in 0..PINGS {
        // A client without a record: ten pings tell a reader nothing.
        stage
            .mirror
            .recording()
            .request("GET", "/v2/")
            .plain()
            .send()
            .await?;
    }
    let end = Instant::now() + LOOKOUT;
    while Instant::now() < end {
        let open = open(origin, ask.clone());
        must!(
            open <= count,
            "the origin was asked {open} times at once, not {count}"
        );
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Such requests that the origin has not answered yet.
pub(super) fn open(origin: &Origin, ask: Ask) -> usize {
    let seen = origin.seen(ask).into_iter();
    seen.filter(|seen| seen.outcome() == Outcome::Running)
        .count()
}

/// Skips a trial that took so long that a mirror's own deadlines were over in it: the machine
/// stood still, and nothing was learned.
pub(super) fn in_time(begun: Instant) -> Finding {
    if begun.elapsed() > STOOD_STILL {
        skip!("this machine is too busy: a moment took more than {STOOD_STILL:?}");
    }
    Ok(())
}

/// Waits until the origin has seen such a request, for as long as it takes.
pub(super) async fn asked(origin: &Origin, ask: Ask) {
    while origin.count(ask.clone()) == 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Tries until `held` says yes, for at most so long.
pub(super) async fn within<F>(limit: Duration, what: &str, mut held: F) -> Finding
where
    F: AsyncFnMut() -> Result<bool, Stop>,
{
    let end = Instant::now() + limit;
    while !held().await? {
        must!(Instant::now() < end, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
