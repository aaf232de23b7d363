//! One stream to one supernode while it lives: its flights, and the peers it has named.
//!
//! Invariant: every membership ends, with [`Word::Lost`] when the session does. Words that concern
//! no flight are not here (the link).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::Digest;
use tokio::sync::mpsc;

use super::outbox::Outbox;
use crate::piece::{Layout, PieceDigest};
use crate::tracker::{
    Instruction, Membership, Peer, PeerFault, PeerId, Report, Reports, Wish, Word,
};
use crate::wire::{self, NodeSays, node_says, report};

/// Words that wait for a flight; a flight that is so far behind is not led any more.
const WORDS_MAX: usize = 1024;
/// The handle of the supernode itself.
pub(super) const SEED: u32 = 0;

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    outbox: Outbox<NodeSays>,
    /// The supernode's name, by which all nodes rank it.
    supernode: String,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    lost: bool,
    flights: u32,
    members: HashMap<u32, Member>,
    peers: HashMap<u32, Arc<dyn Peer>>,
    handles: HashMap<PeerId, u32>,
}

#[derive(Debug)]
struct Member {
    digest: Digest,
    layout: Option<Layout>,
    words: mpsc::Sender<Word>,
    /// A place in `words` for the last one.
    last: mpsc::OwnedPermit<Word>,
}

impl Member {
    /// `false` when the flight does not read.
    fn say(&self, word: Word) -> bool {
        !matches!(
            self.words.try_send(word),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }

    fn end(self, word: Word) {
        self.last.send(word);
    }
}

impl Session {
    pub(super) fn new(outbox: Outbox<NodeSays>, supernode: String) -> Self {
        Self {
            outbox,
            supernode,
            table: Mutex::default(),
        }
    }

    pub(super) fn supernode(&self) -> &str {
        &self.supernode
    }

    /// How many peers it has named, itself aside.
    pub(super) fn peers(&self) -> usize {
        let peers = self.lock().peers.len();
        peers.saturating_sub(1)
    }

    /// The supernode itself as a source of bytes.
    pub(super) fn seed(&self) -> Option<Arc<dyn Peer>> {
        self.lock().peers.get(&SEED).cloned()
    }

    /// A place for a flight; `None` when the session is over.
    pub(super) fn join(self: &Arc<Self>, wish: &Wish) -> Option<Membership> {
        let (words, reader) = mpsc::channel(WORDS_MAX);
        let last = words.clone().try_reserve_owned().ok()?;
        let member = Member {
            digest: wish.digest,
            layout: None,
            words,
            last,
        };
        let mut table = self.lock();
        if table.lost {
            return None;
        }
        table.flights += 1;
        let flight = table.flights;
        table.members.insert(flight, member);
        drop(table);
        let told = self.say(node_says::Word::Want(want(flight, wish)));
        let voice = Voice {
            session: self.clone(),
            flight,
            left: AtomicBool::new(false),
        };
        told.then(|| Membership {
            words: reader,
            reports: Arc::new(voice),
        })
    }

    /// Says something; when that is impossible, the stream is over and the link will notice.
    pub(super) fn say(&self, word: node_says::Word) -> bool {
        self.outbox.say(word.into()).is_ok()
    }

    /// Ends every membership.
    pub(super) fn lose(&self) {
        let members = {
            let mut table = self.lock();
            table.lost = true;
            std::mem::take(&mut table.members)
        };
        self.outbox.close();
        for member in members.into_values() {
            member.end(Word::Lost);
        }
    }

    /// Names a peer; an old handle may get a new meaning.
    pub(super) fn name(&self, handle: u32, peer: Arc<dyn Peer>) {
        let mut table = self.lock();
        if let Some(old) = table.peers.get(&handle) {
            let old = old.id().clone();
            table.handles.remove(&old);
        }
        table.handles.insert(peer.id().clone(), handle);
        table.peers.insert(handle, peer);
    }

    pub(super) fn heard(&self, flight: u32) {
        self.pass(flight, |_, _| Some(Word::Heard));
    }

    pub(super) fn accepted(&self, told: &wire::Accepted) {
        let layout = Layout::told(told.total, u64::from(told.piece_size));
        self.pass(told.flight, |member, _| {
            member.layout = layout;
            layout.map(Word::Accepted)
        });
        if layout.is_none() {
            self.end(
                told.flight,
                |why| Word::Refused { why },
                "a cut that cannot be",
            );
        }
    }

    pub(super) fn refused(&self, told: wire::Refused) {
        // What was led so far is still good: the flight goes on with the mates and digests it has.
        let led = self
            .lock()
            .members
            .get(&told.flight)
            .is_some_and(|one| one.layout.is_some());
        let last = |why| {
            if led {
                Word::Lost
            } else {
                Word::Refused { why }
            }
        };
        self.end(told.flight, last, &told.why);
    }

    pub(super) fn pieces(&self, told: &wire::PieceDigests) {
        self.pass(told.flight, |member, _| {
            let layout = member.layout?;
            let (digests, _) = told.digests.as_chunks::<32>();
            let numbered = (told.first..).zip(digests);
            let pieces = numbered.filter_map(|(number, digest)| {
                Some((layout.piece(number)?, PieceDigest::from_bytes(*digest)))
            });
            Some(Word::Pieces(pieces.collect()))
        });
    }

    pub(super) fn mates(&self, told: &wire::Mates) {
        self.pass(told.flight, |_, peers| {
            let mates = told.peers.iter().filter(|handle| **handle != SEED);
            let mates = mates.filter_map(|handle| peers.get(handle).cloned());
            Some(Word::Mates(mates.collect()))
        });
    }

    pub(super) fn instructions(&self, told: &wire::Instructions) {
        self.pass(told.flight, |member, peers| {
            let layout = member.layout?;
            let list = told.list.iter().filter_map(|one| {
                Some(Instruction {
                    piece: layout.piece(one.piece)?,
                    from: peers.get(&one.from)?.clone(),
                    order: one.order,
                })
            });
            Some(Word::Fetch(list.collect()))
        });
    }

    /// Passes a word on. One that cannot be made, or is for a flight that has left, is dropped.
    fn pass(
        &self,
        flight: u32,
        word: impl FnOnce(&mut Member, &HashMap<u32, Arc<dyn Peer>>) -> Option<Word>,
    ) {
        let mut table = self.lock();
        let Table { members, peers, .. } = &mut *table;
        let Some(member) = members.get_mut(&flight) else {
            return;
        };
        let reads = word(member, peers).is_none_or(|word| member.say(word));
        let idle = if reads { None } else { members.remove(&flight) };
        drop(table);
        if let Some(member) = idle {
            tracing::warn!(
                digest = member.digest.short(),
                "a flight does not read its words"
            );
            member.end(Word::Lost);
            self.leave(flight, false);
        }
    }

    fn end(&self, flight: u32, word: impl FnOnce(String) -> Word, why: &str) {
        let member = self.lock().members.remove(&flight);
        if let Some(member) = member {
            member.end(word(why.to_owned()));
        }
    }

    fn leave(&self, flight: u32, complete: bool) {
        self.say(node_says::Word::Leave(wire::Leave { flight, complete }));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn want(flight: u32, wish: &Wish) -> wire::Want {
    let (total, present) = match &wish.present {
        Some((total, present)) => {
            let ends = present.iter().flat_map(|range| [range.start, range.end]);
            (*total, ends.collect())
        }
        None => (0, Vec::new()),
    };
    wire::Want {
        flight,
        digest: wish.digest.to_string(),
        registry: wish.registry.clone(),
        repository: wish.repository.clone(),
        present,
        total,
        reading_at: wish.reading_at,
    }
}

/// A flight's way to speak; dropping it leaves.
#[derive(Debug)]
struct Voice {
    session: Arc<Session>,
    flight: u32,
    left: AtomicBool,
}

impl Voice {
    /// `true` the first time.
    fn leaves(&self) -> bool {
        !self.left.swap(true, Ordering::Relaxed)
    }

    /// The entry for a report; `None` when it means nothing to this supernode.
    fn entry(&self, report: &Report) -> Option<wire::Report> {
        let (kind, piece, from) = match report {
            Report::Got { piece, from } => (report::Kind::Got, piece, from.as_ref()),
            Report::Failed { piece, from, fault } => (kind(*fault), piece, Some(from)),
            Report::Complete => return None,
        };
        let handle = match from {
            Some(from) => self.session.lock().handles.get(from).copied(),
            None => None,
        };
        if handle.is_none() && kind != report::Kind::Got {
            return None;
        }
        Some(wire::Report {
            flight: self.flight,
            kind: kind.into(),
            piece: piece.get(),
            from: handle.unwrap_or_default(),
            upstream: handle.is_none(),
        })
    }

    fn complete(&self) {
        self.session.lock().members.remove(&self.flight);
        self.session.leave(self.flight, true);
    }
}

impl Reports for Voice {
    fn say(&self, report: Report) {
        if report == Report::Complete {
            if self.leaves() {
                self.complete();
            }
        } else if !self.left.load(Ordering::Relaxed)
            && let Some(entry) = self.entry(&report)
        {
            let list = vec![entry];
            self.session
                .say(node_says::Word::Reports(wire::Reports { list }));
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        if self.leaves() {
            let member = self.session.lock().members.remove(&self.flight);
            // One that was refused, or dropped as idle, has left already.
            if member.is_some() {
                self.session.leave(self.flight, false);
            }
        }
    }
}

fn kind(fault: PeerFault) -> report::Kind {
    match fault {
        PeerFault::Unreachable => report::Kind::Unreachable,
        PeerFault::Missing => report::Kind::Missing,
        PeerFault::Wrong => report::Kind::Wrong,
        PeerFault::Slow => report::Kind::Slow,
    }
}
