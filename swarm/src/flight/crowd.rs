//! A flight among other nodes: what the leader says, pieces on their way, and what mates have.
//!
//! A piece is taken in as a whole: its frames are kept and hashed (BLAKE3) as they come, and stored
//! when they are right. Invariant: bytes of a piece that are not judged right, or provisional while
//! nobody leads, reach neither store nor readers. Memory: the pieces under way, as many as the
//! leader's slots allow. Deliberately not here: what is fetched from whom.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::Flight;
use crate::piece::{PieceDigest, PieceIndex};
use crate::source::{Fault, FetchRange, Origin, SourceError};
use crate::store::ByteSet;
use crate::tracker::{Instruction, Membership, Peer, PeerFault, PeerId, Report, Wish, Word};
use crate::transfer::{Event, FetchId, Measure, Order, PieceStep, Told};

/// How long a mate may take to say what it has.
const LOOK_WAIT: Duration = Duration::from_millis(500);

/// What a flight has to do with other nodes.
#[derive(Default)]
pub(super) struct Crowd {
    membership: Option<Membership>,
    peers: BTreeMap<PeerId, Arc<dyn Peer>>,
    incoming: BTreeMap<FetchId, Incoming>,
    looking: FuturesUnordered<BoxFuture<'static, (PeerId, Option<ByteSet>)>>,
    shared: bool,
}

/// A piece whose bytes are coming.
struct Incoming {
    piece: PieceIndex,
    from: PeerId,
    frames: Vec<Bytes>,
    hasher: blake3::Hasher,
    /// Bytes still to come.
    left: u64,
    digest: Option<PieceDigest>,
}

/// Something from outside.
pub(super) enum News {
    Word(Word),
    Look(PeerId, Option<ByteSet>),
}

impl Crowd {
    pub(super) fn is_piece(&self, fetch: FetchId) -> bool {
        self.incoming.contains_key(&fetch)
    }

    pub(super) fn drop_piece(&mut self, fetch: FetchId) {
        self.incoming.remove(&fetch);
    }

    /// The next word of the leader or look of a mate. Pending for ever without either.
    pub(super) async fn news(&mut self) -> News {
        poll_fn(|cx| {
            if let Some(membership) = &mut self.membership
                && let Poll::Ready(word) = membership.words.poll_recv(cx)
            {
                return Poll::Ready(News::Word(word.unwrap_or(Word::Lost)));
            }
            if let Poll::Ready(Some((id, has))) = self.looking.poll_next_unpin(cx) {
                return Poll::Ready(News::Look(id, has));
            }
            Poll::Pending
        })
        .await
    }

    pub(super) fn say(&self, report: Report) {
        if let Some(membership) = &self.membership {
            membership.reports.say(report);
        }
    }

    pub(super) fn leave(&mut self) {
        self.membership = None;
    }

    fn told(&mut self, word: Word) -> Told {
        match word {
            Word::Heard => Told::Heard,
            Word::Accepted(layout) => Told::Accepted(layout),
            Word::Refused { why } => {
                tracing::debug!(why, "the blob is not shared");
                Told::Refused
            }
            Word::Pieces(digests) => Told::Digests(digests),
            Word::Mates(mates) => Told::Mates(mates.into_iter().map(|m| self.meet(m)).collect()),
            Word::Fetch(list) => Told::Fetch(list.into_iter().map(|i| self.order(i)).collect()),
            Word::Lost => {
                self.membership = None;
                Told::Lost
            }
        }
    }

    fn order(&mut self, instruction: Instruction) -> Order {
        let leader = instruction.from.origin() == Origin::Supernode;
        Order {
            piece: instruction.piece,
            from: self.meet(instruction.from),
            order: instruction.order,
            leader,
        }
    }

    fn meet(&mut self, peer: Arc<dyn Peer>) -> PeerId {
        let id = peer.id().clone();
        self.peers.insert(id.clone(), peer);
        id
    }
}

impl Flight {
    /// Asks for a place in the blob's distribution; says so when there is none.
    pub(super) fn join(&mut self, reading_at: u64) -> Option<Event> {
        let wish = |repository: &Arc<str>| Wish {
            digest: self.digest,
            registry: self.scope.as_str().to_owned(),
            repository: repository.to_string(),
            present: self.partial.as_ref().map(|p| (p.total(), p.present())),
            reading_at,
        };
        let tracker = self.shared.tracker.as_ref();
        let place = tracker.zip(self.repository.as_ref());
        self.crowd.membership = place.and_then(|(tracker, at)| tracker.join(wish(at)));
        let nobody = self.crowd.membership.is_none();
        nobody.then_some(Event::Told(Told::Nobody))
    }

    pub(super) async fn take_news(&mut self, news: News) {
        let event = match news {
            News::Look(peer, has) => Event::Present { peer, has },
            News::Word(word) => Event::Told(self.crowd.told(word)),
        };
        let digests = matches!(event, Event::Told(Told::Digests(_) | Told::Lost));
        self.decide(event).await;
        if !self.crowd.shared && self.transfer.is_public() {
            self.crowd.shared = true;
            self.shared.sharing.add(&self.digest);
        }
        if digests {
            self.judge_waiting().await;
        }
    }

    pub(super) fn ask_piece(&mut self, fetch: FetchId, order: Order) -> Option<Event> {
        let lost = PieceStep::Failed(PeerFault::Unreachable);
        let layout = self.transfer.layout();
        let (Some(layout), Some(peer)) = (layout, self.crowd.peers.get(&order.from)) else {
            return Some(Event::Piece { fetch, step: lost });
        };
        let range = layout.range(order.piece);
        let incoming = Incoming {
            piece: order.piece,
            from: order.from,
            frames: Vec::new(),
            hasher: blake3::Hasher::new(),
            left: range.end - range.start,
            digest: None,
        };
        let source = peer.piece_source(order.order);
        self.crowd.incoming.insert(fetch, incoming);
        self.lanes
            .add(fetch, source, self.digest, FetchRange::Span(range));
        None
    }

    pub(super) fn look_at(&mut self, id: PeerId) {
        let digest = self.digest;
        let Some(peer) = self.crowd.peers.get(&id).cloned() else {
            return;
        };
        self.crowd.looking.push(Box::pin(async move {
            let look = tokio::time::timeout(LOOK_WAIT, peer.present(&digest)).await;
            (id, look.ok().and_then(Result::ok))
        }));
    }

    pub(super) async fn piece_head(&mut self, fetch: FetchId, total: u64, start: u64) {
        let place = self
            .crowd
            .incoming
            .get(&fetch)
            .map(|incoming| incoming.piece);
        let layout = self.transfer.layout().zip(place);
        let fits = |(layout, piece): (crate::piece::Layout, _)| {
            layout.total() == total && layout.range(piece).start == start
        };
        if !layout.is_some_and(fits) {
            self.piece_failed(fetch, PeerFault::Wrong).await;
        }
    }

    pub(super) async fn take_piece_frame(&mut self, fetch: FetchId, bytes: Bytes, origin: Origin) {
        let len = bytes.len() as u64;
        self.count(origin, len);
        let Some(incoming) = self.crowd.incoming.get_mut(&fetch) else {
            return;
        };
        if len > incoming.left {
            return self.piece_failed(fetch, PeerFault::Wrong).await;
        }
        incoming.left -= len;
        incoming.hasher.update(&bytes);
        incoming.frames.push(bytes);
        let whole = incoming.left == 0;
        if whole {
            let hash = incoming.hasher.finalize();
            incoming.digest = Some(PieceDigest::from_bytes(*hash.as_bytes()));
            self.lanes.remove(fetch);
        }
        let step = PieceStep::Moved;
        self.decide(Event::Piece { fetch, step }).await;
        if whole {
            self.judge(fetch).await;
        }
    }

    pub(super) async fn piece_broke(&mut self, fetch: FetchId, error: &SourceError) {
        let fault = match &error.fault {
            Fault::NotFound | Fault::Denied | Fault::Unsatisfiable { .. } => PeerFault::Missing,
            Fault::Wrong(_) => PeerFault::Wrong,
            Fault::Limited { .. } => PeerFault::Slow,
            Fault::Unavailable(_) => PeerFault::Unreachable,
        };
        self.piece_failed(fetch, fault).await;
    }

    async fn piece_failed(&mut self, fetch: FetchId, fault: PeerFault) {
        self.lanes.remove(fetch);
        let Some(incoming) = self.crowd.incoming.remove(&fetch) else {
            return;
        };
        let (digest, peer) = (self.digest.short(), &incoming.from);
        if fault == PeerFault::Wrong {
            let address = self.crowd.peers.get(peer).map_or("", |p| p.name());
            tracing::warn!(%digest, %peer, address, piece = %incoming.piece,
                "a peer sent wrong bytes; they were dropped");
        }
        let step = PieceStep::Failed(fault);
        self.decide(Event::Piece { fetch, step }).await;
    }

    /// Judges pieces whose digests were not known when their bytes were complete.
    async fn judge_waiting(&mut self) {
        let complete = |(id, piece): (&FetchId, &Incoming)| piece.digest.map(|_| *id);
        let waiting: Vec<_> = self.crowd.incoming.iter().filter_map(complete).collect();
        for fetch in waiting {
            self.judge(fetch).await;
        }
    }

    async fn judge(&mut self, fetch: FetchId) {
        let incoming = self.crowd.incoming.get(&fetch);
        let Some((piece, digest)) = incoming.and_then(|i| Some((i.piece, i.digest?))) else {
            return;
        };
        match self.transfer.measure(piece) {
            Measure::Awaited => {}
            Measure::Digest(right) if right != digest => {
                self.piece_failed(fetch, PeerFault::Wrong).await;
            }
            Measure::Digest(_) | Measure::Provisional => self.keep_piece(fetch).await,
        }
    }

    /// Stores a piece, hands it to hash and readers, and says so.
    async fn keep_piece(&mut self, fetch: FetchId) {
        let incoming = self.crowd.incoming.remove(&fetch);
        let Some((incoming, layout)) = incoming.zip(self.transfer.layout()) else {
            return;
        };
        let Some(partial) = self.partial.clone().filter(|_| !self.relaying) else {
            return;
        };
        let range = layout.range(incoming.piece);
        let mut at = range.start;
        for frame in incoming.frames {
            if let Err(error) = partial.write_at(at, &frame) {
                self.say_relay(&error);
                return self.decide(Event::NoRoom { fetch: None }).await;
            }
            let len = frame.len() as u64;
            self.hand_on(at..at + len, &frame);
            at += len;
        }
        let step = PieceStep::Kept;
        self.decide(Event::Piece { fetch, step }).await;
        if let Some(hashing) = &self.hashing {
            hashing.advance(self.transfer.first_gap_after(0));
        }
        // Other nodes may be waiting for just this piece.
        self.wake_readers();
    }
}
