//! The TOML file: the same settings under the same names, and a table for each registry.
//!
//! Invariant: every refusal names file and line. A key nobody knows is refused with the nearest
//! right one, for a misspelt limit that is silently absent is worse than a start that fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxy::upstream::{AccountConfig, EndpointConfig, RegistryConfig, Secret};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::key::{Key, nearest};
use crate::config::layer::{Entry, Layer, Place};
use crate::config::registry::{RegistryEntry, check_endpoint, parse_name};
use crate::failure::Failure;

/// The file that is read when none is named and it exists.
pub(crate) const DEFAULT_PATH: &str = "/etc/darner/darner.toml";

const REGISTRY_KEYS: [&str; 7] = [
    "endpoints",
    "ca",
    "skip-verify",
    "account",
    "realms",
    "allowed-hosts",
    "max-in-flight",
];
const ENDPOINT_KEYS: [&str; 4] = ["url", "trusted", "ca", "skip-verify"];
const ACCOUNT_KEYS: [&str; 6] = [
    "repositories",
    "username",
    "password",
    "password-file",
    "docker-config",
    "credential-helper",
];

/// Reads the file at `path`.
pub(crate) fn read(path: &Path) -> Result<Layer, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    parse(&text, path)
}

/// Understands the file's text; `path` is for the messages and the folder that relative paths are
/// relative to.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Layer, Failure> {
    let file = File {
        text,
        path: Arc::new(path.to_owned()),
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = file.line(error.span().map_or(0, |span| span.start));
        let why = error.message().lines().next().unwrap_or("not TOML");
        Failure::usage(format!("{}:{line}: {why}", path.display()))
            .hint("the file is TOML: `key = \"value\"` lines, then [registry.\"NAME\"] tables")
    })?;
    let mut layer = Layer::default();
    for (name, value) in table.get_ref() {
        let place = file.place(name, name.get_ref());
        match Key::of(name.get_ref()) {
            Some(Key::Registry) => file.registries(value, &place, &mut layer)?,
            Some(key) => layer.entries.push(Entry {
                key,
                values: texts(value.get_ref(), &place)?,
                place,
            }),
            None => {
                let keys = Key::ALL.iter().map(|key| key.name());
                return Err(unknown_key(&place, name.get_ref(), keys));
            }
        }
    }
    Ok(layer)
}

struct File<'a> {
    text: &'a str,
    path: Arc<PathBuf>,
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn place<T>(&self, at: &Spanned<T>, key: &str) -> Place {
        Place::File {
            path: self.path.clone(),
            line: self.line(at.span().start),
            key: key.to_owned(),
        }
    }

    /// `[registry]`: each entry is one URL, several, or a table.
    fn registries(
        &self,
        value: &Spanned<DeValue<'_>>,
        place: &Place,
        layer: &mut Layer,
    ) -> Result<(), Failure> {
        let Some(table) = value.get_ref().as_table() else {
            return Err(Failure::usage(format!("{place} is not a table")).hint(
                "write [registry.\"docker.io\"] and below it endpoints = [\"https://...\"]",
            ));
        };
        for (name, value) in table {
            let place = self.place(name, &format!("registry.\"{}\"", name.get_ref()));
            let registry = parse_name(name.get_ref(), &place)?;
            let mut config = match value.get_ref() {
                DeValue::Table(table) => self.registry(table)?,
                value => RegistryConfig {
                    endpoints: self.endpoints(value, &place)?,
                    ..RegistryConfig::default()
                },
            };
            config.name = registry.to_string();
            layer.registries.push(RegistryEntry {
                name: registry,
                config,
            });
        }
        Ok(())
    }

    fn registry(&self, table: &DeTable<'_>) -> Result<RegistryConfig, Failure> {
        let mut settings = RegistryConfig::default();
        let (mut ca, mut skip_verify) = (None, false);
        for (name, spanned) in table {
            let place = self.place(name, name.get_ref());
            let value = spanned.get_ref();
            match name.get_ref().as_ref() {
                "endpoints" => settings.endpoints = self.endpoints(value, &place)?,
                "ca" => ca = Some(self.path_value(value, &place)?),
                "skip-verify" => skip_verify = flag(value, &place)?,
                "account" => settings.accounts = self.accounts(value, &place)?,
                "realms" => settings.realms = texts(value, &place)?,
                "allowed-hosts" => settings.allowed_hosts = texts(value, &place)?,
                "max-in-flight" => settings.max_in_flight = Some(count(value, &place)?),
                unknown => {
                    return Err(unknown_key(&place, unknown, REGISTRY_KEYS.into_iter()));
                }
            }
        }
        // Said for the registry, they hold for each of its endpoints that says nothing else.
        for endpoint in &mut settings.endpoints {
            endpoint.ca = endpoint.ca.take().or_else(|| ca.clone());
            endpoint.insecure_skip_verify |= skip_verify;
        }
        if settings.endpoints.is_empty() && (ca.is_some() || skip_verify) {
            let line = table
                .keys()
                .next()
                .map_or(1, |key| self.line(key.span().start));
            let path = self.path.display();
            return Err(Failure::usage(format!(
                "{path}:{line}: ca and skip-verify are about endpoints, and none is named"
            ))
            .hint("add endpoints = [\"https://...\"]"));
        }
        Ok(settings)
    }

    fn endpoints(
        &self,
        value: &DeValue<'_>,
        place: &Place,
    ) -> Result<Vec<EndpointConfig>, Failure> {
        let mut endpoints = Vec::new();
        for value in several(value) {
            let endpoint = match value {
                DeValue::Table(table) => self.endpoint(table)?,
                value => EndpointConfig::at(text(value, place)?),
            };
            check_endpoint(&endpoint.url, place)?;
            endpoints.push(endpoint);
        }
        Ok(endpoints)
    }

    fn endpoint(&self, table: &DeTable<'_>) -> Result<EndpointConfig, Failure> {
        let mut endpoint = EndpointConfig::default();
        for (name, value) in table {
            let place = self.place(name, name.get_ref());
            let value = value.get_ref();
            match name.get_ref().as_ref() {
                "url" => endpoint.url = text(value, &place)?,
                "trusted" => endpoint.trusted = flag(value, &place)?,
                "ca" => endpoint.ca = Some(self.path_value(value, &place)?),
                "skip-verify" => endpoint.insecure_skip_verify = flag(value, &place)?,
                unknown => {
                    return Err(unknown_key(&place, unknown, ENDPOINT_KEYS.into_iter()));
                }
            }
        }
        Ok(endpoint)
    }

    fn accounts(&self, value: &DeValue<'_>, place: &Place) -> Result<Vec<AccountConfig>, Failure> {
        let mut accounts = Vec::new();
        for value in several(value) {
            let table = value.as_table().ok_or_else(|| {
                Failure::usage(format!("{place} is not a table"))
                    .hint("write [registry.\"NAME\".account] and its keys below")
            })?;
            accounts.push(self.account(table, place)?);
        }
        Ok(accounts)
    }

    fn account(&self, table: &DeTable<'_>, whole: &Place) -> Result<AccountConfig, Failure> {
        let mut account = AccountConfig::default();
        for (name, value) in table {
            let place = self.place(name, name.get_ref());
            let value = value.get_ref();
            match name.get_ref().as_ref() {
                "repositories" => account.repositories = texts(value, &place)?,
                "username" => account.username = Some(text(value, &place)?),
                "password" => account.password = Some(Secret::new(text(value, &place)?)),
                "password-file" => account.password_file = Some(self.path_value(value, &place)?),
                "docker-config" => account.docker_config = Some(self.path_value(value, &place)?),
                "credential-helper" => account.credential_helper = Some(text(value, &place)?),
                unknown => {
                    return Err(unknown_key(&place, unknown, ACCOUNT_KEYS.into_iter()));
                }
            }
        }
        check_account(&account, whole)?;
        Ok(account)
    }

    fn path_value(&self, value: &DeValue<'_>, place: &Place) -> Result<PathBuf, Failure> {
        let path = PathBuf::from(text(value, place)?);
        let folder = self.path.parent().unwrap_or(Path::new(""));
        Ok(folder.join(path))
    }
}

/// One way to log in, and what for.
fn check_account(account: &AccountConfig, place: &Place) -> Result<(), Failure> {
    let passwords =
        usize::from(account.password.is_some()) + usize::from(account.password_file.is_some());
    let named = account.username.is_some();
    let ways = usize::from(named)
        + usize::from(account.docker_config.is_some())
        + usize::from(account.credential_helper.is_some());
    if ways != 1 || passwords != usize::from(named) {
        return Err(Failure::usage(format!("{place} does not say who to be")).hint(
            "give username with password or password-file, or docker-config, or credential-helper",
        ));
    }
    if account.repositories.is_empty() {
        return Err(
            Failure::usage(format!("{place} does not say which repositories it reads")).hint(
                "whoever reaches the port reads them with this account: repositories = [\"org/*\"]",
            ),
        );
    }
    Ok(())
}

/// A value that may be one or several.
fn several<'a, 'i>(value: &'a DeValue<'i>) -> Vec<&'a DeValue<'i>> {
    match value {
        DeValue::Array(values) => values.iter().map(|value| value.get_ref()).collect(),
        value => vec![value],
    }
}

fn texts(value: &DeValue<'_>, place: &Place) -> Result<Vec<String>, Failure> {
    let values = several(value).into_iter();
    values.map(|value| text(value, place)).collect()
}

fn count(value: &DeValue<'_>, place: &Place) -> Result<usize, Failure> {
    let number = text(value, place)?.parse().ok();
    number.filter(|number| *number > 0).ok_or_else(|| {
        Failure::usage(format!("{place} is not a number above 0")).hint("for example 64")
    })
}

fn text(value: &DeValue<'_>, place: &Place) -> Result<String, Failure> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        other => Err(Failure::usage(format!(
            "{place} is {} where a text belongs",
            article(other.type_str())
        ))
        .hint("put the value in quotes")),
    }
}

fn flag(value: &DeValue<'_>, place: &Place) -> Result<bool, Failure> {
    value
        .as_bool()
        .ok_or_else(|| Failure::usage(format!("{place} is neither true nor false")))
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn unknown_key<'a>(
    place: &Place,
    name: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Failure {
    let failure = Failure::usage(format!("{place} is not a setting"));
    match nearest(name, candidates.clone()) {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => {
            let names: Vec<&str> = candidates.collect();
            failure.hint(format!("the settings are {}", names.join(", ")))
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let failure = |why: &str| Failure::usage(format!("the configuration {} {why}", path.display()));
    match error.kind() {
        io::ErrorKind::NotFound => failure("does not exist")
            .hint("darner needs no file: leave --config and DARNER_CONFIG away, or write one with `darner up --check > FILE`"),
        io::ErrorKind::PermissionDenied => {
            failure("may not be read").hint("give the user that runs darner the right to read it")
        }
        io::ErrorKind::InvalidData => {
            failure("is not UTF-8 text").hint("the file is TOML in UTF-8")
        }
        _ => failure(&format!("cannot be read: {error}")).hint("name another file with --config"),
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
