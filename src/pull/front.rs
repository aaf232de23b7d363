//! The node's front door as a client of its own: manifests and blobs, and refusals as sentences.
//!
//! Invariant: no credentials are sent, so what comes is public or an account's of the node.
//! Deliberately not here: checking digests; who asks must.

use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Bytes;
use oci::client::{
    Client, ClientConfig, ClientError, Endpoint, EndpointOptions, Redirects, Request, Response,
    Timeouts,
};
use oci::media_type::ACCEPT_MANIFESTS;
use oci::{Digest, ImageName, Reference};

use crate::failure::Failure;

/// Clients reject larger manifests.
const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// A refusal is a short JSON.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// The node itself gives up on a registry sooner.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    head: Duration::from_secs(60),
    body_idle: Duration::from_secs(60),
};

/// A manifest as the node gave it, not yet checked.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// Under which type it was served.
    pub(crate) content_type: String,
    /// The document.
    pub(crate) bytes: Bytes,
}

/// The way to one image at a node.
pub(crate) struct Front {
    client: Client,
    endpoint: Endpoint,
    address: String,
    name: ImageName,
}

impl Front {
    /// The front door at `address`, for what `name` names.
    pub(crate) fn new(address: &str, name: &ImageName) -> Result<Self, Failure> {
        let client = Client::new(ClientConfig {
            timeouts: TIMEOUTS,
            ..ClientConfig::bare()
        });
        let options = EndpointOptions {
            named: true,
            ..EndpointOptions::default()
        };
        let wrong = || {
            Failure::usage(format!("--address: `{address}` is not HOST:PORT"))
                .hint("write the node's front door without a scheme: 127.0.0.1:65001")
        };
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if address.contains(['/', '@']) || !matches!(port, Some(Ok(1..))) {
            return Err(wrong());
        }
        let endpoint = client
            .endpoint(&format!("http://{address}"), options)
            .map_err(|_| wrong())?;
        Ok(Self {
            client,
            endpoint,
            address: address.to_owned(),
            name: name.clone(),
        })
    }

    /// The image that is asked for.
    pub(crate) fn name(&self) -> &ImageName {
        &self.name
    }

    /// A manifest; `None` if there is none of that name.
    pub(crate) async fn manifest(&self, by: &Reference) -> Result<Option<Manifest>, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPT_MANIFESTS));
        let mut response = self.get(&format!("manifests/{by}"), headers).await?;
        if response.status == StatusCode::NOT_FOUND {
            let said = Said::read(&mut response).await;
            return match said.code.as_str() {
                "MANIFEST_UNKNOWN" => Ok(None),
                _ => Err(self.refused(&self.name.to_string(), &response, &said)),
            };
        }
        if response.status != StatusCode::OK {
            let said = Said::read(&mut response).await;
            return Err(self.refused(&self.name.to_string(), &response, &said));
        }
        let content_type = response.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let body = response.body.collect(MANIFEST_BYTES_MAX).await;
        match body.map_err(|error| self.lost(&error))? {
            Some(bytes) => Ok(Some(Manifest {
                content_type,
                bytes,
            })),
            None => Err(Failure::new(format!(
                "the manifest {by} of {} is longer than 4 MiB",
                self.name
            ))
            .hint("no client takes such an image: it is not made by a registry's rules")),
        }
    }

    /// A blob's answer, whose body is the whole of it.
    pub(crate) async fn blob(&self, digest: &Digest) -> Result<Response, Failure> {
        let path = format!("blobs/{digest}");
        let mut response = self.get(&path, HeaderMap::new()).await?;
        if response.status == StatusCode::OK {
            return Ok(response);
        }
        let said = Said::read(&mut response).await;
        let place = format!("{}/{}", self.name.registry, self.name.repository);
        let what = format!("blob {} of {place}", digest.short());
        Err(self.refused(&what, &response, &said))
    }

    async fn get(&self, path: &str, headers: HeaderMap) -> Result<Response, Failure> {
        let (registry, repository) = (&self.name.registry, &self.name.repository);
        let path = format!("/v2/{repository}/{path}?ns={registry}");
        let url = self
            .endpoint
            .url(&path)
            .map_err(|error| self.lost(&error))?;
        let request = Request {
            endpoint: &self.endpoint,
            method: Method::GET,
            url,
            headers,
            body: Bytes::new(),
            also_allowed: None,
            redirects: Redirects::Follow,
        };
        let answer = self.client.send(request).await;
        answer.map_err(|error| self.lost(&error))
    }

    /// There is no (whole) answer.
    pub(crate) fn lost(&self, error: &ClientError) -> Failure {
        let address = &self.address;
        match error {
            ClientError::Unreachable { why, .. } => Failure::new(format!(
                "no node answers on {address}: {why}"
            ))
            .hint("start one with `darner up`; if it listens elsewhere, name it with --address"),
            ClientError::Cut { .. } => Failure::new(format!(
                "the node ended what it sent before {} was whole",
                self.name
            ))
            .hint("its log says why; run this again, what has arrived is kept"),
            ClientError::Stalled { .. } => Failure::new(format!(
                "the node on {address} has stopped answering for {}",
                self.name
            ))
            .hint("its log says why; run this again, what has arrived is kept"),
            other => self.stranger(&other.to_string()),
        }
    }

    fn stranger(&self, why: &str) -> Failure {
        let address = &self.address;
        Failure::new(format!(
            "what answers on {address} is not a darner's front door: {why}"
        ))
        .hint("name the front door with --address; the node printed it when it started")
    }

    fn refused(&self, what: &str, response: &Response, said: &Said) -> Failure {
        let registry = &self.name.registry;
        let status = response.status;
        if said.code.is_empty() {
            return self.stranger(&format!("{status}"));
        }
        match (status, said.code.as_str()) {
            (StatusCode::NOT_FOUND, "NAME_UNKNOWN") => {
                Failure::new(format!("the node does not serve {registry}")).hint(format!(
                    "run it with --registry {registry}=https://{registry}"
                ))
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Failure::new(format!(
                "{what} cannot be had without credentials: {}",
                said.message
            ))
            .hint(format!(
                "it is private, misspelt, or {registry} limits what comes without an account; give \
                 the node one of yours: [registry.\"{registry}\".account] in its file"
            )),
            (StatusCode::NOT_FOUND, _) => {
                Failure::new(format!("{what} cannot be had: {}", said.message))
                    .hint("look at the name; if it is right, the node's log says why")
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                let wait = response.headers.get(RETRY_AFTER);
                let wait = wait.and_then(|value| value.to_str().ok());
                let when = wait.map_or_else(String::new, |s| format!(" in {s} s"));
                Failure::new(format!("{registry} limits how often this address may ask")).hint(
                    format!("try again{when}, or give the node an account of yours there"),
                )
            }
            (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, _) => Failure::new(format!(
                "{registry} gives no answer for {what}: {}",
                said.message
            ))
            .hint("the node's log says more; try again when the registry is back"),
            _ => Failure::new(format!(
                "the node refuses {what}: {status}, {}",
                said.message
            ))
            .hint("the node's log says why"),
        }
    }
}

/// An error as the protocol words it; empty if it is none.
#[derive(Debug, Default, serde::Deserialize)]
struct Said {
    code: String,
    #[serde(default)]
    message: String,
}

impl Said {
    async fn read(response: &mut Response) -> Self {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<Said>,
        }
        let body = std::mem::replace(&mut response.body, oci::client::Body::empty());
        let bytes = body.collect(REFUSAL_BYTES_MAX).await.ok().flatten();
        let errors: Option<Errors> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
        let first = errors.and_then(|all| all.errors.into_iter().next());
        first.unwrap_or_default()
    }
}
