//! The engine: one per process, the way in for whoever wants a blob's bytes.
//!
//! Invariants: at most one flight per (scope, digest); nothing counts as held before its digest
//! fits; every task is joined by [`Engine::shutdown`].
//! Deliberately not here: whether a reader may read. Rights are the caller's, see [`Want`].

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci::Digest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::checks::Checks;
use crate::flight::{Answer, Board, Flight, Purpose, Shared};
use crate::hashing::HashPool;
use crate::held::Held;
use crate::offer::Offer;
use crate::reader::{BlobReader, ReadError, Seat, WITHHELD_TAIL};
use crate::source::{FetchRange, Origin, PieceSource, SourceError};
use crate::store::{BlobStore, ScopeTag};
use crate::tracker::Tracker;

/// A read that found so many flights that ended without an answer gives up.
const LOOKS_MAX: usize = 8;
/// Flights that are remembered after their end, for people: a node's last image or two.
const LANDED_MAX: usize = 64;

/// What one reader asks for.
///
/// **Rights.** Held bytes and a flight's bytes are shared by digest; the right to read them is not.
/// The engine asks `source` only when it needs bytes, so a reader that joins a flight, or finds the
/// blob held, has not been checked by anybody. The caller checks before it calls
/// [`Engine::read`], or looks at [`BlobReader::how`] afterwards: only [`How::Started`] means that
/// this very source has answered with the blob. A reader whose own source was asked first and
/// refused gets that refusal, also when another reader's source is allowed.
///
/// [`How::Started`]: crate::reader::How::Started
#[derive(Clone)]
pub struct Want {
    /// The blob.
    pub digest: Digest,
    /// Within which flights and unverified bytes are shared: the registry's name.
    pub scope: FlightScope,
    /// What will be read first; lets a range far from what is arriving start its own fetch.
    pub first: FetchRange,
    /// The repository that this reader names, in which a swarm's leader is asked whether the blob is
    /// public; none keeps the blob from the swarm.
    pub repository: Option<Arc<str>>,
    /// Where this reader's bytes may come from, with this reader's rights. The flight may go on with
    /// it for other readers of the same scope, and for a while after this reader has left.
    pub source: Arc<dyn PieceSource>,
}

impl fmt::Debug for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Want")
            .field("digest", &self.digest)
            .field("scope", &self.scope)
            .field("first", &self.first)
            .field("repository", &self.repository)
            .field("source", &self.source.name())
            .finish()
    }
}

/// The name within which unverified bytes are shared.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FlightScope {
    name: Arc<str>,
    tag: ScopeTag,
}

impl FlightScope {
    /// The scope of a registry's canonical name.
    pub fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            tag: ScopeTag::of(name),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The tag under which the store keeps this scope's partial blobs.
    pub fn tag(&self) -> ScopeTag {
        self.tag
    }
}

impl fmt::Debug for FlightScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Bounds of the engine. `Default` is what the documentation says.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// A body that brings nothing for so long is given up and resumed elsewhere.
    pub stall: Duration,
    /// An answer whose head is not in after so long is given up.
    pub head: Duration,
    /// How long a fill goes on after its last reader has left.
    pub linger: Duration,
    /// OS threads that hash; blobs are pinned to one. As many held blobs are checked at a time.
    pub hash_threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(10),
            head: Duration::from_secs(30),
            linger: Duration::from_secs(60),
            hash_threads: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

/// Reads blobs, each from the store if it is held, else by the one flight that brings it in.
///
/// Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Shared,
    flights: Mutex<Flights>,
    /// The last ones that ended, so that whoever looks now and then sees how a short one went.
    landed: Mutex<VecDeque<FlightView>>,
    tasks: TaskTracker,
    checks: Arc<Checks>,
}

type Key = (FlightScope, Digest);
type Flights = HashMap<Key, Arc<Board>>;

impl Engine {
    /// An engine over `store`. Needs no runtime until the first read.
    pub fn new(store: Arc<dyn BlobStore>, options: EngineOptions) -> Self {
        Self::build(store, options, None)
    }

    /// The same, of a node in a swarm: flights of readers that name a repository ask `tracker`.
    pub fn in_swarm(
        store: Arc<dyn BlobStore>,
        options: EngineOptions,
        tracker: Arc<dyn Tracker>,
    ) -> Self {
        Self::build(store, options, Some(tracker))
    }

    fn build(
        store: Arc<dyn BlobStore>,
        options: EngineOptions,
        tracker: Option<Arc<dyn Tracker>>,
    ) -> Self {
        let shared = Shared {
            store,
            hashes: Arc::new(HashPool::new(options.hash_threads)),
            counters: Arc::default(),
            options,
            tracker,
            sharing: Arc::default(),
            ending: CancellationToken::new(),
        };
        let tasks = TaskTracker::new();
        let checks = Checks::new(
            shared.store.clone(),
            shared.options.hash_threads,
            tasks.clone(),
            shared.ending.clone(),
        );
        Self {
            inner: Arc::new(Inner {
                shared,
                flights: Mutex::default(),
                landed: Mutex::default(),
                tasks,
                checks,
            }),
        }
    }

    /// The blob if it is complete. Takes microseconds, asks nobody; a file that is not trusted is
    /// checked when it is read.
    pub fn held(&self, digest: &Digest) -> Option<BlobReader> {
        let blob = self.inner.shared.store.open(digest)?;
        let held = Held::new(blob, self.inner.checks.clone());
        Some(BlobReader::of_held(held))
    }

    /// Joins or starts the flight of (scope, digest), or opens the held blob.
    ///
    /// Resolves when the blob's size is known (with a source's first head), not when bytes are
    /// there. Until then failures of one source are made good by the next reader's. Dropping the
    /// future leaves the flight.
    ///
    /// # Errors
    /// [`ReadError::Unsatisfiable`] when `want.first` lies beyond the end, else the error of this
    /// reader's own source if it was asked, else of the last source asked.
    pub async fn read(&self, want: Want) -> Result<BlobReader, ReadError> {
        for _ in 0..LOOKS_MAX {
            if let Some(held) = self.held(&want.digest) {
                let total = held.total();
                let satisfiable = want.first.resolve(total).is_some();
                return satisfiable
                    .then_some(held)
                    .ok_or(ReadError::Unsatisfiable { total });
            }
            if self.inner.shared.ending.is_cancelled() {
                return Err(ReadError::ShutDown);
            }
            let board = self.board_of(&want);
            if let Some(answer) = self.read_from(board, &want).await {
                return answer;
            }
        }
        let why = "flights ended too often before they began";
        Err(ReadError::Source(SourceError::unavailable(why)))
    }

    /// A flight of its own for a reader that a shared one cannot serve from bounded memory.
    pub(crate) async fn read_apart(
        &self,
        mut want: Want,
        range: Range<u64>,
        total: u64,
    ) -> Result<BlobReader, ReadError> {
        want.first = match range.end > total.saturating_sub(WITHHELD_TAIL) {
            true => FetchRange::All,
            false => FetchRange::Span(range),
        };
        let board = Arc::new(Board::new());
        self.launch(&want, board.clone(), Purpose::PassBy, || ());
        let answer = self.read_from(board, &want).await;
        answer.unwrap_or(Err(ReadError::ShutDown))
    }

    /// `None` if the flight ended without an answer.
    async fn read_from(
        &self,
        board: Arc<Board>,
        want: &Want,
    ) -> Option<Result<BlobReader, ReadError>> {
        let reader = board.join(want)?;
        let seat = Seat::new(board, reader);
        match seat.answer().await {
            Answer::Admitted(how) => Some(Ok(BlobReader::of_flight(
                self.clone(),
                want.clone(),
                seat,
                how,
            ))),
            Answer::Refused(error) => Some(Err(error)),
            Answer::Waiting | Answer::Gone => None,
        }
    }

    fn board_of(&self, want: &Want) -> Arc<Board> {
        let key = (want.scope.clone(), want.digest);
        let mut flights = self.inner.lock_flights();
        if let Some(board) = flights.get(&key) {
            let joined = &self.inner.shared.counters.flights_joined;
            joined.fetch_add(1, Ordering::Relaxed);
            return board.clone();
        }
        let board = Arc::new(Board::new());
        flights.insert(key.clone(), board.clone());
        drop(flights);
        let landing = Landing {
            inner: self.inner.clone(),
            key,
        };
        self.launch(want, board.clone(), Purpose::Keep, move || drop(landing));
        board
    }

    fn launch(
        &self,
        want: &Want,
        board: Arc<Board>,
        purpose: Purpose,
        landed: impl FnOnce() + Send + 'static,
    ) {
        let shared = self.inner.shared.clone();
        let flight = Flight::new(shared, want, purpose, board);
        self.inner.tasks.spawn(flight.fly(landed));
    }

    /// Lets other nodes have this blob from here: upstream serves it to anybody.
    pub fn share(&self, digest: &Digest) {
        self.inner.shared.sharing.add(digest);
    }

    /// What is here of a blob that is shared, held or on its way. Asks nobody.
    ///
    /// A held blob that is not trusted is offered while it is checked: whoever takes a piece has its
    /// BLAKE3 digest, or holds it as provisional until the whole digest fits.
    pub fn offer(&self, digest: &Digest) -> Option<Offer> {
        let shared = &self.inner.shared;
        if !shared.sharing.contains(digest) {
            return None;
        }
        if let Some(held) = shared.store.open(digest) {
            if !held.is_trusted() {
                self.inner.checks.start(&held);
            }
            return Some(Offer::of_held(held));
        }
        let boards: Vec<_> = {
            let flights = self.inner.lock_flights();
            let of_digest = flights.iter().filter(|((_, of), _)| of == digest);
            of_digest.map(|(_, board)| board.clone()).collect()
        };
        if boards.is_empty() {
            // Neither held nor coming: it was evicted.
            shared.sharing.remove(digest);
            if let Some(tracker) = &shared.tracker {
                tracker.gone(digest);
            }
        }
        boards.into_iter().find_map(Offer::of_flight)
    }

    /// The flights under way and then the last that ended, newest first, for people to look at.
    pub fn flights(&self) -> Vec<FlightView> {
        let mut views: Vec<FlightView> = {
            let flights = self.inner.lock_flights();
            let view = |(key, board): (&Key, &Arc<Board>)| FlightView::of(key, board, false);
            flights.iter().map(view).collect()
        };
        views.extend(self.inner.lock_landed().iter().rev().cloned());
        views
    }

    /// Ends all flights (their readers end with [`ReadError::ShutDown`]; what has arrived stays in
    /// the store for next time) and waits until no task of the engine is left. Its hash threads end
    /// with the last clone of the engine and the last reader.
    pub async fn shutdown(&self) {
        self.inner.shared.ending.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Counts since the start.
    pub fn stats(&self) -> EngineStats {
        self.inner.shared.counters.snapshot()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Inner {
    fn lock_flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_landed(&self) -> MutexGuard<'_, VecDeque<FlightView>> {
        self.landed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a flight off the table when it is over, however its task ends.
struct Landing {
    inner: Arc<Inner>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let board = self.inner.lock_flights().remove(&self.key);
        let Some(board) = board else { return };
        let view = FlightView::of(&self.key, &board, true);
        let mut landed = self.inner.lock_landed();
        if landed.len() == LANDED_MAX {
            landed.pop_front();
        }
        landed.push_back(view);
    }
}

/// A flight as it was a moment ago, or when it ended.
#[derive(Clone, Debug)]
pub struct FlightView {
    /// The registry.
    pub scope: FlightScope,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes, once known.
    pub total: Option<u64>,
    /// Bytes of it that are stored.
    pub present: u64,
    /// Whether it has ended.
    pub over: bool,
    came: [u64; Origin::ALL.len()],
}

impl FlightView {
    fn of((scope, digest): &Key, board: &Board, over: bool) -> Self {
        Self {
            scope: scope.clone(),
            digest: *digest,
            total: board.stocked_total(),
            present: board.stocked().covered_len(),
            over,
            came: board.came(),
        }
    }

    /// Body bytes that came from sources of this kind, also those thrown away.
    pub fn came(&self, origin: Origin) -> u64 {
        self.came[origin as usize]
    }
}

/// Counts since the engine was made, and how many flights there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    fetched_bytes: [u64; Origin::ALL.len()],
    /// Flights that had to ask a source.
    pub flights_started: u64,
    /// Reads that found a flight under way.
    pub flights_joined: u64,
    /// Fetches that went on where another one had ended too early.
    pub resumed: u64,
    /// Blobs whose bytes did not have their digest.
    pub wrong_digests: u64,
    /// Flights that could not store and passed bytes through memory.
    pub passed_through: u64,
    /// Flights under way.
    pub flights_in_progress: u64,
}

impl EngineStats {
    /// Body bytes received from sources of this kind, also those thrown away.
    pub fn fetched_bytes(&self, origin: Origin) -> u64 {
        self.fetched_bytes[origin as usize]
    }
}

/// The living counters behind [`EngineStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    fetched_bytes: [AtomicU64; Origin::ALL.len()],
    pub(crate) flights_started: AtomicU64,
    pub(crate) flights_joined: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) wrong_digests: AtomicU64,
    pub(crate) passed_through: AtomicU64,
    pub(crate) flights_in_progress: AtomicU64,
}

impl Counters {
    pub(crate) fn fetched(&self, origin: Origin, len: u64) {
        self.fetched_bytes[origin as usize].fetch_add(len, Ordering::Relaxed);
    }

    fn snapshot(&self) -> EngineStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            fetched_bytes: [0, 1, 2].map(|origin| read(&self.fetched_bytes[origin])),
            flights_started: read(&self.flights_started),
            flights_joined: read(&self.flights_joined),
            resumed: read(&self.resumed),
            wrong_digests: read(&self.wrong_digests),
            passed_through: read(&self.passed_through),
            flights_in_progress: read(&self.flights_in_progress),
        }
    }
}
