//! Requests to a registry under test, made by hand on a socket, and every exchange recorded.
//!
//! HTTP libraries mend what they get: they join headers, follow redirects, hide how a connection
//! ended. Nothing is mended here. One connection per request unless a check keeps one; a deadline
//! on every wait; a failure is a [`Trouble`], never a panic.

mod auth;
mod challenge;
mod record;
mod request;
mod site;
mod wire;

use std::net::IpAddr;
use std::time::Duration;

use crate::stage::content::ANY_MANIFEST;
pub use challenge::{Challenge, challenges};

pub use record::{Exchange, Log};
pub use request::{Body, Request};
pub use site::Site;
pub use wire::{Connection, Ending, Head, Response, Trouble};

/// Longest wait for the next bytes, when nothing else is said.
pub const WAIT: Duration = Duration::from_secs(30);

/// Asks one registry and keeps a record.
#[derive(Clone, Debug)]
pub struct Client {
    site: Site,
    log: Log,
    account: Option<auth::Account>,
    /// `ns` for pull operations.
    namespace: Option<String>,
    /// Its own address; the system's choice if there is none.
    from: Option<IpAddr>,
}

impl Client {
    /// A client of the registry at `site`, without credentials.
    pub fn new(site: Site) -> Self {
        Self {
            site,
            log: Log::default(),
            account: None,
            namespace: None,
            from: None,
        }
    }

    /// Answers challenges from now on: with this user and password, or anonymously.
    #[must_use]
    pub fn with_account(mut self, login: Option<(String, String)>) -> Self {
        self.account = Some(auth::Account::new(login));
        self
    }

    /// Adds `ns=NAME` to what is asked by [`Self::get`] and [`Self::head`] under `/v2/`.
    #[must_use]
    pub fn with_namespace(mut self, name: Option<String>) -> Self {
        self.namespace = name;
        self
    }

    /// Asks from this address of the machine.
    #[must_use]
    pub fn with_source(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// Asks another registry, into the same record, without an account.
    #[must_use]
    pub fn at(&self, site: Site) -> Self {
        Self {
            site,
            account: None,
            ..self.clone()
        }
    }

    /// The same client with a record of its own.
    #[must_use]
    pub fn recording(&self) -> Self {
        Self {
            log: Log::default(),
            ..self.clone()
        }
    }

    /// Where it asks.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// What was said so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The `ns` that pull operations carry.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Begins a GET; `ns` is added if this client has one and the target has none.
    pub fn get(&self, target: &str) -> Request {
        self.request("GET", &self.named(target))
    }

    /// Begins a HEAD; `ns` as for [`Self::get`].
    pub fn head(&self, target: &str) -> Request {
        self.request("HEAD", &self.named(target))
    }

    /// Begins a request of any method as a container runtime does: with `ns` as for [`Self::get`],
    /// and for manifests with every type they may have, without which some registries find none.
    pub fn ask(&self, method: &str, target: &str) -> Request {
        let request = self.request(method, &self.named(target));
        if matches!(method, "GET" | "HEAD") && target.contains("/manifests/") {
            return request.header("Accept", ANY_MANIFEST);
        }
        request
    }

    /// Begins a request of any method for exactly this target: a path with its query, or, as a
    /// `Location` may have it, a whole URL.
    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.clone(), method, target)
    }

    /// Opens a connection for several requests, or for bytes that are no request.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn connect(&self) -> Result<Connection, Trouble> {
        Connection::open_from(&self.site, WAIT, self.from).await
    }

    /// Sends these very bytes on a connection of their own and takes what comes.
    ///
    /// # Errors
    /// If no head comes that can be read, or none in time.
    pub async fn raw(&self, bytes: &[u8]) -> Result<Response, Trouble> {
        let mut connection = self.connect().await?;
        let result = connection.exchange(bytes, false).await;
        self.log.add(Exchange::of_bytes(bytes, result.as_ref()));
        result
    }

    fn named(&self, target: &str) -> String {
        let Some(name) = &self.namespace else {
            return target.to_owned();
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !path.starts_with("/v2/") || query.split('&').any(|pair| pair.starts_with("ns=")) {
            return target.to_owned();
        }
        let sign = if query.is_empty() { "" } else { "&" };
        format!("{path}?{query}{sign}ns={name}")
    }
}
