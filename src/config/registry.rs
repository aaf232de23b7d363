//! A registry of the operator's: `NAME=URL[,URL...]` from a flag or a variable, a table from the
//! file. Endpoints, what to trust, and the node's own account there.
//!
//! Invariant: a password never enters a type that prints it.

use std::fmt;
use std::path::PathBuf;

use oci::reference::Registry;

use crate::config::layer::Place;
use crate::failure::Failure;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where the node's own account for a registry comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccountSource {
    /// Written in the file.
    Password {
        /// The account's name.
        username: String,
        /// Its password or token.
        password: Secret,
    },
    /// The password is the content of a file.
    PasswordFile {
        /// The account's name.
        username: String,
        /// The file that holds the password.
        path: PathBuf,
    },
    /// `auths` or `credHelpers` of a docker `config.json`.
    DockerConfig(PathBuf),
    /// The program `docker-credential-<name>`.
    Helper(String),
}

/// An own account and what it may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Where user name and password come from.
    pub(crate) source: AccountSource,
    /// Repositories it is used for: `org/app`, `org/*`, `*`.
    pub(crate) repositories: Vec<String>,
}

/// One place where a registry is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `http[s]://host[:port][/path]`.
    pub(crate) url: String,
    /// Credentials go to the last endpoint, and to others only if they are trusted.
    pub(crate) trusted: bool,
    /// A file of certificates trusted beside the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Do not check the certificate.
    pub(crate) skip_verify: bool,
}

impl Endpoint {
    /// One about which nothing is said but where it is.
    pub(crate) fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }
}

/// What the operator says about one registry. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RegistrySettings {
    /// Asked in this order; empty: the registry itself.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The node's own accounts; the first whose repositories match is used.
    pub(crate) accounts: Vec<Account>,
    /// Token servers outside the registry's domain that may be given credentials.
    pub(crate) realms: Vec<String>,
    /// Hosts with private addresses that the registry may redirect to.
    pub(crate) allowed_hosts: Vec<String>,
    /// Most requests at a time.
    pub(crate) max_in_flight: Option<usize>,
}

impl RegistrySettings {
    /// Takes over what a later layer says and leaves the rest: a flag moves a registry's endpoints
    /// and keeps the account that only the file can hold.
    pub(crate) fn take(&mut self, later: Self) {
        fn over<T>(kept: &mut Vec<T>, later: Vec<T>) {
            if !later.is_empty() {
                *kept = later;
            }
        }
        over(&mut self.endpoints, later.endpoints);
        over(&mut self.accounts, later.accounts);
        over(&mut self.realms, later.realms);
        over(&mut self.allowed_hosts, later.allowed_hosts);
        self.max_in_flight = later.max_in_flight.or(self.max_in_flight);
    }
}

/// One source's word about one registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistryEntry {
    /// Which registry.
    pub(crate) name: Registry,
    /// What is said.
    pub(crate) settings: RegistrySettings,
}

impl RegistryEntry {
    /// `NAME=URL[,URL...]`.
    pub(crate) fn parse(text: &str, place: &Place) -> Result<Self, Failure> {
        let Some((name, urls)) = text.split_once('=') else {
            return Err(
                Failure::usage(format!("{place}: `{text}` is not NAME=URL[,URL...]")).hint(
                    "for example docker.io=https://mirror.example,https://registry-1.docker.io",
                ),
            );
        };
        let name = parse_name(name.trim(), place)?;
        let mut endpoints = Vec::new();
        for url in urls.split(',').map(str::trim) {
            check_endpoint(url, place)?;
            endpoints.push(Endpoint::at(url));
        }
        Ok(Self {
            name,
            settings: RegistrySettings {
                endpoints,
                ..RegistrySettings::default()
            },
        })
    }
}

/// A registry's name as clients write it.
pub(crate) fn parse_name(name: &str, place: &Place) -> Result<Registry, Failure> {
    name.parse().map_err(|_| {
        Failure::usage(format!("{place}: `{name}` is not a registry's name")).hint(
            "a registry is `host` or `host:port` as in image names: docker.io, quay.io, registry.lan:5000",
        )
    })
}

/// `http[s]://host[:port][/path]`, nothing else; the path prefixes the repositories.
pub(crate) fn check_endpoint(url: &str, place: &Place) -> Result<(), Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("{place}: `{url}` {why}"))
            .hint("an endpoint is http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]")
    };
    let uri: http::Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(wrong("is neither http nor https")),
        None => return Err(wrong("has no http:// or https://")),
    }
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("carries a user name").hint(
            "accounts belong in the file: [registry.\"NAME\".account] username = ..., password-file = ...",
        ));
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(wrong("carries a query or a fragment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::Key;

    const PLACE: Place = Place::Flag(Key::Registry);

    #[test]
    fn endpoints_keep_their_order() {
        let entry = RegistryEntry::parse(
            "docker.io=http://10.0.0.5:5000, https://registry-1.docker.io/hub",
            &PLACE,
        )
        .unwrap();
        assert_eq!(entry.name, Registry::docker_hub());
        assert_eq!(
            entry.settings.endpoints,
            [
                Endpoint::at("http://10.0.0.5:5000"),
                Endpoint::at("https://registry-1.docker.io/hub")
            ]
        );
    }

    #[test]
    fn a_broken_registry_says_what_is_wrong_with_it() {
        for text in [
            "docker.io",
            "=http://a",
            "docker.io=",
            "docker.io=ftp://a",
            "docker.io=a.example",
            "docker.io=https://user:pass@a.example",
            "docker.io=https://a.example?x=1",
            "docker.io=https://a.example#x",
            "do cker=https://a.example",
        ] {
            let failure = RegistryEntry::parse(text, &PLACE).unwrap_err();
            assert_eq!(failure.code(), 2, "{text}");
            assert!(failure.to_string().contains("--registry"), "{failure}");
        }
    }

    #[test]
    fn a_secret_has_no_text_form() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(..)");
    }
}
