//! Errors become responses, here and nowhere else.
//!
//! A refusal is a status, one of the specification's codes, a sentence, and the headers that clients
//! act on. It is cheap to clone, so that those who waited for one question share its answer. What
//! it says never names an address, a token or a URL: those are in our log only.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use oci::error::{ErrorCode, OciError};
use swarm::{Fault, ReadError, SourceError};

use crate::access::{Answered, Body};
use crate::upstream::{UpstreamError, Written};

/// Longest message of a registry's that is told to a client, in bytes.
const MESSAGE_MAX: usize = 1024;

/// What was asked for; decides how its absence is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A manifest, or a list of those that refer to it.
    Manifest,
    /// A blob.
    Blob,
    /// A repository's tags.
    Tags,
    /// An upload.
    Upload,
    /// A blob that is to be deleted.
    Deletion,
}

impl Kind {
    fn unknown(self) -> ErrorCode {
        match self {
            Self::Manifest => ErrorCode::ManifestUnknown,
            Self::Blob => ErrorCode::BlobUnknown,
            Self::Tags => ErrorCode::NameUnknown,
            Self::Upload => ErrorCode::BlobUploadUnknown,
            Self::Deletion => ErrorCode::BlobUnknown,
        }
    }

    /// Of a request that upstream calls wrong without saying why.
    fn wrong(self) -> ErrorCode {
        match self {
            Self::Manifest => ErrorCode::ManifestInvalid,
            Self::Blob | Self::Deletion => ErrorCode::DigestInvalid,
            Self::Tags => ErrorCode::NameInvalid,
            Self::Upload => ErrorCode::BlobUploadInvalid,
        }
    }
}

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: ErrorCode,
    message: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    fn new(status: StatusCode, code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status, for logs.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What it says, for logs and for those who ask without HTTP.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The request itself is wrong.
    pub(crate) fn malformed(error: OciError) -> Self {
        Self::new(error.status, error.code, error.message)
    }

    /// A registry that is not in the table.
    pub(crate) fn unknown_registry() -> Self {
        let message = "this registry is not configured here";
        Self::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, message)
    }

    /// A method that the path does not have.
    pub(crate) fn method(allowed: &'static str) -> Self {
        let message = format!("this path takes {allowed}");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Unsupported,
            message,
        )
        .with(header::ALLOW, HeaderValue::from_static(allowed))
    }

    /// A write where none is wanted.
    pub(crate) fn read_only() -> Self {
        let message = "this mirror is read-only; push to the registry itself";
        Self {
            message: message.into(),
            ..Self::method("GET, HEAD")
        }
    }

    /// A manifest beyond the limit.
    pub(crate) fn too_large() -> Self {
        let message = "the manifest is larger than clients take";
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::SizeInvalid,
            message,
        )
    }

    /// A client that announced a body and does not send it.
    pub(crate) fn silent_client() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            ErrorCode::BlobUploadInvalid,
            "the body does not come",
        )
    }

    /// An upload that was not begun here, or too long ago.
    pub(crate) fn unknown_upload() -> Self {
        let message = "no such upload here; begin it anew";
        Self::new(StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown, message)
    }

    /// A path whose words are escaped.
    pub(crate) fn escaped_path() -> Self {
        let message = "the path's own words must not be escaped";
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, message)
    }

    /// A query that no registry could answer within bounds.
    pub(crate) fn query(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
    }

    /// A path of the protocol that a mirror does not serve.
    pub(crate) fn unsupported() -> Self {
        let message = "not served by this mirror";
        Self::new(StatusCode::NOT_FOUND, ErrorCode::Unsupported, message)
    }

    /// A request that came from ourselves.
    pub(crate) fn looped() -> Self {
        let message = "this mirror is its own upstream; check the registry's URL";
        Self::new(StatusCode::LOOP_DETECTED, ErrorCode::Unsupported, message)
    }

    /// A range beyond the end of `total` bytes.
    pub(crate) fn unsatisfiable(total: u64) -> Self {
        let value = oci::range::content_range_unsatisfied(total);
        let value = HeaderValue::try_from(value).expect("digits are a header value");
        let message = "the range lies beyond the end";
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            ErrorCode::SizeInvalid,
            message,
        )
        .with(header::CONTENT_RANGE, value)
    }

    /// Upstream's answer is not what was asked for.
    pub(crate) fn invalid(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        match kind {
            // A 5xx on a layer makes dockerd wait for 75 s; a 404 sends it upstream at once.
            Kind::Blob => Self::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, message),
            Kind::Manifest | Kind::Tags | Kind::Upload | Kind::Deletion => {
                Self::new(StatusCode::BAD_GATEWAY, ErrorCode::Unavailable, message)
            }
        }
    }

    /// It is not there.
    pub(crate) fn unknown(kind: Kind) -> Self {
        let message = match kind {
            Kind::Manifest => "manifest unknown to the registry",
            Kind::Blob | Kind::Deletion => "blob unknown to the registry",
            Kind::Upload => "upload unknown to the registry",
            Kind::Tags => "repository unknown to the registry",
        };
        Self::new(StatusCode::NOT_FOUND, kind.unknown(), message)
    }

    /// What upstream said, told to the client.
    pub(crate) fn upstream(kind: Kind, error: &UpstreamError) -> Self {
        match error {
            UpstreamError::NotFound { .. } => Self::unknown(kind),
            UpstreamError::Denied {
                status, challenge, ..
            } => Self::denied(*status, challenge),
            UpstreamError::Limited { retry_after, .. } => Self::limited(*retry_after),
            UpstreamError::Unsatisfiable { total: Some(total) } => Self::unsatisfiable(*total),
            UpstreamError::Status(status) if status.is_client_error() => {
                Self::new(*status, kind.unknown(), "the registry refuses this request")
            }
            UpstreamError::Stalled { .. } => Self::away(
                kind,
                StatusCode::GATEWAY_TIMEOUT,
                "the registry does not answer in time",
            ),
            UpstreamError::Status(status) => {
                let message = format!("the registry answered {}", status.as_u16());
                Self::away(kind, StatusCode::BAD_GATEWAY, message)
            }
            UpstreamError::Unreachable { .. } => Self::away(
                kind,
                StatusCode::BAD_GATEWAY,
                "the registry cannot be reached",
            ),
            UpstreamError::Refused { .. } => Self::away(
                kind,
                StatusCode::BAD_GATEWAY,
                "the registry leads to a place that is not allowed",
            ),
            UpstreamError::Invalid { .. } | UpstreamError::Unsatisfiable { total: None } => {
                Self::invalid(kind, "the registry's answer makes no sense")
            }
        }
    }

    /// What upstream said to a write that it did not take, with further headers for the client.
    /// Its code and message are kept where the specification knows the code.
    pub(crate) fn written(kind: Kind, written: &Written, headers: HeaderMap) -> Self {
        let status = written.status;
        let mut refusal = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Self::denied(status, &written.challenge)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = written.headers.get(header::RETRY_AFTER).cloned();
                let refusal = Self::limited(None);
                match wait {
                    Some(wait) => refusal.with(header::RETRY_AFTER, wait),
                    None => refusal,
                }
            }
            status if status.is_client_error() => {
                let code = match status {
                    StatusCode::NOT_FOUND | StatusCode::GONE => kind.unknown(),
                    StatusCode::METHOD_NOT_ALLOWED => ErrorCode::Unsupported,
                    StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::SizeInvalid,
                    _ => kind.wrong(),
                };
                let (code, message) = match said(&written.body) {
                    Some((known, message)) => (known, Cow::Owned(message)),
                    None => (code, "the registry refuses this request".into()),
                };
                Self::new(status, code, message)
            }
            StatusCode::GATEWAY_TIMEOUT => {
                Self::away(kind, status, "the registry does not answer in time")
            }
            status if status.is_server_error() => {
                Self::upstream(kind, &UpstreamError::Status(status))
            }
            _ => Self::invalid(kind, "the registry's answer makes no sense"),
        };
        let lines = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        refusal.headers.extend(lines);
        refusal
    }

    fn away(kind: Kind, status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        let mut refusal = Self::invalid(kind, message);
        if kind != Kind::Blob {
            refusal.status = status;
        }
        refusal
    }

    /// 401 or 403 with upstream's challenge byte for byte.
    pub(crate) fn denied(status: StatusCode, challenge: &[HeaderValue]) -> Self {
        let (code, message) = match status {
            StatusCode::UNAUTHORIZED => {
                (ErrorCode::Unauthorized, "the registry wants authentication")
            }
            _ => (ErrorCode::Denied, "the registry denies access"),
        };
        let lines = challenge.iter().cloned();
        let mut refusal = Self::new(status, code, message);
        refusal.headers = lines.map(|line| (header::WWW_AUTHENTICATE, line)).collect();
        refusal
    }

    fn limited(retry_after: Option<Duration>) -> Self {
        let refusal = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooManyRequests,
            "the registry limits requests",
        );
        match retry_after {
            Some(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                refusal.with(header::RETRY_AFTER, HeaderValue::from(seconds))
            }
            None => refusal,
        }
    }

    /// Why a blob cannot be read.
    pub(crate) fn blob(error: &ReadError) -> Self {
        let message = match error {
            ReadError::Unsatisfiable { total } => return Self::unsatisfiable(*total),
            ReadError::Source(error) => return Self::source(error),
            ReadError::WrongDigest => "the registry's bytes do not have this digest",
            ReadError::Storage(_) => "the mirror's storage failed",
            ReadError::ShutDown => "the mirror is shutting down",
        };
        Self::invalid(Kind::Blob, message)
    }

    fn source(error: &SourceError) -> Self {
        if let Some(cause) = upstream_cause(error) {
            return Self::upstream(Kind::Blob, cause);
        }
        match &error.fault {
            Fault::Limited { retry_after } => Self::limited(*retry_after),
            Fault::Unsatisfiable { total } => Self::unsatisfiable(*total),
            Fault::NotFound | Fault::Denied => Self::unknown(Kind::Blob),
            Fault::Unavailable(_) => Self::invalid(Kind::Blob, "no source can be reached"),
            Fault::Wrong(_) => Self::invalid(Kind::Blob, "the registry's answer makes no sense"),
        }
    }

    /// The answer; to a HEAD without its body.
    pub(crate) fn answer(&self, head: bool) -> Answered {
        let error = OciError::new(self.code, self.message.clone()).with_status(self.status);
        let json = Bytes::from(error.to_json());
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 4);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(OciError::CONTENT_TYPE),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(json.len()));
        Answered {
            status: self.status,
            headers,
            body: Body::of(json, head),
            source: None,
        }
    }
}

/// The first error of a registry's answer, if it has the specification's form and code.
fn said(body: &[u8]) -> Option<(ErrorCode, String)> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = document["errors"].get(0)?;
    let code = error["code"].as_str()?;
    let mut known = ErrorCode::ALL.into_iter();
    let code = known.find(|known| known.is_of_the_specification() && known.as_str() == code)?;
    let message = error["message"].as_str().unwrap_or_default();
    let end = message.floor_char_boundary(MESSAGE_MAX);
    Some((code, message[..end].to_owned()))
}

/// The upstream's own error behind a source's, if it has one.
pub(crate) fn upstream_cause(error: &SourceError) -> Option<&UpstreamError> {
    error.cause.as_ref()?.downcast_ref()
}
