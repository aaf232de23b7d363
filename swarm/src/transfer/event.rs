//! The words between a flight's driver and its transfer: what happened, what to do.

use std::ops::Range;
use std::time::Duration;

use super::crowd::{Order, PieceStep, Told};
use crate::reader::{How, ReadError};
use crate::source::{FetchRange, SourceError};
use crate::store::ByteSet;
use crate::tracker::{PeerId, Report};

/// Time since the flight began.
pub(crate) type Now = Duration;

/// A reader, also the key of the source that it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReaderId(pub(crate) u64);

/// A source, named after the reader that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceId(pub(crate) u64);

/// One request to one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FetchId(pub(crate) u64);

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A reader came; its source may be one that is known already. `here`: in the repository that
    /// a leader is asked about.
    Joined {
        reader: ReaderId,
        source: SourceId,
        first: FetchRange,
        here: bool,
    },
    /// An admitted reader says exactly what it reads, now or (an empty range) later. One that is not
    /// known yet is another place of the reader that brought the source.
    Reads {
        reader: ReaderId,
        source: SourceId,
        range: Range<u64>,
    },
    /// A reader has got this far.
    At { reader: ReaderId, at: u64 },
    /// A reader went away.
    Left { reader: ReaderId },
    /// A fetch's answer has begun.
    Head {
        fetch: FetchId,
        total: u64,
        start: u64,
    },
    /// The store took up the blob; these bytes were there.
    Begun { present: ByteSet },
    /// The store cannot take the blob, or (with a fetch) the bytes that have come next.
    NoRoom { fetch: Option<FetchId> },
    /// So many bytes of a fetch came, and were kept unless they were there before.
    Bytes { fetch: FetchId, len: u64 },
    /// A fetch is held back (true) by us or goes on (false); meanwhile it cannot stall.
    Paused { fetch: FetchId, paused: bool },
    /// A fetch's body ended before its end, or its request failed.
    Failed { fetch: FetchId, error: SourceError },
    /// The leader of the blob's distribution has spoken, or there is none.
    Told(Told),
    /// Something became of a piece that was asked of a peer.
    Piece { fetch: FetchId, step: PieceStep },
    /// What a mate has of the blob, if it answered.
    Present { peer: PeerId, has: Option<ByteSet> },
    /// The time that [`Transfer::deadline`] named has come.
    Tick,
}

/// What the driver must do.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Ask `source` for `range`.
    Fetch {
        fetch: FetchId,
        source: SourceId,
        range: FetchRange,
    },
    /// Ask a leader to take part, and say `Told` what it says, or that there is none.
    Join { reading_at: u64 },
    /// Drop the place at the leader.
    Leave,
    /// Tell the leader.
    Report(Report),
    /// Ask a peer for a piece; its bytes are judged and stored as a whole.
    FetchPiece { fetch: FetchId, order: Order },
    /// Ask a mate which bytes it has.
    AskPresent { peer: PeerId },
    /// Drop the request or body; nothing more of it is wanted.
    Cancel { fetch: FetchId },
    /// The size is known: take the blob up in the store, then say `Begun` or `Relaying`.
    Begin { total: u64 },
    /// From `from` on, bytes pass through memory, in order; `whole`: together with what is stored
    /// they are the whole blob, so that its digest can be worked out.
    Relay { from: u64, whole: bool },
    /// The reader may go on.
    Admit { reader: ReaderId, how: How },
    /// The reader gets this error instead.
    Refuse { reader: ReaderId, error: ReadError },
    /// Tell `At` when this reader gets beyond the offset (`u64::MAX`: never mind).
    Remind { reader: ReaderId, at: u64 },
    /// This source will not be asked again.
    Forget { source: SourceId },
    /// The flight is over: nobody needs it, or nobody can help it.
    Finish { error: Option<ReadError> },
}

/// Bounds in time.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) stall: Duration,
    pub(crate) head: Duration,
    pub(crate) linger: Duration,
}
