//! The leader: the one task that owns the book, tells it what comes in, and passes on what it says.
//!
//! Invariant: a word for a node goes into its outbox in the order of the book's decisions, and never
//! waits: a node that does not read is dropped. The book's lock is held for a batch of commands, and
//! by whoever looks at the status. Deliberately not here: deciding (the book, the scheduler).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci::{Digest, ImageName, Platform};
use proxy::place::Place;
use proxy::{ImageParts, ImageRefusal, SeedRefusal};
use swarm::attend::outbox::{Outbox, Outgoing};
use swarm::wire::{Hello, PreheatProgress, SupernodeSays, node_says};
use swarm::{PieceDigest, Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::book::{Book, Opened, Turn};
use crate::scheduler::NodeKey;
use crate::seeding::Seeding;

/// How often each node hears that this supernode lives.
const TICK: Duration = Duration::from_millis(250);
/// Shortest time between two deadlines of the scheduler: many come together, and none is so urgent.
const DUE_REST: Duration = Duration::from_millis(5);
/// Commands that are taken in at once.
const BATCH: usize = 256;
/// Images on their way to nodes at once.
const PREHEATS_MAX: usize = 64;
/// Words about one of them that wait for whoever asked.
const PROGRESS: usize = 1 << 16;

/// What the leader is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A node's stream has opened; it is told its number.
    Came {
        hello: Box<Hello>,
        seen: IpAddr,
        stream: NodeStream,
        key: oneshot::Sender<NodeKey>,
    },
    Said(NodeKey, node_says::Word),
    Judged(NodeKey, Verdict),
    /// The stream is over; the last command with that number.
    Went(NodeKey),
    /// Upstream has answered; `feed` hears whether to read on.
    Opened {
        digest: Digest,
        place: Place,
        answer: Result<Opened, SeedRefusal>,
        feed: oneshot::Sender<bool>,
    },
    Pieces {
        digest: Digest,
        first: usize,
        digests: Vec<PieceDigest>,
    },
    Fed {
        digest: Digest,
        outcome: Result<(), String>,
    },
    /// Somebody wants an image on nodes.
    Preheat(Box<Preheat>),
    /// That image is taken apart.
    Bring(ImageParts, Box<Preheat>),
}

/// An image that somebody wants on nodes.
#[derive(Debug)]
pub(crate) struct Preheat {
    pub(crate) name: ImageName,
    /// All that the index names, if none.
    pub(crate) platform: Option<Platform>,
    /// How many; 0 for all.
    pub(crate) nodes: u32,
    /// How far it gets, or why it does not begin.
    pub(crate) answer: oneshot::Sender<Result<Outgoing<PreheatProgress>, PreheatRefusal>>,
}

/// Why a preheat does not begin.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PreheatRefusal {
    /// The image cannot be had.
    #[error(transparent)]
    Image(#[from] ImageRefusal),
    /// Too many are under way.
    #[error("too many images are on their way to nodes")]
    Busy,
}

/// The way to a node.
#[derive(Debug)]
pub(crate) struct NodeStream {
    pub(crate) outbox: Outbox<SupernodeSays>,
    /// Cancelled when the node is to be dropped.
    pub(crate) ends: CancellationToken,
}

/// The book, for the leader and for whoever looks at it.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Book>>);

impl Shared {
    pub(crate) fn new(book: Book) -> Self {
        Self(Arc::new(Mutex::new(book)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(crate) struct Leader {
    book: Shared,
    streams: HashMap<NodeKey, NodeStream>,
    preheats: HashMap<u64, Outbox<PreheatProgress>>,
    seeding: Seeding,
    started: Instant,
    turn: Turn,
}

impl Leader {
    pub(crate) fn new(book: Shared, seeding: Seeding) -> Self {
        Self {
            book,
            streams: HashMap::new(),
            preheats: HashMap::new(),
            seeding,
            started: Instant::now(),
            turn: Turn::default(),
        }
    }

    /// Leads until `shutdown`; then ends every stream and waits for its tasks.
    pub(crate) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        shutdown: CancellationToken,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        let mut rested = self.started;
        loop {
            let deadline = self.book.lock().deadline();
            let due = deadline.map(|at| (self.started + at).max(rested));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => self.tick(),
                () = sleep_until(due.unwrap_or(self.started)), if due.is_some() => {
                    self.turn(|book, turn| book.due(turn));
                    rested = Instant::now() + DUE_REST;
                }
                count = commands.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.take(&mut batch);
                }
            }
        }
        self.end(commands).await;
    }

    async fn end(mut self, commands: mpsc::Receiver<Command>) {
        // Whoever waits to tell something hears that nobody listens.
        drop(commands);
        for stream in self.streams.values() {
            stream.outbox.close();
            stream.ends.cancel();
        }
        self.streams.clear();
        self.seeding.ending.cancel();
        self.seeding.tasks.close();
        self.seeding.tasks.wait().await;
    }

    fn tick(&mut self) {
        let preheats = &mut self.preheats;
        let mut book = self.book.lock();
        preheats.retain(|task, outbox| {
            let wanted = !outbox.is_closed();
            if !wanted {
                book.forget_preheat(*task);
            }
            wanted
        });
        drop(book);
        self.turn(|book, turn| book.tick(turn));
    }

    fn turn(&mut self, decide: impl FnOnce(&mut Book, &mut Turn)) {
        let mut book = self.book.lock();
        book.at(self.started.elapsed());
        decide(&mut book, &mut self.turn);
        drop(book);
        self.deliver();
    }

    fn take(&mut self, batch: &mut Vec<Command>) {
        let shared = self.book.clone();
        let mut book = shared.lock();
        book.at(self.started.elapsed());
        for command in batch.drain(..) {
            self.obey(&mut book, command);
        }
        drop(book);
        self.deliver();
    }

    fn obey(&mut self, book: &mut Book, command: Command) {
        let turn = &mut self.turn;
        match command {
            Command::Came {
                hello,
                seen,
                stream,
                key,
            } => {
                let node = book.came(*hello, seen);
                self.streams.insert(node, stream);
                if key.send(node).is_err() {
                    // Its task is gone already, and nobody will say so.
                    self.streams.remove(&node);
                    book.went(node, turn);
                }
            }
            Command::Said(node, word) => book.said(node, word, turn),
            Command::Judged(node, verdict) => book.judged(node, verdict, turn),
            Command::Went(node) => {
                self.streams.remove(&node);
                book.went(node, turn);
            }
            Command::Opened {
                digest,
                place,
                answer,
                feed,
            } => {
                let feeds = book.opened(&digest, &place, answer, turn);
                if feed.send(feeds).is_err() && feeds {
                    book.fed(&digest, Err("the reading was given up".to_owned()), turn);
                }
            }
            Command::Pieces {
                digest,
                first,
                digests,
            } => book.pieces(&digest, first, &digests, turn),
            Command::Fed { digest, outcome } => book.fed(&digest, outcome, turn),
            Command::Preheat(preheat) if self.preheats.len() >= PREHEATS_MAX => {
                // Whoever asked may be gone.
                let _ = preheat.answer.send(Err(PreheatRefusal::Busy));
            }
            Command::Preheat(preheat) => self.seeding.take_apart(preheat),
            Command::Bring(image, preheat) => {
                let (outbox, outgoing) = Outbox::new(PROGRESS);
                let task = book.preheat(image, preheat.nodes, turn);
                if preheat.answer.send(Ok(outgoing)).is_ok() {
                    self.preheats.insert(task, outbox);
                } else {
                    book.forget_preheat(task);
                }
            }
        }
    }

    fn deliver(&mut self) {
        for (node, word) in self.turn.words.drain(..) {
            if let Some(stream) = self.streams.get(&node)
                && stream.outbox.say(word.into()).is_err()
            {
                stream.ends.cancel();
            }
        }
        for (task, progress) in self.turn.progress.drain(..) {
            if let Some(outbox) = self.preheats.get(&task) {
                // Whoever asked may be gone: the next tick finds out.
                let _ = outbox.say(progress);
            }
        }
        for task in self.turn.finished.drain(..) {
            if let Some(outbox) = self.preheats.remove(&task) {
                outbox.finish();
            }
        }
        for node in self.turn.drops.drain(..) {
            if let Some(stream) = self.streams.get(&node) {
                stream.ends.cancel();
            }
        }
        for task in self.turn.tasks.drain(..) {
            self.seeding.start(task);
        }
    }
}
