//! A supernode of which the test says every word, and peers that only have a name.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _, stream};
use oci::Digest;
use swarm::attend::AttendOptions;
use swarm::tracker::{Membership, Wish, Word};
use swarm::wire::swarm_server::{Swarm, SwarmServer};
use swarm::wire::{
    Accepted, Alive, NodeSays, PreheatProgress, PreheatRequest, SupernodeSays, Welcome, node_says,
    supernode_says,
};
use swarm::{
    Attendance, ByteSet, FetchRange, Fetched, Layout, Origin, Peer, PeerId, PeerMaker, PieceSource,
    Preheat, SourceError, Tracker as _,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Longer than anything here may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for `future`, which must not take long.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.expect("it takes too long")
}

type Says = Result<SupernodeSays, Status>;

/// Listens as a supernode; the test holds the other end of each stream.
pub struct FakeSupernode {
    pub address: SocketAddr,
    streams: mpsc::Receiver<FakeStream>,
    shutdown: CancellationToken,
}

/// A node's stream, as the supernode has it. Dropping it breaks it.
pub struct FakeStream {
    said: Streaming<NodeSays>,
    says: mpsc::Sender<Says>,
}

struct Service(mpsc::Sender<FakeStream>);

#[tonic::async_trait]
impl Swarm for Service {
    type AttendStream = Pin<Box<dyn Stream<Item = Says> + Send>>;
    type PreheatStream = Pin<Box<dyn Stream<Item = Result<PreheatProgress, Status>> + Send>>;

    async fn attend(
        &self,
        request: Request<Streaming<NodeSays>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let (says, outgoing) = mpsc::channel(4096);
        let said = request.into_inner();
        let _ = self.0.send(FakeStream { said, says }).await;
        let outgoing = stream::unfold(outgoing, async |mut outgoing| {
            Some((outgoing.recv().await?, outgoing))
        });
        Ok(Response::new(outgoing.boxed()))
    }

    async fn preheat(
        &self,
        _: Request<PreheatRequest>,
    ) -> Result<Response<Self::PreheatStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

impl FakeSupernode {
    pub fn start() -> Self {
        let (streams, attended) = mpsc::channel(16);
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = incoming.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let ends = shutdown.clone().cancelled_owned();
        let server = Server::builder().add_service(SwarmServer::new(Service(streams)));
        tokio::spawn(server.serve_with_incoming_shutdown(incoming, ends));
        Self {
            address,
            streams: attended,
            shutdown,
        }
    }

    /// The next node's stream, after its hello was answered.
    pub async fn attended(&mut self, name: &str) -> FakeStream {
        let here = self.address.to_string();
        self.attended_at(name, here).await
    }

    /// The same of a supernode that says where it serves bytes.
    pub async fn attended_at(&mut self, name: &str, bytes_address: String) -> FakeStream {
        let mut stream = soon(self.streams.recv()).await.unwrap();
        let hello = stream.hears().await;
        assert!(matches!(hello, node_says::Word::Hello(_)), "{hello:?}");
        let welcome = Welcome {
            supernode: name.to_owned(),
            bytes_address,
            seen_as: "127.0.0.1".to_owned(),
        };
        stream.say(supernode_says::Word::Welcome(welcome)).await;
        stream
    }
}

impl Drop for FakeSupernode {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl FakeStream {
    pub async fn say(&self, word: supernode_says::Word) {
        soon(self.says.send(Ok(word.into()))).await.unwrap();
    }

    /// What the node says next, signs of life aside.
    pub async fn hears(&mut self) -> node_says::Word {
        loop {
            let said = soon(self.said.message()).await.unwrap();
            let word = said.expect("the node ended its stream").word.unwrap();
            if !matches!(word, node_says::Word::Alive(_)) {
                return word;
            }
        }
    }

    /// The next word that `wanted` takes; others are passed over.
    pub async fn hears_of<T>(&mut self, wanted: impl Fn(node_says::Word) -> Option<T>) -> T {
        loop {
            if let Some(word) = wanted(self.hears().await) {
                return word;
            }
        }
    }

    pub async fn hears_want(&mut self) -> swarm::wire::Want {
        self.hears_of(|word| match word {
            node_says::Word::Want(want) => Some(want),
            _ => None,
        })
        .await
    }

    /// Speaks now and then, until the result is dropped.
    pub fn keep_alive(&self) -> KeptAlive {
        let says = self.says.downgrade();
        let speaking = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                let alive = supernode_says::Word::Alive(Alive {});
                let Some(says) = says.upgrade() else { return };
                let _ = says.send(Ok(alive.into())).await;
            }
        });
        KeptAlive(speaking)
    }
}

pub struct KeptAlive(tokio::task::JoinHandle<()>);

impl Drop for KeptAlive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A peer that has nothing.
#[derive(Debug)]
pub struct NamedPeer {
    id: PeerId,
    origin: Origin,
    address: String,
}

impl PieceSource for NamedPeer {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn name(&self) -> &str {
        &self.address
    }

    fn fetch<'a>(
        &'a self,
        _: &'a Digest,
        _: FetchRange,
    ) -> BoxFuture<'a, Result<Fetched, SourceError>> {
        Box::pin(async { Err(SourceError::unavailable("it has nothing")) })
    }
}

impl Peer for NamedPeer {
    fn id(&self) -> &PeerId {
        &self.id
    }

    fn piece_source(&self, _: u64) -> Arc<dyn PieceSource> {
        Arc::new(Self {
            id: self.id.clone(),
            origin: self.origin,
            address: self.address.clone(),
        })
    }

    fn present<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<ByteSet, SourceError>> {
        Box::pin(async { Ok(ByteSet::new()) })
    }
}

struct Maker;

impl PeerMaker for Maker {
    fn peer(&self, id: PeerId, origin: Origin, address: &str) -> Arc<dyn Peer> {
        let address = address.to_owned();
        Arc::new(NamedPeer {
            id,
            origin,
            address,
        })
    }
}

/// A node that attends the given supernodes, and ends with this.
pub struct Node {
    pub attendance: Arc<Attendance>,
    pub preheats: mpsc::Receiver<Preheat>,
    pub shutdown: CancellationToken,
}

impl Node {
    pub fn attending(supernodes: &[String]) -> Self {
        let options = AttendOptions {
            supernodes: supernodes.to_vec(),
            name: "node".to_owned(),
            advertise: None,
            peer_port: 65003,
            zone: "here".to_owned(),
            rack: String::new(),
            peers: Arc::new(Maker),
        };
        let shutdown = CancellationToken::new();
        let (attendance, preheats) = Attendance::start(options, &shutdown);
        Self {
            attendance,
            preheats,
            shutdown,
        }
    }

    pub async fn until_live(&self, count: usize) {
        let live =
            |all: &[swarm::SupernodeStatus]| all.iter().filter(|one| one.live).count() == count;
        soon(self.attendance.until(live)).await;
    }

    pub fn join(&self, digest: &Digest) -> Option<Membership> {
        self.attendance.join(wish(digest))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub fn wish(digest: &Digest) -> Wish {
    Wish {
        digest: *digest,
        registry: "docker.io".to_owned(),
        repository: "library/thing".to_owned(),
        present: None,
        reading_at: 0,
    }
}

pub async fn next(membership: &mut Membership) -> Word {
    let word = soon(membership.words.recv()).await;
    word.expect("the membership ended without a last word")
}

pub fn accepted(flight: u32, layout: Layout) -> supernode_says::Word {
    supernode_says::Word::Accepted(Accepted {
        flight,
        total: layout.total(),
        piece_size: u32::try_from(layout.piece_size()).unwrap(),
    })
}
