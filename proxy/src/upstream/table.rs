//! The closed table: from a registry's name to its upstream.
//!
//! Built once; an unknown name is `None` and nothing is resolved or dialled for it. Upstreams of
//! pattern entries are made when first asked for, a bounded number of them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use http::HeaderValue;
use oci::Registry;
use oci::client::{Client, ClientConfig, Endpoint, EndpointOptions, HostPort};
use quick_cache::sync::Cache;

use super::account::Account;
use super::ask::Upstream;
use super::config::{EndpointConfig, RegistryConfig, UpstreamsConfig};
use super::error::UpstreamConfigError;
use super::realm::Realms;
use super::site::{Site, SiteOptions};
use super::well_known::{self, WellKnown};
use crate::ratelimit::Bucket;

/// Most requests and, apart from them, most downloads of one upstream at one time: enough for a
/// node's pulls, few enough not to look like an attack.
const IN_FLIGHT_DEFAULT: usize = 64;
/// Upstreams kept for names that fit a pattern (accounts of one cloud).
const PATTERN_UPSTREAMS_MAX: usize = 256;

/// All registries of a node.
pub struct Upstreams {
    client: Arc<Client>,
    ratelimit: Option<Arc<Bucket>>,
    public: bool,
    fixed: HashMap<Registry, Arc<Upstream>>,
    from_patterns: Cache<Registry, Arc<Upstream>>,
    via: HeaderValue,
}

impl Upstreams {
    /// Checks the configuration and builds the table, with the system's TLS roots, forward proxies
    /// and resolver.
    pub fn build(config: &UpstreamsConfig) -> Result<Self, UpstreamConfigError> {
        Self::with_client(config, ClientConfig::system())
    }

    /// The same over a client of one's own.
    pub fn with_client(
        config: &UpstreamsConfig,
        client: ClientConfig,
    ) -> Result<Self, UpstreamConfigError> {
        let mut table = Self {
            client: Arc::new(Client::new(client)),
            ratelimit: config.ratelimit.map(|rate| Arc::new(Bucket::new(rate))),
            public: config.public,
            fixed: HashMap::new(),
            from_patterns: Cache::new(PATTERN_UPSTREAMS_MAX),
            via: via(),
        };
        for entry in &config.registries {
            let registry: Registry = entry
                .name
                .parse()
                .map_err(|_| UpstreamConfigError::Name(entry.name.clone()))?;
            let upstream = table.upstream(&registry, entry)?;
            if table.fixed.insert(registry, Arc::new(upstream)).is_some() {
                return Err(UpstreamConfigError::Twice(entry.name.clone()));
            }
        }
        Ok(table)
    }

    /// The upstream of a registry, or `None` if it is unknown.
    pub fn get(&self, registry: &Registry) -> Option<Arc<Upstream>> {
        if let Some(upstream) = self.fixed.get(registry) {
            return Some(upstream.clone());
        }
        self.well_known(registry)?;
        let make = || {
            let plain = RegistryConfig {
                name: registry.to_string(),
                ..RegistryConfig::default()
            };
            self.upstream(registry, &plain).map(Arc::new)
        };
        match self.from_patterns.get_or_insert_with(registry, make) {
            Ok(upstream) => Some(upstream),
            Err(error) => {
                tracing::error!(%registry, %error, "cannot set up a built-in registry");
                None
            }
        }
    }

    /// The `Via` line of every request to a registry: one that comes back with it has been here.
    pub fn via(&self) -> &HeaderValue {
        &self.via
    }

    /// The cap of all that the node downloads.
    pub(crate) fn ratelimit(&self) -> Option<Arc<Bucket>> {
        self.ratelimit.clone()
    }

    /// The registry that a host means, if it is in the table.
    pub fn knows(&self, host: &str) -> Option<Registry> {
        let registry: Registry = host.parse().ok()?;
        let known = self.fixed.contains_key(&registry) || self.well_known(&registry).is_some();
        known.then_some(registry)
    }

    /// The operator's own registries, for `status` and the set-up of clients.
    pub fn configured(&self) -> impl Iterator<Item = &Registry> {
        self.fixed.keys()
    }

    fn well_known(&self, registry: &Registry) -> Option<&'static WellKnown> {
        self.public
            .then(|| well_known::find(registry.as_str()))
            .flatten()
    }

    fn upstream(
        &self,
        registry: &Registry,
        entry: &RegistryConfig,
    ) -> Result<Upstream, UpstreamConfigError> {
        // A built-in name keeps its own host even where the built-in table is switched off.
        let built_in = well_known::find(registry.as_str());
        let default = EndpointConfig::at(format!(
            "https://{}",
            built_in.and_then(|w| w.host).unwrap_or(registry.as_str())
        ));
        let named = !entry.endpoints.is_empty() || built_in.is_none();
        let endpoints = if entry.endpoints.is_empty() {
            std::slice::from_ref(&default)
        } else {
            &entry.endpoints[..]
        };
        let allowed_hosts = host_ports(registry, &entry.allowed_hosts)?;
        let theirs = built_in.map_or(&[][..], |known| known.realms);
        let realms = Arc::new(Realms::new(registry, &entry.realms, theirs));
        let last = endpoints.len() - 1;
        let mut sites = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            sites.push(Site::new(SiteOptions {
                index,
                endpoint: Arc::new(self.endpoint(registry, endpoint, named, &allowed_hosts)?),
                client: self.client.clone(),
                realms: realms.clone(),
                lends_credentials: index == last || endpoint.trusted,
                blob_head: built_in.is_none_or(|w| w.blob_head),
                via: self.via.clone(),
            }));
        }
        let accounts = entry
            .accounts
            .iter()
            .map(|account| Account::new(registry, account))
            .collect::<Result<_, _>>()?;
        Ok(Upstream::new(
            registry.clone(),
            sites,
            accounts,
            entry.max_in_flight.unwrap_or(IN_FLIGHT_DEFAULT).max(1),
            self.ratelimit.clone(),
        ))
    }

    fn endpoint(
        &self,
        registry: &Registry,
        config: &EndpointConfig,
        named: bool,
        allowed_hosts: &[HostPort],
    ) -> Result<Endpoint, UpstreamConfigError> {
        let ca_pem = match &config.ca {
            None => None,
            Some(path) => {
                Some(
                    std::fs::read(path).map_err(|source| UpstreamConfigError::File {
                        registry: registry.to_string(),
                        path: path.display().to_string(),
                        source,
                    })?,
                )
            }
        };
        let options = EndpointOptions {
            named,
            allowed_hosts: allowed_hosts.to_vec(),
            ca_pem,
            insecure_skip_verify: config.insecure_skip_verify,
        };
        self.client
            .endpoint(&config.url, options)
            .map_err(|source| UpstreamConfigError::Endpoint {
                registry: registry.to_string(),
                source,
            })
    }
}

/// A name that no other node has (RFC 9110, 7.6.3: a pseudonym).
fn via() -> HeaderValue {
    let name = RandomState::new().hash_one("the name of a node");
    let line = HeaderValue::try_from(format!("1.1 darner-{name:016x}"));
    line.expect("hex digits are a header value")
}

fn host_ports(registry: &Registry, texts: &[String]) -> Result<Vec<HostPort>, UpstreamConfigError> {
    let parse = |text: &String| {
        let parsed = text
            .rsplit_once(':')
            .and_then(|(host, port)| Some(HostPort::new(host, port.parse().ok()?)))
            .filter(|at| !at.host.is_empty() && !at.host.contains('/'));
        parsed.ok_or_else(|| UpstreamConfigError::Entry {
            registry: registry.to_string(),
            why: format!("`{text}` in `allowed-hosts` is not `host:port`"),
        })
    };
    texts.iter().map(parse).collect()
}
