//! Lists that come in pages: each page names the next by a Link (RFC 5988).
//!
//! A Link is followed as it stands, as any client does: what it lacks to lead on is lacking.

use serde_json::{Value, json};

use super::expect;
use super::referrers;
use super::tags::{has_own_content, names, path, tagged};
use crate::check::{Finding, Stop, must, skip};
use crate::client::{Response, Site};
use crate::origin::{Ask, Fault, Kind, Reply, sha256};
use crate::stage::Stage;
use crate::stage::content::INDEX;

/// More pages than any list here has.
const PAGES_MAX: usize = 1000;

/// Where the Link of the next page leads; `None` on the last page.
fn next(answer: &Response) -> Result<Option<String>, Stop> {
    let lines: Vec<&str> = answer.headers("link").collect();
    for link in lines.iter().flat_map(|line| line.split(", <")) {
        let parsed = link.trim_start_matches('<').split_once('>');
        let Some((target, parameters)) = parsed else {
            return Err(Stop::Fail(format!("Link `{link}` cannot be read")));
        };
        let relation = |item: &str| {
            let item = item.trim().replace('"', "");
            item.eq_ignore_ascii_case("rel=next")
        };
        if parameters.split(';').any(relation) {
            return Ok(Some(target.to_owned()));
        }
    }
    must!(
        lines.is_empty(),
        "Link `{}` has no rel=\"next\"",
        lines.join("`, `")
    );
    Ok(None)
}

/// The Link's target, which must not lead away from the registry that was asked.
fn stays(stage: &Stage, target: String, asked: &str) -> Result<String, Stop> {
    if target.contains("://") {
        let at = target.find("://").map_or(0, |at| at + 3);
        let end = target[at..]
            .find(['/', '?'])
            .map_or(target.len(), |end| at + end);
        let site = Site::parse(&target[..end]).ok();
        let own = stage.mirror.site();
        let same = site.is_some_and(|site| {
            (site.tls(), site.host(), site.port()) == (own.tls(), own.host(), own.port())
        });
        must!(same, "the Link of {asked} leads away from {own}: {target}");
        return Ok(target);
    }
    if let Some(query) = target.strip_prefix('?') {
        return Ok(format!(
            "{}?{query}",
            asked.split('?').next().unwrap_or_default()
        ));
    }
    must!(
        target.starts_with('/') && !target.starts_with("//"),
        "the Link of {asked} is `{target}`, not a path of this registry"
    );
    Ok(target)
}

/// All pages from `start` on, one after the other.
async fn follow(stage: &Stage, start: &str) -> Result<Vec<Response>, Stop> {
    let mut pages = Vec::new();
    let mut answer = stage.mirror.get(start).send().await?;
    let mut asked = start.to_owned();
    while pages.len() < PAGES_MAX {
        expect::status(&answer, 200, &asked)?;
        let next = next(&answer)?;
        pages.push(answer);
        let Some(next) = next else { return Ok(pages) };
        asked = stays(stage, next, &asked)?;
        answer = stage.mirror.request("GET", &asked).send().await?;
    }
    Err(Stop::Fail(format!("{start}: the pages never end")))
}

pub(super) async fn tags(stage: &Stage) -> Finding {
    let wanted = ["a", "b", "c", "d", "e"];
    let repository = tagged(stage, &wanted).await?;
    let pages = follow(stage, &format!("{}?n=2", path(&repository))).await?;
    if pages.len() < 2 && stage.origin().is_err() {
        // A Link MAY be there.
        skip!("the list has no Links");
    }
    once_each(stage, &pages, &repository)?;
    if stage.origin().is_ok() {
        elsewhere(stage, &repository).await?;
    }
    Ok(())
}

fn once_each(stage: &Stage, pages: &[Response], repository: &str) -> Finding {
    let mut found = Vec::new();
    for page in pages {
        found.extend(names(page, repository, "a page of tags")?);
    }
    let mut distinct = found.clone();
    distinct.sort_unstable();
    distinct.dedup();
    must!(
        distinct.len() == found.len(),
        "a tag comes twice: {found:?}"
    );
    let as_pushed = ["a", "b", "c", "d", "e"] == distinct[..];
    must!(
        as_pushed || !has_own_content(stage),
        "the pages hold {found:?}, not a to e"
    );
    Ok(())
}

/// Upstreams name themselves in Links by a whole URL, a path or a query. A mirror that gathers all
/// pages by itself needs no Link.
async fn elsewhere(stage: &Stage, repository: &str) -> Finding {
    let origin = stage.origin()?;
    let base = path(repository);
    for target in [
        format!("{}{base}?n=2&last=b", origin.url()),
        format!("{base}?last=b&n=2"),
        "?n=2&last=b".to_owned(),
    ] {
        let of = repository.to_owned();
        let first = Ask::kind(Kind::Tags)
            .and(move |seen| seen.repository == of && seen.parameter("last").is_none());
        let body = json!({"name": repository, "tags": ["a", "b"]});
        let reply =
            expect::json_reply(200, &body).header("Link", &format!("<{target}>; rel=\"next\""));
        origin.when(first).answer(Fault::Reply(reply));
        let pages = follow(stage, &format!("{base}?n=2")).await?;
        origin.behave();
        once_each(stage, &pages, repository)?;
    }
    Ok(())
}

pub(super) async fn referrers(stage: &Stage) -> Finding {
    let origin = stage.origin()?;
    let image = stage.image().await?;
    let base = referrers::path(&image.repository, &image.digest);
    let entry = |at: usize| {
        let digest = sha256(at.to_string().as_bytes());
        json!({"mediaType": INDEX, "digest": digest, "size": at + 1, "artifactType": "application/x"})
    };
    let page = |entries: &[usize]| -> Reply {
        let entries: Vec<Value> = entries.iter().map(|at| entry(*at)).collect();
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        Reply::new(200)
            .header("Content-Type", INDEX)
            .body(body.to_string())
    };
    for target in [
        format!(
            "{}{base}?nextPage=2%3D&artifactType=application%2Fx",
            origin.url()
        ),
        format!("{base}?artifactType=application%2Fx&nextPage=2%3D"),
    ] {
        let of = Kind::Referrers(image.digest.clone());
        let more =
            |value: &'static str| Ask::kind(of.clone()).and(move |seen| seen.query.contains(value));
        origin
            .when(more("nextPage=2%3D"))
            .answer(Fault::Reply(page(&[2, 3])));
        let first = page(&[0, 1]).header("Link", &format!("<{target}>; rel=\"next\""));
        origin
            .when(Ask::kind(of.clone()))
            .answer(Fault::Reply(first));
        let pages = follow(stage, &format!("{base}?artifactType=application%2Fx")).await?;
        origin.behave();
        let found: Vec<Value> = pages
            .iter()
            .flat_map(|page| {
                page.json()["manifests"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default()
            })
            .collect();
        let wanted: Vec<Value> = (0..4).map(entry).collect();
        must!(
            found == wanted,
            "the Link <{target}> leads to {} entries in {} pages, not to each of 4 once",
            found.len(),
            pages.len()
        );
    }
    Ok(())
}
