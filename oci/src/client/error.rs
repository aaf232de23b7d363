//! Why a request to a registry gave no answer, told so that the caller can act.
//!
//! Only host names are printed, never a path or a query: presigned URLs are secrets.

/// Why there is no (whole) answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// We will not go there: address policy, downgrade to http, a form of URL that we do not follow.
    #[error("refused to contact {host}: {why}")]
    Refused {
        /// Where the request would have gone.
        host: String,
        /// Which rule forbids it.
        why: String,
    },
    /// Name resolution, dial, TLS or transport failed before the answer's head.
    #[error("cannot reach {host}: {why}")]
    Unreachable {
        /// Whom we tried to reach.
        host: String,
        /// The system's words.
        why: String,
    },
    /// A deadline passed.
    #[error("{host} took too long: {what}")]
    Stalled {
        /// Who is slow.
        host: String,
        /// Which deadline.
        what: &'static str,
    },
    /// The body ended before its length.
    #[error("{host} ended the body early: {why}")]
    Cut {
        /// Who cut.
        host: String,
        /// The transport's words.
        why: String,
    },
    /// The answer breaks the protocol: encoded, a redirect loop, a location that is no URL.
    #[error("wrong answer from {host}: {why}")]
    Invalid {
        /// Who answered.
        host: String,
        /// What is wrong.
        why: String,
    },
}

impl ClientError {
    pub(super) fn refused(host: impl ToString, why: impl ToString) -> Self {
        Self::Refused {
            host: host.to_string(),
            why: why.to_string(),
        }
    }

    pub(super) fn unreachable(host: impl ToString, why: impl ToString) -> Self {
        Self::Unreachable {
            host: host.to_string(),
            why: why.to_string(),
        }
    }

    pub(super) fn stalled(host: impl ToString, what: &'static str) -> Self {
        Self::Stalled {
            host: host.to_string(),
            what,
        }
    }

    pub(super) fn invalid(host: impl ToString, why: impl ToString) -> Self {
        Self::Invalid {
            host: host.to_string(),
            why: why.to_string(),
        }
    }
}

/// An error with its causes on one line; hyper and rustls hide the useful part below the top.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
