//! Where bytes come from: one trait for an upstream registry, a supernode and a peer.
//!
//! All three answer "GET this blob, from this offset", so a flight can switch between them at any
//! byte. A source carries its own rights: it is made for one reader's repository and credential and
//! must never be used to answer a reader who did not bring it or whose rights were not checked.
//! Not here: which source is asked when (the flight decides), and how HTTP is spoken (the proxy).

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use oci::Digest;

/// Kind of place that bytes come from, for accounting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A registry outside the swarm.
    Upstream,
    /// The supernode that owns the digest.
    Supernode,
    /// Another node.
    Peer,
}

impl Origin {
    /// Every origin, in the order in which counters print them.
    pub const ALL: [Self; 3] = [Self::Upstream, Self::Supernode, Self::Peer];

    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Supernode => "supernode",
            Self::Peer => "peer",
        }
    }
}

/// Somewhere a blob's bytes can be fetched from, with the rights of whoever brought it.
///
/// Retries inside a source (another endpoint, a fresh token) are fine before the answer's head; once
/// a body has begun, a source must end it with an error instead of hiding a cut: the flight resumes
/// at the offset it has reached.
pub trait PieceSource: Send + Sync + 'static {
    /// What kind of place this is.
    fn origin(&self) -> Origin;

    /// A short name for logs and metrics, without secrets.
    fn name(&self) -> &str;

    /// Asks for `range` of the blob. Resolves when the answer's head is in.
    ///
    /// Dropping the future or the body ends the request. The flight puts its own deadlines on both,
    /// so an implementation needs none for the whole, only for the steps it hides (dial, token).
    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>>;

    /// Bytes that a flight had from this source did not have the digest. A source with several
    /// places behind it should give the next reader another one's.
    fn doubt(&self, _digest: &Digest) {}
}

/// Which bytes are wanted, before or after the blob's size is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FetchRange {
    /// The whole blob, without a `Range` header.
    All,
    /// From this offset to the end.
    From(u64),
    /// These bytes; never empty.
    Span(Range<u64>),
    /// The last so many bytes (fewer if the blob is shorter).
    Last(u64),
}

impl FetchRange {
    /// The bytes meant, once the size is known; `None` where RFC 9110 says "not satisfiable".
    ///
    /// `All` of an empty blob is the one satisfiable empty range.
    pub fn resolve(&self, total: u64) -> Option<Range<u64>> {
        let range = match *self {
            Self::All => return Some(0..total),
            Self::From(start) => start..total,
            Self::Span(ref span) => span.start..span.end.min(total),
            Self::Last(count) => total.saturating_sub(count)..total,
        };
        (range.start < range.end).then_some(range)
    }
}

/// A successful answer.
pub struct Fetched {
    /// Size of the whole blob in bytes, not of this answer.
    pub total: u64,
    /// Offset of the body's first byte within the blob.
    pub start: u64,
    /// The bytes, in order. It ends after the last byte asked for; earlier is a cut, later a lie, and
    /// the flight treats both so even when the source does not notice.
    pub body: BoxStream<'static, Result<Bytes, SourceError>>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("total", &self.total)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// What a source knows beyond the fault, for the caller to downcast (a relayed challenge, say).
pub type Cause = Arc<dyn Error + Send + Sync + 'static>;

/// Why a source did not give the bytes.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{fault}")]
pub struct SourceError {
    /// What the flight acts on.
    pub fault: Fault,
    /// The source's own error, handed through untouched to a reader whose read never began.
    #[source]
    pub cause: Option<Cause>,
}

/// The faults that the flight treats differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The source does not have the blob. Another source may.
    #[error("not found")]
    NotFound,
    /// The source refuses with this reader's rights. Another reader's source may be allowed.
    #[error("denied")]
    Denied,
    /// Too many requests; not asked again before `retry_after`.
    #[error("rate limited")]
    Limited {
        /// How long the source asked us to wait, if it said.
        retry_after: Option<Duration>,
    },
    /// The range begins beyond the blob's end.
    #[error("range beyond the end of {total} bytes")]
    Unsatisfiable {
        /// Size of the whole blob in bytes.
        total: u64,
    },
    /// Transport error, 5xx, stall, cut: worth a try again, or elsewhere.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It lied: wrong length, the whole body for a range, an encoded body. Never asked again for
    /// this blob by this flight.
    #[error("wrong answer: {0}")]
    Wrong(String),
}

impl SourceError {
    /// An error that carries the source's own one.
    pub fn caused(fault: Fault, cause: impl Error + Send + Sync + 'static) -> Self {
        Self {
            fault,
            cause: Some(Arc::new(cause)),
        }
    }

    /// [`Fault::Unavailable`] without a cause.
    pub fn unavailable(why: impl Into<String>) -> Self {
        Fault::Unavailable(why.into()).into()
    }

    /// [`Fault::Wrong`] without a cause.
    pub fn wrong(why: impl Into<String>) -> Self {
        Fault::Wrong(why.into()).into()
    }
}

impl From<Fault> for SourceError {
    fn from(fault: Fault) -> Self {
        Self { fault, cause: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_resolve_as_rfc_9110_says() {
        assert_eq!(FetchRange::All.resolve(0), Some(0..0));
        assert_eq!(FetchRange::From(0).resolve(0), None);
        assert_eq!(FetchRange::From(4).resolve(5), Some(4..5));
        assert_eq!(FetchRange::From(5).resolve(5), None);
        assert_eq!(FetchRange::Span(2..99).resolve(5), Some(2..5));
        assert_eq!(FetchRange::Span(5..9).resolve(5), None);
        assert_eq!(FetchRange::Last(3).resolve(5), Some(2..5));
        assert_eq!(FetchRange::Last(9).resolve(5), Some(0..5));
        assert_eq!(FetchRange::Last(0).resolve(5), None);
    }
}
