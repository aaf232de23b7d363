//! Why an upstream gave no answer, told so that the front can say the truth or serve what it holds.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use oci::client::{ClientError, EndpointError};

/// What came of asking all endpoints of a registry.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It does not exist there (or the registry hides it).
    #[error("not found upstream")]
    NotFound {
        /// Upstream's error body, at most 64 KiB; empty if there was none worth relaying.
        body: Bytes,
    },
    /// The rights at hand do not suffice.
    #[error("upstream denied access with {status}")]
    Denied {
        /// 401 or 403.
        status: StatusCode,
        /// Upstream's `WWW-Authenticate` lines, byte for byte.
        challenge: Vec<HeaderValue>,
        /// Upstream's error body, at most 64 KiB.
        body: Bytes,
    },
    /// Too many requests; nothing is sent there before the time is over.
    #[error("upstream limits our requests")]
    Limited {
        /// What upstream asked for, or what is left of it.
        retry_after: Option<Duration>,
        /// Upstream's challenge if it is known: with credentials of its own a client may have more.
        challenge: Vec<HeaderValue>,
    },
    /// The range begins beyond the end.
    #[error("upstream cannot satisfy the range")]
    Unsatisfiable {
        /// Size of the whole blob if upstream said it.
        total: Option<u64>,
    },
    /// Any other status.
    #[error("upstream answered {0}")]
    Status(StatusCode),
    /// Nobody answers there.
    #[error("{why}")]
    Unreachable {
        /// Whom, and the system's words.
        why: String,
    },
    /// It answers too slowly.
    #[error("{why}")]
    Stalled {
        /// Who, and which deadline.
        why: String,
    },
    /// Our own policy forbids it (address, realm, redirect).
    #[error("{why}")]
    Refused {
        /// Where, and which rule.
        why: String,
    },
    /// The answer breaks the protocol.
    #[error("{why}")]
    Invalid {
        /// Who, and what is wrong.
        why: String,
    },
}

impl UpstreamError {
    pub(super) fn invalid(why: impl Into<String>) -> Self {
        Self::Invalid { why: why.into() }
    }
}

impl From<ClientError> for UpstreamError {
    fn from(error: ClientError) -> Self {
        let why = error.to_string();
        match error {
            ClientError::Refused { .. } => Self::Refused { why },
            ClientError::Unreachable { .. } | ClientError::Cut { .. } => Self::Unreachable { why },
            ClientError::Stalled { .. } => Self::Stalled { why },
            ClientError::Invalid { .. } => Self::Invalid { why },
        }
    }
}

/// Why the table of registries cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamConfigError {
    /// Not `host[:port]`.
    #[error("`{0}` is not a registry's name; it is `host` or `host:port`")]
    Name(String),
    /// Two entries have one name.
    #[error("registry {0} is configured twice")]
    Twice(String),
    /// An endpoint's URL or CA.
    #[error("registry {registry}: {source}")]
    Endpoint {
        /// Which one.
        registry: String,
        /// What is wrong.
        source: EndpointError,
    },
    /// A file that cannot be read.
    #[error("registry {registry}: cannot read {path}: {source}")]
    File {
        /// Which one.
        registry: String,
        /// The file.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// Anything else in an entry.
    #[error("registry {registry}: {why}")]
    Entry {
        /// Which one.
        registry: String,
        /// What is wrong, with a hint.
        why: String,
    },
}
