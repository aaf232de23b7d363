//! Reading for the swarm: upstream is asked whether a blob is public, and the blob is read once, and
//! hashed piece by piece as its bytes arrive.
//!
//! Invariant: a piece's digest is told only of bytes that are in the seed's store. Deliberately not
//! here: when this is done, and for whom (the book).

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use oci::Digest;
use proxy::place::Place;
use proxy::{Seed, SeedRefusal};
use swarm::{BlobReader, BlobStream, How, Layout, PieceDigest, ReadError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::{Opened, Task};
use crate::leader::{Command, Preheat};

/// Pieces that are hashed in one go when all their bytes are there: at most 64 MiB.
const PIECES_AT_ONCE: usize = 16;

/// See the module. Its tasks end with the token.
#[derive(Clone, Debug)]
pub(crate) struct Seeding {
    pub(crate) seed: Seed,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) tasks: TaskTracker,
    pub(crate) ending: CancellationToken,
}

/// The leader is gone.
struct Gone;

impl Seeding {
    /// Does a task and tells the leader what came of it.
    pub(crate) fn start(&self, task: Task) {
        let this = self.clone();
        let ending = self.ending.clone();
        let run = async move {
            // Without a leader there is nobody to tell.
            let _ = this.run(task).await;
        };
        self.tasks.spawn(async move {
            ending.run_until_cancelled(run).await;
        });
    }

    /// Finds what an image consists of, and tells the leader, or whoever asked why it cannot.
    pub(crate) fn take_apart(&self, preheat: Box<Preheat>) {
        let this = self.clone();
        let ending = self.ending.clone();
        let run = async move {
            let image = this
                .seed
                .image(&preheat.name, preheat.platform.as_ref())
                .await;
            // Whoever is told may be gone.
            match image {
                Ok(image) => drop(this.tell(Command::Bring(image, preheat)).await),
                Err(refusal) => drop(preheat.answer.send(Err(refusal.into()))),
            }
        };
        self.tasks.spawn(async move {
            ending.run_until_cancelled(run).await;
        });
    }

    async fn run(&self, task: Task) -> Result<(), Gone> {
        match task {
            Task::Confirm(digest, place) => {
                let answer = match self.place(&place) {
                    Ok(place) => self.seed.confirm_public(&place, &digest).await,
                    Err(refusal) => Err(refusal),
                };
                if answer.is_ok() {
                    self.seed.engine().share(&digest);
                }
                let answer = answer.map(|()| Opened::Confirmed);
                self.opened(digest, place, answer).await.map(drop)
            }
            Task::Read(digest, place) => self.read(digest, place).await,
        }
    }

    async fn read(&self, digest: Digest, place: Place) -> Result<(), Gone> {
        let read = match self.place(&place) {
            Ok(place) => self.seed.read_public(&place, &digest).await,
            Err(refusal) => Err(refusal),
        };
        let reader = match read {
            Ok(reader) => reader,
            Err(refusal) => {
                return self.opened(digest, place, Err(refusal)).await.map(drop);
            }
        };
        self.seed.engine().share(&digest);
        let opened = Opened::Read {
            total: reader.total(),
            held: reader.how() == How::Held,
        };
        if self.opened(digest, place, Ok(opened)).await? {
            let outcome = self.feed(&digest, &reader).await?;
            let outcome = outcome.map_err(|error| error.to_string());
            return self.tell(Command::Fed { digest, outcome }).await;
        }
        Ok(())
    }

    fn place(&self, place: &Place) -> Result<Place, SeedRefusal> {
        self.seed
            .place(place.registry.as_str(), place.repository.as_str())
    }

    /// Whether the blob is to be read to its end.
    async fn opened(
        &self,
        digest: Digest,
        place: Place,
        answer: Result<Opened, SeedRefusal>,
    ) -> Result<bool, Gone> {
        let (feed, feeds) = oneshot::channel();
        let command = Command::Opened {
            digest,
            place,
            answer,
            feed,
        };
        self.tell(command).await?;
        feeds.await.map_err(|_| Gone)
    }

    /// Reads and hashes, piece by piece.
    async fn feed(
        &self,
        digest: &Digest,
        reader: &BlobReader,
    ) -> Result<Result<(), ReadError>, Gone> {
        let layout = Layout::of(reader.total());
        let mut bytes = Pieces::of(reader.stream(0..reader.total()), layout);
        let mut first = 0;
        while first < layout.count() as usize {
            let pieces = match bytes.next_few().await {
                Ok(pieces) => pieces,
                Err(error) => return Ok(Err(error)),
            };
            // A slice may lie in a file that is not in memory.
            let hashed = tokio::task::spawn_blocking(move || hash(&pieces)).await;
            let digests = hashed.map_err(|_| Gone)?;
            let count = digests.len();
            let command = Command::Pieces {
                digest: *digest,
                first,
                digests,
            };
            self.tell(command).await?;
            first += count;
        }
        Ok(Ok(()))
    }

    async fn tell(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }
}

/// The bytes of one piece, in parts, as they lie in the store.
type Parts = Vec<Bytes>;

fn hash(pieces: &[Parts]) -> Vec<PieceDigest> {
    let digest = |parts: &Parts| PieceDigest::of_parts(parts.iter().map(|part| &part[..]));
    pieces.iter().map(digest).collect()
}

/// Cuts a blob's stream into pieces without copying.
struct Pieces {
    stream: BlobStream,
    layout: Layout,
    /// Bytes of the next piece that are here, and what follows them.
    parts: Parts,
    gathered: u64,
    rest: Bytes,
    next: u32,
}

impl Pieces {
    fn of(stream: BlobStream, layout: Layout) -> Self {
        Self {
            stream,
            layout,
            parts: Vec::new(),
            gathered: 0,
            rest: Bytes::new(),
            next: 0,
        }
    }

    /// The next piece, and those after it whose bytes are here already. Dropping the future loses
    /// nothing of what has come.
    async fn next_few(&mut self) -> Result<Vec<Parts>, ReadError> {
        let mut pieces = vec![self.next_piece().await?];
        while pieces.len() < PIECES_AT_ONCE && self.next < self.layout.count() {
            match self.next_piece().now_or_never() {
                Some(piece) => pieces.push(piece?),
                None => break,
            }
        }
        Ok(pieces)
    }

    async fn next_piece(&mut self) -> Result<Parts, ReadError> {
        let range = self
            .layout
            .piece(self.next)
            .map(|piece| self.layout.range(piece));
        let wanted = range.map_or(0, |range| range.end - range.start);
        while self.gathered < wanted {
            if self.rest.is_empty() {
                let slice = self.stream.next().await;
                let short = || ReadError::Storage("the blob ended early".to_owned());
                self.rest = slice.ok_or_else(short)??.bytes;
            }
            let missing = usize::try_from(wanted - self.gathered).unwrap_or(usize::MAX);
            let part = self.rest.split_to(missing.min(self.rest.len()));
            self.gathered += part.len() as u64;
            self.parts.push(part);
        }
        self.gathered = 0;
        self.next += 1;
        Ok(std::mem::take(&mut self.parts))
    }
}
