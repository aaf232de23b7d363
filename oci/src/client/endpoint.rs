//! One place where a registry is served, with what the operator says about it.
//!
//! Invariant: connections made for one endpoint are never used for another, so its TLS settings and
//! its leave to dial private addresses cannot spread.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Uri;
use http::uri::Scheme;

use super::address::Named;
use super::error::ClientError;
use super::tls::{Roots, TlsError};

/// A host and a port: lower case, no brackets around IPv6, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl HostPort {
    /// Checks nothing; the forms are made equal so that comparing is enough.
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self {
            host: host.trim_end_matches('.').to_ascii_lowercase(),
            port,
        }
    }

    /// The host as an address, if it is written as one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Scheme, host and port: what credentials are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UrlOrigin {
    /// `https`, else `http`.
    pub tls: bool,
    /// Whom to dial.
    pub at: HostPort,
}

impl UrlOrigin {
    /// The origin of an absolute http or https URL without user info.
    pub fn of(url: &Uri) -> Result<Self, ClientError> {
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            return Err(ClientError::refused("(no host)", "the URL is not absolute"));
        };
        let host = authority.host();
        if authority.as_str().contains('@') {
            return Err(ClientError::refused(host, "the URL carries user info"));
        }
        let tls = if *scheme == Scheme::HTTPS {
            true
        } else if *scheme == Scheme::HTTP {
            false
        } else {
            return Err(ClientError::refused(host, "neither http nor https"));
        };
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            tls,
            at: HostPort::new(host, port),
        })
    }
}

/// What the operator says about an endpoint.
#[derive(Clone, Debug, Default)]
pub struct EndpointOptions {
    /// The operator wrote this URL (so it may lead to a private address); false for built-in ones.
    pub named: bool,
    /// Further hosts of this registry that may have private addresses: blob stores it redirects to,
    /// token servers.
    pub allowed_hosts: Vec<HostPort>,
    /// PEM certificates trusted besides the system's, for everything reached through this endpoint.
    pub ca_pem: Option<Vec<u8>>,
    /// Certificates of the endpoint's own host and of `allowed_hosts` are not verified.
    pub insecure_skip_verify: bool,
}

/// Why a URL cannot be an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not `http(s)://host[:port][/prefix]`.
    #[error("`{url}` is not a registry's URL: {why}")]
    Url {
        /// The text given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The CA file holds no certificate, or TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A place where a registry is served.
pub struct Endpoint {
    pub(super) id: u64,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) tls_unverified: Option<Arc<rustls::ClientConfig>>,
    origin: UrlOrigin,
    path: String,
    named: HashSet<HostPort>,
}

impl Endpoint {
    pub(super) fn build(
        url: &str,
        options: EndpointOptions,
        roots: &Roots,
    ) -> Result<Self, EndpointError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let wrong = |why| EndpointError::Url {
            url: without_user_info(url),
            why,
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it does not parse"))?;
        let origin = UrlOrigin::of(&uri)
            .map_err(|_| wrong("it must be http:// or https://, without user info"))?;
        if uri.query().is_some() {
            return Err(wrong("it must not have a query"));
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        let mut named: HashSet<HostPort> = options.allowed_hosts.into_iter().collect();
        if options.named {
            named.insert(origin.at.clone());
        }
        Ok(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            tls: roots.verifying(options.ca_pem.as_deref())?,
            tls_unverified: options
                .insecure_skip_verify
                .then(|| roots.unverified())
                .transpose()?,
            origin,
            path,
            named,
        })
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &UrlOrigin {
        &self.origin
    }

    /// The path of the operator's URL without a slash at its end; mostly empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The URL of `path_and_query` (which begins with a slash) at this host; the path of the
    /// operator's URL is not put before it.
    pub fn url(&self, path_and_query: &str) -> Result<Uri, ClientError> {
        // The authority becomes the Host header, where a default port makes some servers stumble.
        let (scheme, default_port) = if self.origin.tls {
            ("https", ":443")
        } else {
            ("http", ":80")
        };
        let authority = self.origin.at.to_string();
        Uri::builder()
            .scheme(scheme)
            .authority(authority.strip_suffix(default_port).unwrap_or(&authority))
            .path_and_query(path_and_query)
            .build()
            .map_err(|_| ClientError::refused(&self.origin.at, "the path is not a URL's"))
    }

    /// Whether the operator wrote this endpoint's URL.
    pub fn is_named(&self) -> bool {
        self.named.contains(&self.origin.at)
    }
}

/// An endpoint's leave for one request.
#[derive(Clone, Copy)]
pub(super) struct Policy<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// A host that the caller vouches for.
    pub(super) also: Option<&'a HostPort>,
}

impl Policy<'_> {
    fn covers(&self, at: &HostPort) -> bool {
        self.endpoint.named.contains(at) || self.also == Some(at)
    }

    /// How far the operator's word covers dialling `at`.
    pub(super) fn named(&self, at: &HostPort) -> Named {
        match (self.covers(at), at.address()) {
            (false, _) => Named::No,
            (true, None) => Named::ByName,
            (true, Some(_)) => Named::ByAddress,
        }
    }

    pub(super) fn tls_for(&self, at: &HostPort) -> Arc<rustls::ClientConfig> {
        let own = *at == self.endpoint.origin.at || self.covers(at);
        match &self.endpoint.tls_unverified {
            Some(unverified) if own => unverified.clone(),
            _ => self.endpoint.tls.clone(),
        }
    }
}

fn without_user_info(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}***{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.origin.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.origin.at, self.path)
    }
}
