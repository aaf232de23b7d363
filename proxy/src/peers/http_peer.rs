//! A peer, or a supernode's seed, as a source of pieces.
//!
//! Invariant: what is passed on has the place and the length that was asked for; whether the bytes
//! are right is for the flight to tell, which knows the pieces' digests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use http::StatusCode;
use oci::Digest;
use swarm::store::ByteSet;
use swarm::{
    Fault, FetchRange, Fetched, Origin, Peer, PeerId, PeerMaker, PieceSource, SourceError,
};
use tokio_util::sync::CancellationToken;

use super::head::Head;
use super::link::Broken;
use super::net::{Body, Net, NetError};
use super::{BLOBS, PRESENT};
use crate::ratelimit::Bucket;

/// How long a seed is asked to hold a request: its pieces are handed out before they have come.
const HOLD_SEED: Duration = Duration::from_secs(5);
/// How long a node is asked to: it is named for what it has, or is about to have checked.
const HOLD_PEER: Duration = Duration::from_secs(1);
/// How long an answer may take besides: a round trip, and other responses before it.
const HEAD: Duration = Duration::from_secs(2);
/// Longest map of present bytes: one of a blob of 64 Ki pieces, each second one missing, has less.
const PRESENT_MAX: u64 = 1 << 20;

/// The peers of a node: makes them, and keeps the connections to all of them.
#[derive(Clone)]
pub struct Peers {
    net: Arc<Net>,
}

impl Peers {
    /// Peers whose bytes count against this cap of what the node downloads.
    pub(crate) fn new(ratelimit: Option<Arc<Bucket>>) -> Self {
        Self {
            net: Arc::new(Net::new(ratelimit)),
        }
    }

    /// Closes connections that nobody uses, until `shutdown`; then all that are kept.
    pub(crate) async fn tidy(self, shutdown: CancellationToken) {
        self.net.tidy(shutdown).await;
    }
}

impl Default for Peers {
    /// Without a cap.
    fn default() -> Self {
        Self::new(None)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers")
    }
}

impl PeerMaker for Peers {
    fn peer(&self, id: PeerId, origin: Origin, address: &str) -> Arc<dyn Peer> {
        Arc::new(HttpPeer {
            net: self.net.clone(),
            id,
            origin,
            at: address.into(),
        })
    }
}

#[derive(Clone)]
struct HttpPeer {
    net: Arc<Net>,
    id: PeerId,
    origin: Origin,
    at: Arc<str>,
}

/// A peer, asked for a piece that it may not have yet.
struct Awaited {
    peer: HttpPeer,
    order: u64,
}

impl HttpPeer {
    fn hold(&self) -> Duration {
        match self.origin {
            Origin::Supernode => HOLD_SEED,
            Origin::Upstream | Origin::Peer => HOLD_PEER,
        }
    }

    /// Fetches; `awaited` with the order of a piece that may not be there yet.
    async fn get(
        &self,
        digest: &Digest,
        range: FetchRange,
        awaited: Option<u64>,
    ) -> Result<Fetched, SourceError> {
        let range = match range {
            FetchRange::From(0) => FetchRange::All,
            range => range,
        };
        let (query, within) = match awaited {
            Some(order) => {
                let hold = self.hold();
                let query = format!("?hold={}&order={order}", hold.as_millis());
                (query, hold + HEAD)
            }
            None => (String::new(), HEAD),
        };
        let at = &self.at;
        let line = range_line(&range);
        let request = format!("GET {BLOBS}{digest}{query} HTTP/1.1\r\nhost: {at}\r\n{line}\r\n");
        let (head, body) = self.ask(&request, within).await?;
        let (start, total) = place(&head, &range)?;
        let frames = stream::unfold(Some(body), async |body| {
            let mut body = body?;
            match body.next().await? {
                Ok(frame) => Some((Ok(frame), Some(body))),
                Err(error) => Some((Err(fault(&error).into()), None)),
            }
        });
        Ok(Fetched {
            total,
            start,
            body: frames.boxed(),
        })
    }

    async fn ask(&self, request: &str, within: Duration) -> Result<(Head, Body), SourceError> {
        let answer = self.net.ask(&self.at, request.as_bytes(), within).await;
        answer.map_err(|error| fault(&error).into())
    }

    async fn map_of(&self, digest: &Digest) -> Result<ByteSet, SourceError> {
        let at = &self.at;
        let request = format!("GET {PRESENT}{digest} HTTP/1.1\r\nhost: {at}\r\n\r\n");
        let (head, body) = self.ask(&request, HEAD).await?;
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(ByteSet::new()),
            status => return Err(refused(status).into()),
        }
        let map = body.collect(PRESENT_MAX).await;
        let map = map.map_err(|error| SourceError::from(fault(&error)))?;
        let wrong = || SourceError::wrong("its map of present bytes makes no sense");
        let map = ByteSet::decode(&map.ok_or_else(wrong)?).map_err(|_| wrong())?;
        let total = head.total.ok_or_else(wrong)?;
        // Its last byte lies within the blob if all of it does.
        let end = map.iter().last().map_or(0, |range| range.end);
        if end > total { Err(wrong()) } else { Ok(map) }
    }
}

fn range_line(range: &FetchRange) -> String {
    match range {
        FetchRange::All => String::new(),
        FetchRange::From(start) => format!("range: bytes={start}-\r\n"),
        FetchRange::Span(span) => {
            let last = span.end.saturating_sub(1);
            format!("range: bytes={}-{last}\r\n", span.start)
        }
        FetchRange::Last(count) => format!("range: bytes=-{count}\r\n"),
    }
}

/// Where the body begins, and the blob's size, if that is what was asked for.
fn place(head: &Head, range: &FetchRange) -> Result<(u64, u64), SourceError> {
    match (head.status, range, &head.part) {
        (StatusCode::OK, FetchRange::All, None) => Ok((0, head.length)),
        (StatusCode::PARTIAL_CONTENT, range, Some((got, total))) if *range != FetchRange::All => {
            if range.resolve(*total).as_ref() != Some(got) {
                return Err(SourceError::wrong("other bytes than the range asked for"));
            }
            if head.length != got.end - got.start {
                return Err(SourceError::wrong("length and Content-Range disagree"));
            }
            Ok((got.start, *total))
        }
        (StatusCode::NOT_FOUND, ..) => Err(Fault::NotFound.into()),
        (StatusCode::RANGE_NOT_SATISFIABLE, ..) => match head.total {
            Some(total) => Err(Fault::Unsatisfiable { total }.into()),
            None => Err(SourceError::wrong("416 without the blob's size")),
        },
        (status, ..) if status.is_success() => Err(SourceError::wrong(
            "something else than the range asked for",
        )),
        (status, ..) => Err(refused(status).into()),
    }
}

fn refused(status: StatusCode) -> Fault {
    Fault::Unavailable(format!("it answered {}", status.as_u16()))
}

fn fault(error: &NetError) -> Fault {
    match error {
        NetError::Broken(Broken::Wrong(why)) => Fault::Wrong((*why).to_owned()),
        error => Fault::Unavailable(error.to_string()),
    }
}

impl PieceSource for HttpPeer {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn name(&self) -> &str {
        &self.at
    }

    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        Box::pin(self.get(digest, range, None))
    }
}

impl PieceSource for Awaited {
    fn origin(&self) -> Origin {
        self.peer.origin
    }

    fn name(&self) -> &str {
        &self.peer.at
    }

    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        range: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        Box::pin(self.peer.get(digest, range, Some(self.order)))
    }
}

impl Peer for HttpPeer {
    fn id(&self) -> &PeerId {
        &self.id
    }

    fn piece_source(&self, order: u64) -> Arc<dyn PieceSource> {
        Arc::new(Awaited {
            peer: self.clone(),
            order,
        })
    }

    fn present<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Result<ByteSet, SourceError>> {
        Box::pin(self.map_of(digest))
    }
}

impl fmt::Debug for HttpPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.id, self.at)
    }
}
