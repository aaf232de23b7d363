//! Tag lists: their form, their order, and parts of them.

use super::expect;
use crate::check::{Finding, Stop, must, skip};
use crate::client::Response;
use crate::stage::Stage;
use crate::stage::content::MANIFEST;

/// A repository with these tags on one image, or the one that is given.
pub(super) async fn tagged(stage: &Stage, tags: &[&str]) -> Result<String, Stop> {
    let repository = stage.repository();
    if !has_own_content(stage) {
        return Ok(stage.image().await?.repository);
    }
    for tag in tags {
        stage.image_in(&repository, tag, &[]).await?;
    }
    Ok(repository)
}

pub(super) fn has_own_content(stage: &Stage) -> bool {
    stage.origin().is_ok() || stage.is_writable()
}

pub(super) fn path(repository: &str) -> String {
    format!("/v2/{repository}/tags/list")
}

/// The tags of a 200 answer of the right form.
pub(super) fn names(answer: &Response, repository: &str, what: &str) -> Result<Vec<String>, Stop> {
    expect::status(answer, 200, what)?;
    let text = answer.text();
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    must!(json.is_object(), "{what}: the body is no JSON: {text}");
    let name = json["name"].as_str().unwrap_or_default();
    must!(
        name == repository,
        "{what}: the list's name is `{name}`, it was asked for as `{repository}`"
    );
    let Some(tags) = json["tags"].as_array() else {
        return Err(Stop::Fail(format!("{what}: no list `tags`: {text}")));
    };
    let names: Option<Vec<String>> = tags
        .iter()
        .map(|tag| tag.as_str().map(str::to_owned))
        .collect();
    names.ok_or_else(|| Stop::Fail(format!("{what}: `tags` holds what is no text: {text}")))
}

/// All of a list in one answer; `None` if it comes in pages.
async fn all(stage: &Stage, repository: &str) -> Result<Option<Vec<String>>, Stop> {
    let answer = stage.mirror.get(&path(repository)).send().await?;
    let found = names(&answer, repository, "the tag list")?;
    Ok(answer.header("link").is_none().then_some(found))
}

pub(super) async fn list(stage: &Stage) -> Finding {
    let wanted = ["1.0", "1.1", "edge", "latest"];
    let repository = tagged(stage, &wanted).await?;
    let answer = stage.mirror.get(&path(&repository)).send().await?;
    let kind = answer.header("content-type").unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let mut found = names(&answer, &repository, "the tag list")?;
    must!(
        kind.starts_with("application/json"),
        "Content-Type is `{kind}`, not application/json"
    );
    if !has_own_content(stage) {
        return Ok(());
    }
    found.sort_unstable();
    must!(found == wanted, "the tags are {found:?}, not {wanted:?}");
    empty(stage).await?;
    with_name(stage, &repository).await
}

/// A repository whose manifest has no tag: an empty list, or, where a registry knows repositories
/// by their tags alone, 404.
async fn empty(stage: &Stage) -> Finding {
    let repository = stage.repository();
    let image = stage.image_in(&repository, "gone", &[]).await?;
    let untagged = stage.repository();
    stage.blob(&untagged, image.config.bytes.clone()).await?;
    stage
        .manifest(&untagged, None, MANIFEST, image.manifest.clone())
        .await?;
    let answer = stage.mirror.get(&path(&untagged)).send().await?;
    let what = "the list of a repository without tags";
    if answer.status == 404 && stage.origin().is_err() {
        return Ok(());
    }
    let found = names(&answer, &untagged, what)?;
    must!(found.is_empty(), "{what} holds {found:?}");
    Ok(())
}

/// Where a mirror takes the registry's name as the beginning of the path, that is the name it was
/// asked for.
async fn with_name(stage: &Stage, repository: &str) -> Finding {
    let Ok(scripted) = stage.scripted() else {
        return Ok(());
    };
    let named = format!("{}/{repository}", scripted.name);
    let answer = stage.mirror.request("GET", &path(&named)).send().await?;
    if answer.status == 200 {
        names(
            &answer,
            &named,
            "the list by a path with the registry's name",
        )?;
    }
    Ok(())
}

pub(super) async fn order(stage: &Stage) -> Finding {
    let tags = ["b", "B10", "a", "C", "10", "9", "_x", "A2", "b-1", "b.1"];
    let repository = tagged(stage, &tags).await?;
    let answer = stage.mirror.get(&path(&repository)).send().await?;
    let found = names(&answer, &repository, "the tag list")?;
    must!(
        ordered(&found),
        "neither in lexical nor in ASCII order: {found:?}"
    );
    Ok(())
}

fn ordered(tags: &[String]) -> bool {
    let ascii = tags.is_sorted();
    ascii || tags.is_sorted_by_key(|tag| tag.to_ascii_lowercase())
}

pub(super) async fn cut(stage: &Stage) -> Finding {
    let repository = tagged(stage, &["a", "b", "c", "d", "e"]).await?;
    let base = path(&repository);
    let Some(all) = all(stage, &repository).await? else {
        skip!("the list comes in pages without being asked for");
    };
    let answer = stage.mirror.get(&format!("{base}?n=0")).send().await?;
    let found = names(&answer, &repository, "n=0")?;
    must!(found.is_empty(), "n=0 gives {found:?}");
    let link = answer.header("link");
    must!(link.is_none(), "n=0 has the Link {}", expect::shown(link));
    if all.len() < 2 {
        skip!(
            "the given repository has {} tags: too few to cut",
            all.len()
        );
    }
    let (first, last) = (&all[0], &all[all.len() - 1]);
    let most = all.len();
    for (query, wanted) in [
        ("n=1".to_owned(), &all[..1]),
        ("n=2".to_owned(), &all[..2]),
        (format!("n={most}"), &all[..]),
        (format!("n={}", most + 50), &all[..]),
        (format!("n=1&last={first}"), &all[1..2]),
        (format!("last={first}&n={most}"), &all[1..]),
        (format!("last={first}"), &all[1..]),
        (format!("last={last}"), &all[most..]),
        (format!("n=3&last={last}"), &all[most..]),
    ] {
        page(stage, &repository, &query, wanted).await?;
    }
    if has_own_content(stage) {
        // Not there, but it has a place in the order.
        page(stage, &repository, "last=bb", &all[2..]).await?;
        page(stage, &repository, "n=2&last=bb", &all[2..4]).await?;
        page(stage, &repository, "n=2&last=zz", &all[most..]).await?;
    }
    Ok(())
}

/// The page is this, or shorter with a Link to the rest.
async fn page(stage: &Stage, repository: &str, query: &str, wanted: &[String]) -> Finding {
    let path = format!("{}?{query}", path(repository));
    let answer = stage.mirror.get(&path).send().await?;
    let found = names(&answer, repository, query)?;
    let shorter = answer.header("link").is_some() && found.len() < wanted.len();
    let wanted = if shorter {
        &wanted[..found.len()]
    } else {
        wanted
    };
    must!(found == wanted, "{query} gives {found:?}, not {wanted:?}");
    Ok(())
}

pub(super) async fn odd_n(stage: &Stage) -> Finding {
    let repository = tagged(stage, &["a", "b", "c"]).await?;
    let all = all(stage, &repository).await?;
    for n in [
        "18446744073709551616",
        "9223372036854775807",
        "2147483648",
        "-1",
        "abc",
        "1e3",
        "",
        "0x2",
        "1.5",
    ] {
        let what = format!("n={n}");
        let path = format!("{}?{what}", path(&repository));
        let answer = stage.mirror.get(&path).send().await?;
        if answer.status == 400 {
            continue;
        }
        let found = names(&answer, &repository, &what)?;
        if let Some(all) = &all {
            must!(all.starts_with(&found), "{what} gives {found:?} of {all:?}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_are_orders() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(ordered(&list("10 9 A b C")));
        assert!(ordered(&list("10 9 A C b")));
        assert!(!ordered(&list("10 9 b A C")));
        assert!(!ordered(&list("9 10")));
    }
}
