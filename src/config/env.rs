//! The `DARNER_*` variables. A variable nobody knows is a warning: Kubernetes puts
//! `DARNER_SERVICE_HOST` and the like into every pod beside a service named `darner`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::key::{Key, nearest};
use crate::config::layer::{Entry, Layer, Place};
use crate::config::registry::RegistryEntry;
use crate::failure::Failure;

const PREFIX: &str = "DARNER_";
/// The variable that names the file, as `--config` does.
const CONFIG: &str = "DARNER_CONFIG";

/// What the environment says.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// The settings.
    pub(crate) layer: Layer,
    /// `DARNER_CONFIG`.
    pub(crate) config: Option<PathBuf>,
    /// Sentences about variables that mean nothing.
    pub(crate) warnings: Vec<String>,
}

/// Reads the variables; those without the prefix are none of ours.
pub(crate) fn read(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Environment, Failure> {
    let mut environment = Environment::default();
    let mut ours: Vec<(String, OsString)> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    ours.sort();
    for (name, value) in ours {
        if name == CONFIG {
            environment.config = (!value.is_empty()).then(|| PathBuf::from(value));
            continue;
        }
        let Some(key) = Key::ALL.into_iter().find(|key| key.variable() == name) else {
            environment.warnings.push(unknown(&name));
            continue;
        };
        let value = value.into_string().map_err(|_| {
            Failure::usage(format!("{name} is not valid UTF-8"))
                .hint(format!("unset {name} or set it again"))
        })?;
        // An empty variable says nothing, as unit files and manifests use it to unset.
        if value.trim().is_empty() {
            continue;
        }
        add(&mut environment.layer, key, &value)?;
    }
    Ok(environment)
}

fn add(layer: &mut Layer, key: Key, value: &str) -> Result<(), Failure> {
    let place = Place::Variable(key);
    if key == Key::Registry {
        for text in value.split(';').map(str::trim).filter(|t| !t.is_empty()) {
            layer.registries.push(RegistryEntry::parse(text, &place)?);
        }
    } else {
        layer.entries.push(Entry {
            key,
            values: vec![value.to_owned()],
            place,
        });
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    let known: Vec<String> = Key::ALL
        .iter()
        .map(|key| key.variable())
        .chain([CONFIG.to_owned()])
        .collect();
    let bare = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let near = nearest(
        &bare(name),
        known.iter().map(|k| k.trim_start_matches(PREFIX)),
    );
    match near {
        Some(near) => {
            format!("the variable {name} means nothing here; did you mean {PREFIX}{near}?")
        }
        None => format!("the variable {name} means nothing here and is ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> Result<Environment, Failure> {
        read(pairs.iter().map(|(k, v)| (k.into(), v.into())))
    }

    #[test]
    fn variables_say_what_flags_say() {
        let environment = read_pairs(&[
            ("PATH", "/bin"),
            ("DARNER_CONFIG", "/etc/darner.toml"),
            ("DARNER_CACHE_SIZE", "5GiB"),
            ("DARNER_RATELIMIT", ""),
            (
                "DARNER_REGISTRY",
                "docker.io=http://a:1;quay.io=https://b,https://c;",
            ),
        ])
        .unwrap();
        assert_eq!(environment.config, Some("/etc/darner.toml".into()));
        assert_eq!(environment.layer.entries.len(), 1);
        assert_eq!(environment.layer.registries.len(), 2);
        assert!(environment.warnings.is_empty());
    }

    #[test]
    fn what_kubernetes_injects_is_a_warning() {
        let environment = read_pairs(&[
            ("DARNER_SERVICE_HOST", "10.0.0.1"),
            ("DARNER_CACHESIZE", "1G"),
        ])
        .unwrap();
        assert_eq!(
            environment.warnings,
            [
                "the variable DARNER_CACHESIZE means nothing here; did you mean DARNER_CACHE_SIZE?",
                "the variable DARNER_SERVICE_HOST means nothing here and is ignored",
            ]
        );
    }
}
