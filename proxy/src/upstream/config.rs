//! What the operator may say about registries: plain data.
//!
//! Read from flags, variables and the file by the command (whose keys have hyphens), checked in
//! `Upstreams::build`.

use std::path::PathBuf;

use super::credential::Secret;

/// All registries of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamsConfig {
    /// Whether the built-in table of public registries is used; without it only `registries` exist.
    pub public: bool,
    /// The operator's registries. One with the name of a built-in one replaces what it sets.
    pub registries: Vec<RegistryConfig>,
    /// Bytes per second that the node downloads from all upstreams together.
    pub ratelimit: Option<u64>,
}

impl Default for UpstreamsConfig {
    fn default() -> Self {
        Self {
            public: true,
            registries: Vec::new(),
            ratelimit: None,
        }
    }
}

/// One registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// What clients call it: `docker.io`, `registry.example:5000`.
    pub name: String,
    /// Where it is served, in the order in which they are asked. Empty: the built-in one for a
    /// well-known name, else `https://<name>`.
    pub endpoints: Vec<EndpointConfig>,
    /// Own accounts; the first whose `repositories` match is used.
    pub accounts: Vec<AccountConfig>,
    /// Hosts (`host` or `host:port`) of token servers outside the registry's own domain that may be
    /// given credentials.
    pub realms: Vec<String>,
    /// Hosts (`host:port`) with private addresses that the registry may redirect to or name as its
    /// token server.
    pub allowed_hosts: Vec<String>,
    /// Most requests, and apart from them most downloads, at one time; 64 if not set.
    pub max_in_flight: Option<usize>,
}

/// One place where a registry is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointConfig {
    /// `http(s)://host[:port][/prefix]`; the prefix goes before the repository.
    pub url: String,
    /// Credentials (a client's or an account's) go to the last endpoint, and to others only if they
    /// are trusted.
    pub trusted: bool,
    /// A PEM file of certificates trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// Do not verify the certificate of this host.
    pub insecure_skip_verify: bool,
}

impl EndpointConfig {
    /// An endpoint about which nothing is said but where it is.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }
}

/// An account of the node's operator. Exactly one of `username`, `docker_config` and
/// `credential_helper` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountConfig {
    /// Which repositories are read with it: names in which `*` stands for any characters but `/`
    /// and `**` for any. Whoever reaches the node's port has the account's rights there.
    pub repositories: Vec<String>,
    /// With `password` or `password_file`.
    pub username: Option<String>,
    /// Better kept in a file.
    pub password: Option<Secret>,
    /// A file with the password on its first line.
    pub password_file: Option<PathBuf>,
    /// A docker `config.json` (`auths`, `credHelpers`, `credsStore`) or podman's `auth.json`.
    pub docker_config: Option<PathBuf>,
    /// `X`, for the command `docker-credential-X`.
    pub credential_helper: Option<String>,
}
