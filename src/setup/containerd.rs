//! containerd: a `hosts.toml` per registry, or one in `_default` for all of them.
//!
//! It is read at every pull, so nothing needs a restart for it. Everything that keeps containerd
//! from reading it is silent; that is what most of the traps are about.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::setup::containerd_config::CriConfig;
use crate::setup::files;
use crate::setup::hosts::{Certificates, HostsFile, fresh, merged};
use crate::setup::plan::{Context, Plan, Wanted};

const CONFIG: &str = "/etc/containerd/config.toml";
const DEFAULT: &str = "_default";

/// What setup would do.
pub(crate) fn plan(context: &Context<'_>) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    let main = context.at(CONFIG);
    let config = CriConfig::read(&main, context.root)?;
    let folder = match context.config_path {
        Some(folder) => folder.to_owned(),
        None => {
            plan.traps = config.traps(&main, context.version);
            context.at(config.folder())
        }
    };
    if context.wanted.is_empty() {
        let path = folder.join(DEFAULT).join("hosts.toml");
        put_hosts(&mut plan, context, &path, None)?;
        hidden(&mut plan, context, &folder);
    }
    for wanted in context.wanted {
        let path = registry_folder(&folder, wanted.registry.as_str()).join("hosts.toml");
        put_hosts(&mut plan, context, &path, Some(wanted))?;
    }
    plan.after.push(
        "containerd reads hosts.toml at every pull: nothing to restart or reload for it".to_owned(),
    );
    plan.after.push(format!(
        "ctr does not read config_path: ctr images pull --hosts-dir {} NAME",
        folder.display()
    ));
    Ok(plan)
}

/// Plans one hosts.toml; also used for dockerd's folder of the same form.
pub(crate) fn put_hosts(
    plan: &mut Plan,
    context: &Context<'_>,
    path: &Path,
    wanted: Option<&Wanted>,
) -> Result<(), Failure> {
    let url = context.address.url();
    let path = files::target(path)?;
    let base = context.journal.base(&path)?;
    let file = match base.as_deref().map(HostsFile::parse).transpose() {
        Ok(file) => file,
        Err(unreadable) => {
            return Err(Failure::new(format!(
                "{}:{}: {}; containerd ignores such a file and asks the real registry",
                path.display(),
                unreadable.line,
                unreadable.why
            ))
            .hint("repair or remove it, then run darner setup again"));
        }
    };
    let (Some(text), Some(file)) = (base, file.filter(|file| !file.blank)) else {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let server = wanted.map(Wanted::server);
        let certificates = Certificates::of(folder);
        return plan.put(path, fresh(&url, server.as_deref(), &certificates));
    };
    plan.traps.extend(file.traps(&path, context.version));
    if file.leads_with(&url) {
        return plan.put(path, text);
    }
    match merged(&text, &url) {
        Some(text) => plan.put(path, text),
        None => Err(Failure::new(format!(
            "the node cannot be put in front of the hosts in {}",
            path.display()
        ))
        .hint(if file.names(&url) {
            format!("move the table [host.\"{url}\"] above the others, with capabilities = [\"pull\", \"resolve\"]")
        } else {
            format!("write each host as a table of its own, then run darner setup again; first of all [host.\"{url}\"]")
        })),
    }
}

/// The folder containerd looks into for a registry: with `_port_`, else literally.
pub(crate) fn registry_folder(folder: &Path, registry: &str) -> PathBuf {
    let literal = folder.join(registry);
    match registry.split_once(':') {
        Some((host, port)) => {
            let underscored = folder.join(format!("{host}_{port}_"));
            if underscored.is_dir() {
                underscored
            } else {
                literal
            }
        }
        None => literal,
    }
}

/// Folders of single registries, which containerd takes instead of `_default`.
fn hidden(plan: &mut Plan, context: &Context<'_>, folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != DEFAULT)
        .collect();
    names.sort();
    for name in names {
        let path = folder.join(&name).join("hosts.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let registry = registry_of(&name);
        match HostsFile::parse(&text) {
            Ok(file) if file.names(&context.address.url()) => {
                plan.traps.extend(file.traps(&path, context.version));
            }
            Ok(file) => {
                plan.trap(
                    format!(
                        "{} hides _default: pulls from {registry} go past the node",
                        folder.join(&name).display()
                    ),
                    format!("darner setup containerd --registry {registry}"),
                );
                plan.traps.extend(file.traps(&path, context.version));
            }
            Err(unreadable) => plan.trap(
                format!(
                    "{}:{}: {}; containerd ignores the file, and its folder hides _default: pulls from {registry} go past the node",
                    path.display(),
                    unreadable.line,
                    unreadable.why
                ),
                format!("repair it, then darner setup containerd --registry {registry}"),
            ),
        }
    }
}

/// `quay.io_443_` is `quay.io:443`.
fn registry_of(folder: &str) -> String {
    let ported = folder
        .strip_suffix('_')
        .and_then(|rest| rest.rsplit_once('_'));
    match ported {
        Some((host, port)) if port.parse::<u16>().is_ok() => format!("{host}:{port}"),
        _ => folder.to_owned(),
    }
}
