//! Which token servers belong to a registry.
//!
//! A challenge is a stranger's text: a realm is asked only if it lies in the registrable domain of
//! the registry or of the endpoint that sent it, or the operator listed it. Plain http only from a
//! registry that is plain http itself. A private address only under a registry that the operator
//! named (the client checks addresses; here it is decided whether we vouch for the realm's host).

use http::Uri;
use oci::Registry;
use oci::client::{Endpoint, HostPort, UrlOrigin};

use super::error::UpstreamError;

/// The token servers that one registry may name.
pub(super) struct Realms {
    registry: HostPort,
    allowed: Vec<Allowed>,
}

struct Allowed {
    host: String,
    port: Option<u16>,
    /// Said by the operator, and so good for a private address.
    by_operator: bool,
}

/// A realm that may be asked.
#[derive(Clone, Debug)]
pub(super) struct Realm {
    pub(super) url: Uri,
    /// Set if it may have a private address.
    pub(super) vouched: Option<HostPort>,
}

impl Realms {
    /// `allowed` are the operator's, `host` or `host:port`; `built_in` are hosts.
    pub(super) fn new(registry: &Registry, allowed: &[String], built_in: &[&str]) -> Self {
        let split = |text: &str| match text.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host.to_owned(), port.parse().ok()),
            _ => (text.to_owned(), None),
        };
        let (name, _) = split(registry.as_str());
        Self {
            registry: HostPort::new(&name, 0),
            allowed: allowed
                .iter()
                .map(|text| (text.as_str(), true))
                .chain(built_in.iter().map(|text| (*text, false)))
                .map(|(text, by_operator)| {
                    let (host, port) = split(text);
                    Allowed {
                        host: HostPort::new(&host, 0).host,
                        port,
                        by_operator,
                    }
                })
                .collect(),
        }
    }

    /// The realm of a challenge sent by `endpoint`, or why it is refused.
    pub(super) fn check(&self, endpoint: &Endpoint, realm: &str) -> Result<Realm, UpstreamError> {
        let refused = |why: &str| UpstreamError::Refused {
            why: format!("refused the token server of {endpoint:?}: {why}"),
        };
        let url: Uri = realm
            .parse()
            .map_err(|_| refused("its realm is not a URL"))?;
        let origin = UrlOrigin::of(&url).map_err(|e| refused(&e.to_string()))?;
        if endpoint.origin().tls && !origin.tls {
            return Err(refused("its realm is plain http"));
        }
        let own = &endpoint.origin().at;
        let listed = self.allowed.iter().find(|allowed| {
            allowed.host == origin.at.host && allowed.port.is_none_or(|port| port == origin.at.port)
        });
        let belongs = listed.is_some()
            || same_host(&origin.at, own)
            || same_domain(&origin.at, own)
            || same_domain(&origin.at, &self.registry);
        if !belongs {
            return Err(refused(&format!(
                "{} does not belong to it; if it is meant, list it in `realms`",
                origin.at
            )));
        }
        let by_operator = endpoint.is_named() || listed.is_some_and(|listed| listed.by_operator);
        let vouched = by_operator.then_some(origin.at);
        Ok(Realm { url, vouched })
    }
}

/// Whether two ports are of one host that we vouch for as a whole. The node's own machine is not: the
/// operator named one port of it, and others may be anything that trusts who is local.
fn same_host(realm: &HostPort, own: &HostPort) -> bool {
    let local = own.host == "localhost" || own.address().is_some_and(|ip| ip.is_loopback());
    realm.host == own.host && (realm.port == own.port || !local)
}

/// Whether two names share a registrable domain ("the public suffix and one label more").
fn same_domain(a: &HostPort, b: &HostPort) -> bool {
    if a.address().is_some() || b.address().is_some() {
        return false;
    }
    let domain = |at: &HostPort| psl::domain_str(&at.host).map(str::to_owned);
    domain(a).is_some_and(|domain_a| Some(domain_a) == domain(b))
}

#[cfg(test)]
mod tests {
    use oci::client::{Client, ClientConfig, EndpointOptions};

    use super::*;

    fn check(registry: &str, endpoint: &str, named: bool, realm: &str) -> Result<Realm, String> {
        let client = Client::new(ClientConfig::bare());
        let options = EndpointOptions {
            named,
            ..EndpointOptions::default()
        };
        let endpoint = client.endpoint(endpoint, options).unwrap();
        let allowed = [
            "sso.partner.example".to_owned(),
            "id.example:8443".to_owned(),
        ];
        Realms::new(&registry.parse().unwrap(), &allowed, &["token.example"])
            .check(&endpoint, realm)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn belongs() {
        for (registry, endpoint, realm) in [
            (
                "docker.io",
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
            ),
            (
                "docker.io",
                "https://mirror.example",
                "https://auth.docker.io/token",
            ),
            ("ghcr.io", "https://ghcr.io", "https://ghcr.io/token"),
            (
                "registry.gitlab.com",
                "https://registry.gitlab.com",
                "https://gitlab.com/jwt/auth",
            ),
            (
                "r.example",
                "https://r.example",
                "https://sso.partner.example/t",
            ),
            (
                "r.example",
                "https://r.example",
                "https://id.example:8443/t",
            ),
            ("r.example", "http://r.example", "http://auth.r.example/t"),
            ("x:5000", "http://10.0.0.5:5000", "http://10.0.0.5:5001/t"),
            ("x:5000", "http://127.0.0.1:5000", "http://127.0.0.1:5000/t"),
        ] {
            assert!(check(registry, endpoint, true, realm).is_ok(), "{realm}");
        }
    }

    #[test]
    fn does_not_belong() {
        for (endpoint, realm) in [
            ("https://r.example", "https://evil.test/t"),
            ("https://r.example", "http://r.example/t"),
            ("https://r.example", "https://127.0.0.1/t"),
            ("https://r.example", "https://id.example/t"),
            ("https://r.example", "https://r.example@evil.test/t"),
            ("https://r.example", "/token"),
            ("https://r.example", "file:///etc/passwd"),
            // Two tenants of one public suffix are strangers.
            ("https://a.github.io", "https://b.github.io/t"),
            ("http://10.0.0.5:5000", "http://10.0.0.6:5000/t"),
            // Another port of this machine is another service.
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t"),
            ("http://localhost:5000", "http://localhost:6443/t"),
            ("http://[::1]:5000", "http://[::1]:5001/t"),
        ] {
            assert!(check("r.test", endpoint, true, realm).is_err(), "{realm}");
        }
    }

    #[test]
    fn vouched_for_only_under_the_operator_s_own_registry() {
        let realm = "https://auth.docker.io/token";
        let vouched = |named| {
            check("docker.io", "https://registry-1.docker.io", named, realm).map(|r| r.vouched)
        };
        assert_eq!(vouched(false), Ok(None));
        assert_eq!(
            vouched(true),
            Ok(Some(HostPort::new("auth.docker.io", 443)))
        );
    }
}
