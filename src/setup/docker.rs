//! dockerd: `registry-mirrors` in daemon.json for Docker Hub, and for other registries a
//! `hosts.toml` that only its containerd image store (28 and later) reads.
//!
//! Invariant: the text of daemon.json outside the one list stays as it is, byte for byte.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::setup::containerd::{put_hosts, registry_folder};
use crate::setup::files;
use crate::setup::plan::{Context, Plan, Wanted};

const FOLDER: &str = "/etc/docker";
const MIRRORS: &str = "registry-mirrors";

/// What setup would do.
pub(crate) fn plan(context: &Context<'_>) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let folder = match context.config_path {
        Some(folder) => folder.to_owned(),
        None => context.at(FOLDER),
    };
    let daemon = files::target(&folder.join("daemon.json"))?;
    let base = context.journal.base(&daemon)?;
    let text = base.as_deref().unwrap_or_default();
    let keys = keys(text, &daemon)?;
    let store = image_store(&keys, context.version);

    let default = [Wanted::of("docker.io")?];
    let wanted = match context.wanted {
        [] => &default,
        wanted => wanted,
    };
    for wanted in wanted {
        let hub = wanted.registry.as_str() == "docker.io";
        if hub {
            let content = with_mirror(text, &keys, &context.address.url(), &daemon)?;
            plan.put(daemon.clone(), content)?;
        }
        // With the image store registry-mirrors serves Hub too; the file makes both agree where
        // an operator's own hosts.toml for Hub would otherwise switch registry-mirrors off.
        let path = registry_folder(&folder.join("certs.d"), wanted.registry.as_str());
        if !hub || store == Store::On || path.join("hosts.toml").exists() {
            put_hosts(&mut plan, context, &path.join("hosts.toml"), Some(wanted))?;
        }
        if !hub && store != Store::On {
            plan.trap(
                format!(
                    "dockerd reads hosts.toml for {} only with its containerd image store (28 and later; the default of new installations from 29): otherwise its pulls go past the node",
                    wanted.registry.as_str()
                ),
                "set \"features\": {\"containerd-snapshotter\": true} in daemon.json and restart dockerd; images of the other store are not seen then",
            );
        }
    }
    let touches = |path: &Path| plan.changes.iter().any(|change| change.path == path);
    if touches(&daemon) {
        plan.after.push(
            "reload dockerd, which reads registry-mirrors then; containers go on running: systemctl reload docker (or kill -HUP)"
                .to_owned(),
        );
    } else {
        plan.after.push("nothing to restart or reload".to_owned());
    }
    Ok(plan)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    On,
    Off,
    Unknown,
}

/// Whether dockerd keeps images in containerd: said in daemon.json, or the default of 29.
fn image_store(keys: &BTreeMap<&str, &RawValue>, version: Option<(u32, u32)>) -> Store {
    let features: Option<BTreeMap<String, bool>> = keys
        .get("features")
        .and_then(|raw| serde_json::from_str(raw.get()).ok());
    match features.and_then(|all| all.get("containerd-snapshotter").copied()) {
        Some(true) => Store::On,
        Some(false) => Store::Off,
        // From 29 it depends on what an installation had before.
        None if version.is_none_or(|version| version >= (29, 0)) => Store::Unknown,
        None => Store::Off,
    }
}

fn keys<'a>(text: &'a str, path: &Path) -> Result<BTreeMap<&'a str, &'a RawValue>, Failure> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(text).map_err(|error| {
        Failure::new(format!("{} is not valid: {error}", path.display()))
            .hint("dockerd does not start with it either; repair it, then run darner setup again")
    })
}

/// The text with the node as first of `registry-mirrors`.
fn with_mirror(
    text: &str,
    keys: &BTreeMap<&str, &RawValue>,
    url: &str,
    path: &Path,
) -> Result<String, Failure> {
    if text.trim().is_empty() {
        return Ok(format!("{{\n  \"{MIRRORS}\": [\"{url}\"]\n}}\n"));
    }
    let Some(raw) = keys.get(MIRRORS) else {
        let open = text.find('{').unwrap_or(0) + 1;
        let (head, tail) = text.split_at(open);
        let comma = if keys.is_empty() { "" } else { "," };
        return Ok(format!("{head}\n  \"{MIRRORS}\": [\"{url}\"]{comma}{tail}"));
    };
    let mirrors: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| {
        Failure::new(format!(
            "{MIRRORS} in {} is not a list of texts",
            path.display()
        ))
        .hint("dockerd does not start with it either; repair it, then run darner setup again")
    })?;
    let is_node = |mirror: &String| mirror.trim_end_matches('/') == url;
    if mirrors.first().is_some_and(is_node) {
        return Ok(text.to_owned());
    }
    let others = mirrors.iter().filter(|mirror| !is_node(mirror));
    let list: Vec<String> = std::iter::once(&url.to_owned())
        .chain(others)
        .map(|mirror| serde_json::Value::from(mirror.as_str()).to_string())
        .collect();
    // The raw value is a slice of the text: where it lies is where the list is replaced.
    let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
    let end = start + raw.get().len();
    Ok(format!(
        "{}[{}]{}",
        &text[..start],
        list.join(", "),
        &text[end..]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "http://127.0.0.1:65001";

    fn merge(text: &str) -> Result<String, Failure> {
        let path = Path::new("/etc/docker/daemon.json");
        with_mirror(text, &keys(text, path)?, NODE, path)
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        for (text, expected) in [
            (
                "",
                "{\n  \"registry-mirrors\": [\"http://127.0.0.1:65001\"]\n}\n",
            ),
            (
                "{}",
                "{\n  \"registry-mirrors\": [\"http://127.0.0.1:65001\"]}",
            ),
            (
                "{ \"debug\":true,\n\t\"x\": [1 ,2]}\n",
                "{\n  \"registry-mirrors\": [\"http://127.0.0.1:65001\"], \"debug\":true,\n\t\"x\": [1 ,2]}\n",
            ),
            (
                "{\"registry-mirrors\" : [ \"https://m\" ],\"a\":1 }",
                "{\"registry-mirrors\" : [\"http://127.0.0.1:65001\", \"https://m\"],\"a\":1 }",
            ),
            (
                "{\"registry-mirrors\":[\"https://m\",\"http://127.0.0.1:65001/\"]}",
                "{\"registry-mirrors\":[\"http://127.0.0.1:65001\", \"https://m\"]}",
            ),
        ] {
            let merged = merge(text).unwrap();
            assert_eq!(merged, expected);
            serde_json::from_str::<serde_json::Value>(&merged).unwrap();
            assert_eq!(merge(&merged).unwrap(), merged, "twice is once");
        }
    }

    #[test]
    fn broken_json_is_not_touched() {
        for text in ["{", "[]", "{\"registry-mirrors\": \"x\"}", "{\"a\":1,}"] {
            merge(text).unwrap_err();
        }
    }

    #[test]
    fn the_image_store_is_known_from_its_feature() {
        let store = |text: &str, version| {
            let path = Path::new("x");
            image_store(&keys(text, path).unwrap(), version)
        };
        let on = "{\"features\":{\"containerd-snapshotter\":true}}";
        assert_eq!(store(on, None), Store::On);
        assert_eq!(store("{}", Some((20, 10))), Store::Off);
        assert_eq!(store("{}", Some((29, 0))), Store::Unknown);
    }
}
