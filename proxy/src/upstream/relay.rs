//! Writing to a registry: one request with the client's own rights, or nobody's.
//!
//! Invariants: no account and no token of ours goes along; the registry's official endpoint (the
//! last one) is written to and no other; a redirect is not followed, since the body is sent once.
//! Where an upload goes on is said as a session of that endpoint, or as an address that upstream
//! chose, which the address policy is asked about when it is dialled, as for every redirect.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, VIA};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use oci::Repository;
use oci::client::{Redirects, Request, Upload, UrlOrigin, resolve_location};

use super::ask::{Upstream, place};
use super::credential::Credential;
use super::error::UpstreamError;
use super::request;
use super::site::{Site, text_of};

/// How long a registry may take to answer once it has the whole body: it may hash and move
/// gigabytes then. The client is free to leave before.
const ANSWER_WAIT: Duration = Duration::from_secs(600);

/// A request that may change a registry, or concerns an upload.
pub struct Write {
    /// Any.
    pub method: Method,
    /// In which repository, as the client names it.
    pub repository: Repository,
    /// Of what.
    pub to: To,
    /// Sent as they are.
    pub headers: HeaderMap,
    /// Sent as it is, but not to another host.
    pub credential: Credential,
    /// The body.
    pub body: Upload,
}

/// What is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// Path and query behind the repository: `manifests/latest`, `blobs/uploads/?digest=...`.
    Api(String),
    /// An address that this registry named, and nobody else.
    Named(Uri),
}

/// Where an upload goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// At the endpoint's own `blobs/uploads/` of this repository.
    Session {
        /// The last part of the path.
        id: String,
        /// Without `?`.
        query: String,
    },
    /// Anywhere else.
    Named(Uri),
}

/// The answer to a write.
#[derive(Debug)]
pub struct Written {
    /// Any.
    pub status: StatusCode,
    /// Upstream's headers.
    pub headers: HeaderMap,
    /// Upstream's words, at most 64 KiB.
    pub body: Bytes,
    /// What `Location` means.
    pub next: Option<Next>,
    /// The challenge to a 401.
    pub challenge: Vec<HeaderValue>,
}

impl Upstream {
    /// Sends a write to the registry's official endpoint. Any status is an answer.
    ///
    /// # Errors
    /// When there is no answer. Dropping the future ends the request.
    pub async fn write(&self, write: Write) -> Result<Written, UpstreamError> {
        let _writing = place(self.writing()).await?;
        match self.official() {
            Some(site) => site.write(write).await,
            None => Err(UpstreamError::Unreachable {
                why: format!("registry {} has no endpoint", self.registry()),
            }),
        }
    }
}

impl Site {
    async fn write(&self, write: Write) -> Result<Written, UpstreamError> {
        let repository = self.named(&write.repository);
        let url = match &write.to {
            To::Api(rest) => self.endpoint.url(&format!("/v2/{repository}/{rest}"))?,
            To::Named(url) => url.clone(),
        };
        let mut headers = write.headers;
        headers.insert(VIA, self.via.clone());
        if let Credential::Client(secret) = &write.credential
            && UrlOrigin::of(&url)? == *self.endpoint.origin()
            && let Some(value) = secret.header()
        {
            headers.insert(AUTHORIZATION, value);
        }
        let request = Request {
            endpoint: &self.endpoint,
            method: write.method,
            url: url.clone(),
            headers,
            body: Bytes::new(),
            also_allowed: None,
            redirects: Redirects::Passing(&|_| false),
        };
        let response = self.client.upload(request, write.body, ANSWER_WAIT).await?;
        let mut challenge = request::challenge_lines(&response.headers);
        if response.status == StatusCode::UNAUTHORIZED && challenge.is_empty() {
            challenge = self.challenge_of_ping().await;
        }
        let next = match response.headers.get(LOCATION) {
            Some(location) => Some(self.next(&url, location, &repository)?),
            None => None,
        };
        Ok(Written {
            status: response.status,
            headers: response.headers,
            body: text_of(response.body).await,
            next,
            challenge,
        })
    }

    /// What a `Location` means, seen from `asked`.
    fn next(
        &self,
        asked: &Uri,
        location: &HeaderValue,
        repository: &str,
    ) -> Result<Next, UpstreamError> {
        let wrong = || UpstreamError::invalid("its Location is no URL");
        let url = resolve_location(asked, location).ok_or_else(wrong)?;
        let (from, to) = (UrlOrigin::of(asked)?, UrlOrigin::of(&url)?);
        if from.tls && !to.tls {
            return Err(UpstreamError::Refused {
                why: format!("{} leads an upload from https to http", from.at),
            });
        }
        let session = || {
            let uploads = format!("/v2/{repository}/blobs/uploads/");
            let id = url.path().strip_prefix(&uploads)?;
            let query = url.query().unwrap_or_default();
            // `ns` is ours, and another's would be taken for it.
            let plain = is_plain(id) && oci::query::value(query, "ns").is_none();
            plain.then(|| Next::Session {
                id: id.to_owned(),
                query: query.to_owned(),
            })
        };
        let own = to == *self.endpoint.origin();
        let next = own.then(session).flatten();
        Ok(next.unwrap_or(Next::Named(url)))
    }
}

/// Whether a session's name is one part of a path that every client leaves as it is.
fn is_plain(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=');
    !id.is_empty() && id.bytes().all(plain) && !matches!(id, "." | "..")
}
