//! One endpoint of a registry: whose rights are tried there, and what its answers mean.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, RANGE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use oci::client::{Client, Endpoint, Request, Response};
use swarm::FetchRange;

use super::account::Account;
use super::ask::{Answer, Ask, Identity, What};
use super::body::Body;
use super::credential::Credential;
use super::error::UpstreamError;
use super::realm::Realms;

/// Longest error body that is kept for relaying.
const ERROR_BODY_MAX: usize = 64 * 1024;

/// What an endpoint is made of.
pub(super) struct SiteOptions {
    pub(super) index: usize,
    pub(super) endpoint: Endpoint,
    pub(super) client: Arc<Client>,
    pub(super) realms: Arc<Realms>,
    pub(super) lends_credentials: bool,
    pub(super) blob_head: bool,
}

/// One endpoint with what was learnt about it.
pub(super) struct Site {
    options: SiteOptions,
}

impl Site {
    pub(super) fn new(options: SiteOptions) -> Self {
        Self { options }
    }

    pub(super) fn index(&self) -> usize {
        self.options.index
    }

    pub(super) async fn ask(
        &self,
        ask: &Ask,
        _account: Option<&Account>,
    ) -> Result<Answer, UpstreamError> {
        let anonymous = self.send(ask, None).await?;
        let denied = matches!(
            anonymous.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        );
        match &ask.credential {
            Credential::Client(secret) if denied && self.options.lends_credentials => {
                let response = self.send(ask, secret.header()).await?;
                self.judge(response, Identity::Client).await
            }
            _ => self.judge(anonymous, Identity::Anonymous).await,
        }
    }

    async fn send(
        &self,
        ask: &Ask,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, UpstreamError> {
        let mut headers = HeaderMap::new();
        for accept in &ask.accept {
            headers.append(ACCEPT, accept.clone());
        }
        if let Some(range) = &ask.range
            && let Some(value) = range_header(range)
        {
            headers.insert(RANGE, value);
        }
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value);
        }
        let request = Request {
            endpoint: &self.options.endpoint,
            method: ask.method.clone(),
            url: self.options.endpoint.url(&self.path(ask))?,
            headers,
            body: Bytes::new(),
        };
        Ok(self.options.client.send(request).await?)
    }

    fn path(&self, ask: &Ask) -> String {
        let prefix = self.options.endpoint.path();
        let repository = &ask.repository;
        let mut path = format!("/v2{prefix}/{repository}");
        let query = match &ask.what {
            What::Manifest(reference) => {
                path.push_str(&format!("/manifests/{reference}"));
                ""
            }
            What::Blob(digest) => {
                path.push_str(&format!("/blobs/{digest}"));
                ""
            }
            What::Tags { query } => {
                path.push_str("/tags/list");
                query
            }
            What::Referrers { digest, query } => {
                path.push_str(&format!("/referrers/{digest}"));
                query
            }
        };
        if !query.is_empty() {
            path.push('?');
            path.push_str(query);
        }
        path
    }

    async fn judge(&self, response: Response, identity: Identity) -> Result<Answer, UpstreamError> {
        let Response {
            status,
            headers,
            body,
            moved,
        } = response;
        let text = async |body: oci::client::Body| {
            let read = body.collect(ERROR_BODY_MAX).await;
            read.ok().flatten().unwrap_or_default()
        };
        match status {
            status if status.is_success() => Ok(Answer {
                status,
                headers,
                body: Body::new(body),
                endpoint: self.options.index,
                anonymous: identity != Identity::Client,
                identity,
            }),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(UpstreamError::NotFound {
                body: text(body).await,
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !moved => {
                Err(UpstreamError::Denied {
                    status,
                    challenge: headers.get_all(WWW_AUTHENTICATE).iter().cloned().collect(),
                    body: text(body).await,
                })
            }
            StatusCode::RANGE_NOT_SATISFIABLE => Err(UpstreamError::Unsatisfiable {
                total: unsatisfied_total(&headers),
            }),
            StatusCode::TOO_MANY_REQUESTS => Err(UpstreamError::Limited {
                retry_after: None,
                challenge: Vec::new(),
            }),
            status => Err(UpstreamError::Status(status)),
        }
    }
}

fn range_header(range: &FetchRange) -> Option<HeaderValue> {
    let text = match range {
        FetchRange::All => return None,
        FetchRange::From(start) => format!("bytes={start}-"),
        FetchRange::Span(span) => format!("bytes={}-{}", span.start, span.end.saturating_sub(1)),
        FetchRange::Last(count) => format!("bytes=-{count}"),
    };
    HeaderValue::try_from(text).ok()
}

/// The total of `Content-Range: bytes */total`.
fn unsatisfied_total(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes */")?.trim().parse().ok()
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.endpoint.fmt(f)
    }
}
