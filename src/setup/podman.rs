//! podman, skopeo and buildah: one drop-in of registries.conf.d per registry.
//!
//! They send no `ns`, so the registry's name goes into the path of the mirror, except for Docker
//! Hub, which is what the node takes a bare path for. What the operator says about the same prefix
//! elsewhere is carried over, because the last file about a prefix replaces the others.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::print::quote;
use crate::failure::Failure;
use crate::setup::files;
use crate::setup::plan::{Context, Plan, Wanted};

const MAIN: &str = "/etc/containers/registries.conf";
const DROP_INS: &str = "/etc/containers/registries.conf.d";
/// Drop-ins are read in the order of their names and the last one about a prefix counts.
const PREFIX: &str = "zz-darner-";
/// Without `--registry`: what most images come from. There is no entry for "every registry".
const DEFAULT: [&str; 6] = [
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "mcr.microsoft.com",
    "quay.io",
    "registry.k8s.io",
];

/// What setup would do.
pub(crate) fn plan(context: &Context<'_>) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let folder = folder(context)?;
    let main = context.at(MAIN);
    let mut entries = Vec::new();
    for path in std::iter::once(main.clone()).chain(drop_ins(&folder)) {
        entries.extend(read(&path)?);
    }
    let default: Vec<Wanted> = DEFAULT
        .iter()
        .map(|name| Wanted::of(name))
        .collect::<Result<_, _>>()?;
    let wanted = match context.wanted {
        [] => default.as_slice(),
        wanted => wanted,
    };
    for wanted in wanted {
        let name = wanted.registry.as_str();
        let path = folder.join(format!("{PREFIX}{}.conf", name.replace(':', "_")));
        let others = || entries.iter().filter(|entry| !entry.is_ours());
        let theirs = others().rfind(|entry| entry.prefix == name);
        plan.put(files::target(&path)?, drop_in(context, wanted, theirs))?;
        for entry in others() {
            if entry.prefix.starts_with(&format!("{name}/")) {
                plan.trap(
                    format!(
                        "{} has an own entry for {}, which counts for those images: they go past the node",
                        entry.path.display(),
                        entry.prefix
                    ),
                    "add the node to it as first [[registry.mirror]]",
                );
            }
            if entry.prefix == name && entry.path > path && entry.path.parent() == path.parent() {
                plan.trap(
                    format!(
                        "{} is read after {} and replaces it",
                        entry.path.display(),
                        path.display()
                    ),
                    "give that file a name that sorts before zz-darner",
                );
            }
        }
    }
    plan.after.push(
        "podman, skopeo and buildah read these files at every pull: nothing to restart or reload (a running `podman system service` reads them at its next start)"
            .to_owned(),
    );
    Ok(plan)
}

/// An existing `[[registry]]`.
struct Entry {
    path: PathBuf,
    prefix: String,
    table: Table,
}

impl Entry {
    fn is_ours(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(PREFIX)
    }
}

fn folder(context: &Context<'_>) -> Result<PathBuf, Failure> {
    if let Some(folder) = context.config_path {
        return Ok(folder.to_owned());
    }
    let real_root = context.root == Path::new("/");
    if !real_root || rustix::process::geteuid().is_root() {
        return Ok(context.at(DROP_INS));
    }
    // A user's own podman reads the user's drop-ins after the system's.
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    config
        .filter(|path| path.is_absolute())
        .or(home)
        .map_or_else(
            || {
                Err(
                    Failure::new("there is no home folder to find podman's configuration in")
                        .hint("name its folder with --config-path"),
                )
            },
            |config| Ok(config.join("containers/registries.conf.d")),
        )
}

fn drop_ins(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<Vec<Entry>, Failure> {
    let Some(text) = files::read_text(path)? else {
        return Ok(Vec::new());
    };
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        Failure::new(format!(
            "{} cannot be understood: {}",
            path.display(),
            error.message().lines().next().unwrap_or("")
        ))
        .hint("podman cannot pull with it either; repair it first")
    })?;
    if table.contains_key("registries") {
        return Err(Failure::new(format!(
            "{} is in the old form ([registries.search]), which cannot hold mirrors",
            path.display()
        ))
        .hint("rewrite it with unqualified-search-registries and [[registry]] tables"));
    }
    let registries = table.get("registry").and_then(Value::as_array);
    let entries = registries.into_iter().flatten().filter_map(|value| {
        let table = value.as_table()?.clone();
        let prefix = table.get("prefix").or(table.get("location"))?.as_str()?;
        Some(Entry {
            path: path.to_owned(),
            prefix: prefix.to_owned(),
            table,
        })
    });
    Ok(entries.collect())
}

fn drop_in(context: &Context<'_>, wanted: &Wanted, theirs: Option<&Entry>) -> String {
    let name = wanted.registry.as_str();
    let mut text = String::from(
        "# Written by `darner setup podman`; `darner setup --undo podman` removes it.\n",
    );
    if let Some(entry) = theirs {
        text.push_str(&format!(
            "# Carries over what {} says.\n",
            entry.path.display()
        ));
    }
    text.push_str(&format!("[[registry]]\nprefix = {}\n", quote(name)));
    let named = wanted.server.as_deref().map(location);
    let own = theirs.map(|entry| &entry.table);
    let kept = own.and_then(|table| table.get("location"));
    let own_location = kept.and_then(Value::as_str);
    let place = named.map_or(own_location.unwrap_or(name), |(place, _)| place);
    text.push_str(&format!("location = {}\n", quote(place)));
    if named.is_some_and(|(_, plain)| plain) {
        text.push_str("insecure = true\n");
    }
    for (key, value) in own.into_iter().flatten() {
        let ours = matches!(key.as_str(), "prefix" | "location" | "mirror")
            || (key == "insecure" && named.is_some());
        if !ours {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    let authority = context.address.authority();
    let mirror = match name {
        "docker.io" => authority.to_owned(),
        name => format!("{authority}/{name}"),
    };
    text.push_str(&format!(
        "\n[[registry.mirror]]\nlocation = {}\ninsecure = true\n",
        quote(&mirror)
    ));
    let mirrors = own.and_then(|table| table.get("mirror")?.as_array());
    let mirrors = mirrors.into_iter().flatten().filter_map(Value::as_table);
    let is_node =
        |table: &&Table| table.get("location").and_then(Value::as_str) == Some(mirror.as_str());
    for mirror in mirrors.filter(|table| !is_node(table)) {
        text.push_str("\n[[registry.mirror]]\n");
        for (key, value) in mirror {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

/// A server's URL as a location, and whether it is plain http.
fn location(url: &str) -> (&str, bool) {
    match url.strip_prefix("http://") {
        Some(rest) => (rest.trim_end_matches('/'), true),
        None => (
            url.trim_start_matches("https://").trim_end_matches('/'),
            false,
        ),
    }
}
