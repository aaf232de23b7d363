//! A registry of the operator's: `NAME=URL[,URL...]` from a flag or a variable, a table from the
//! file. The data itself is the node's own type.

use oci::reference::Registry;
use proxy::upstream::{EndpointConfig, RegistryConfig};

use crate::config::layer::Place;
use crate::failure::Failure;

/// Puts what a later layer says over `kept` and leaves the rest: a flag moves a registry's
/// endpoints and keeps the account that only the file can hold.
pub(crate) fn overlay(kept: &mut RegistryConfig, later: RegistryConfig) {
    fn over<T>(kept: &mut Vec<T>, later: Vec<T>) {
        if !later.is_empty() {
            *kept = later;
        }
    }
    kept.name = later.name;
    over(&mut kept.endpoints, later.endpoints);
    over(&mut kept.accounts, later.accounts);
    over(&mut kept.realms, later.realms);
    over(&mut kept.allowed_hosts, later.allowed_hosts);
    kept.max_in_flight = later.max_in_flight.or(kept.max_in_flight);
}

/// One source's word about one registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistryEntry {
    /// Which registry.
    pub(crate) name: Registry,
    /// What is said.
    pub(crate) config: RegistryConfig,
}

impl RegistryEntry {
    /// `NAME=URL[,URL...]`.
    pub(crate) fn parse(text: &str, place: &Place) -> Result<Self, Failure> {
        let Some((name, urls)) = text.split_once('=') else {
            return Err(Failure::usage(format!(
                "{place}: `{}` is not NAME=URL[,URL...]",
                shown(text)
            ))
            .hint("for example docker.io=https://mirror.example,https://registry-1.docker.io"));
        };
        let name = parse_name(name.trim(), place)?;
        let mut endpoints = Vec::new();
        for url in urls.split(',').map(str::trim) {
            check_endpoint(url, place)?;
            endpoints.push(EndpointConfig::at(url));
        }
        let config = RegistryConfig {
            name: name.to_string(),
            endpoints,
            ..RegistryConfig::default()
        };
        Ok(Self { name, config })
    }
}

/// A registry's name as clients write it.
pub(crate) fn parse_name(name: &str, place: &Place) -> Result<Registry, Failure> {
    name.parse().map_err(|_| {
        Failure::usage(format!("{place}: `{}` is not a registry's name", shown(name))).hint(
            "a registry is `host` or `host:port` as in image names: docker.io, quay.io, registry.lan:5000",
        )
    })
}

/// `http[s]://host[:port][/path]`, nothing else; the path prefixes the repositories.
pub(crate) fn check_endpoint(url: &str, place: &Place) -> Result<(), Failure> {
    let wrong = |why: &str| {
        Failure::usage(format!("{place}: `{}` {why}", shown(url)))
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

/// A text without what stands before an `@`: it may be a password.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, after)) => format!("...@{after}"),
        None => text.to_owned(),
    }
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
            entry.config.endpoints,
            [
                EndpointConfig::at("http://10.0.0.5:5000"),
                EndpointConfig::at("https://registry-1.docker.io/hub")
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
            "docker.io=https://user:hunter2@a.example",
            "docker.io=https://a.example?x=1",
            "docker.io=https://a.example#x",
            "do cker=https://a.example",
        ] {
            let failure = RegistryEntry::parse(text, &PLACE).unwrap_err();
            assert_eq!(failure.code(), 2, "{text}");
            assert!(failure.to_string().contains("--registry"), "{failure}");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
    }
}
