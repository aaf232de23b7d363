//! A supernode before a scripted registry, and nodes that say what they are told to say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use oci::Digest;
use oci_conformance::Origin;
use proxy::upstream::{EndpointConfig, RegistryConfig};
use supernode::{App, Config, SwarmStatus};
use swarm::tracker::{Membership, Report, Wish, Word};
use swarm::{
    AttendOptions, Attendance, ByteSet, FetchRange, Fetched, Layout, Peer, PeerId, PeerMaker,
    PieceDigest, PieceSource, Preheat, SourceError, SupernodeStatus, Tracker as _,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("it takes too long")
}

/// The name of the registry that the supernode knows.
pub const REGISTRY: &str = "registry.test";

pub struct Supernode {
    pub control: SocketAddr,
    pub listen: SocketAddr,
    app: Arc<dyn Fn() -> SwarmStatus + Send + Sync>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), proxy::RunError>>,
    _folder: tempfile::TempDir,
}

pub fn registry(origin: &Origin) -> RegistryConfig {
    RegistryConfig {
        name: REGISTRY.to_owned(),
        endpoints: vec![EndpointConfig::at(origin.url())],
        ..RegistryConfig::default()
    }
}

impl Supernode {
    pub fn start(origin: &Origin) -> Self {
        Self::with(registry(origin), |_| ())
    }

    pub fn with(registry: RegistryConfig, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut node = proxy::Config {
            listen: vec![loopback],
            admin: loopback,
            data_dir: folder.path().to_owned(),
            drain: Duration::from_secs(5),
            min_free: proxy::config::MinFree::Bytes(0),
            seed: true,
            ..proxy::Config::default()
        };
        node.registries.public = false;
        node.registries.registries.push(registry);
        let mut config = Config {
            node,
            ..Config::default()
        };
        change(&mut config);
        let app = App::build(config).unwrap();
        let shutdown = CancellationToken::new();
        Self {
            control: app.addrs().admin,
            listen: app.addrs().listen[0],
            app: Arc::new(app.look()),
            task: tokio::spawn(app.run(shutdown.clone())),
            shutdown,
            _folder: folder,
        }
    }

    pub fn status(&self) -> SwarmStatus {
        (self.app)()
    }

    /// Waits until the status is good.
    pub async fn until(&self, good: impl Fn(&SwarmStatus) -> bool) -> SwarmStatus {
        soon(async {
            let mut looks = tokio::time::interval(Duration::from_millis(5));
            loop {
                let status = self.status();
                if good(&status) {
                    return status;
                }
                looks.tick().await;
            }
        })
        .await
    }

    /// Shuts down in order.
    pub async fn stop(self) {
        self.shutdown.cancel();
        soon(self.task).await.unwrap().unwrap();
    }
}

/// The head and body of an answer, as they came.
pub async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, "GET", path).await
}

/// The head of an answer.
pub async fn head(address: SocketAddr, path: &str) -> String {
    ask(address, "HEAD", path).await
}

/// The head of an answer, and its body.
pub async fn fetch(address: SocketAddr, path: &str) -> (String, bytes::Bytes) {
    let answer = bytes::Bytes::from(ask_raw(address, "GET", path).await);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("a head") + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head, answer.slice(end..))
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> String {
    String::from_utf8(ask_raw(address, method, path).await).unwrap()
}

async fn ask_raw(address: SocketAddr, method: &str, path: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(socket.read_to_end(&mut answer)).await.unwrap();
    answer
}

/// A node whose flights are played by the test.
pub struct Node {
    pub attendance: Arc<Attendance>,
    pub preheats: mpsc::Receiver<Preheat>,
    shutdown: CancellationToken,
    /// Its peer port, at which connections are taken in and nothing is said.
    pub port: TcpListener,
}

impl Node {
    /// One that attends, and knows that its address was checked.
    pub async fn attending(supernode: &Supernode, advertise: Option<&str>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = AttendOptions {
            supernodes: vec![supernode.control.to_string()],
            name: "node".to_owned(),
            advertise: advertise.map(str::to_owned),
            peer_port: port.local_addr().unwrap().port(),
            zone: String::new(),
            rack: String::new(),
            peers: Arc::new(Maker),
        };
        let shutdown = CancellationToken::new();
        let (attendance, preheats) = Attendance::start(options, &shutdown);
        let node = Self {
            attendance,
            preheats,
            shutdown,
            port,
        };
        node.until(|one| one.live && one.ours.is_some() && one.theirs.is_some())
            .await;
        node
    }

    pub async fn until(&self, good: impl Fn(&SupernodeStatus) -> bool) {
        soon(self.attendance.until(|all| good(&all[0]))).await;
    }

    pub fn join(&self, digest: &Digest, repository: &str) -> Flight {
        self.join_at(REGISTRY, digest, repository)
    }

    pub fn join_at(&self, registry: &str, digest: &Digest, repository: &str) -> Flight {
        let wish = Wish {
            digest: *digest,
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            present: None,
            reading_at: 0,
        };
        Flight::of(self.attendance.join(wish).unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A flight that does what it is told, on paper.
pub struct Flight {
    membership: Membership,
    pub layout: Option<Layout>,
    pub digests: Vec<Option<PieceDigest>>,
    pub mates: Vec<String>,
    /// From whom each piece was fetched, by address.
    pub came_from: Vec<Option<String>>,
    pub heard: bool,
}

impl Flight {
    fn of(membership: Membership) -> Self {
        Self {
            membership,
            layout: None,
            digests: Vec::new(),
            mates: Vec::new(),
            came_from: Vec::new(),
            heard: false,
        }
    }

    pub async fn next(&mut self) -> Word {
        let word = soon(self.membership.words.recv()).await;
        word.expect("the membership ended without a last word")
    }

    pub fn say(&self, report: Report) {
        self.membership.reports.say(report);
    }

    /// Takes a word in; obeys instructions at once. False for the last word.
    pub fn take(&mut self, word: Word) -> bool {
        match word {
            Word::Heard => self.heard = true,
            Word::Accepted(layout) => {
                self.layout = Some(layout);
                self.digests = vec![None; layout.count() as usize];
                self.came_from = vec![None; layout.count() as usize];
            }
            Word::Pieces(pieces) => {
                for (piece, digest) in pieces {
                    self.digests[piece.get() as usize] = Some(digest);
                }
            }
            Word::Mates(mates) => {
                self.mates
                    .extend(mates.iter().map(|mate| mate.name().to_owned()));
            }
            Word::Fetch(list) => {
                for one in list {
                    let came = &mut self.came_from[one.piece.get() as usize];
                    if came.is_none() {
                        *came = Some(one.from.name().to_owned());
                        self.say(Report::Got {
                            piece: one.piece,
                            from: Some(one.from.id().clone()),
                        });
                    }
                }
            }
            Word::Refused { .. } | Word::Lost => return false,
        }
        true
    }

    /// Flies until `landed`, or to a last word.
    pub async fn fly(&mut self, landed: impl Fn(&Self) -> bool) {
        while !landed(self) {
            let word = self.next().await;
            let text = format!("{word:?}");
            assert!(self.take(word), "{text}");
        }
    }

    /// All pieces and their digests.
    pub async fn fly_home(&mut self) {
        self.fly(|flight| {
            flight.layout.is_some()
                && flight.came_from.iter().all(Option::is_some)
                && flight.digests.iter().all(Option::is_some)
        })
        .await;
        self.say(Report::Complete);
    }

    /// The reason of a refusal, which must come.
    pub async fn refusal(&mut self) -> String {
        loop {
            match self.next().await {
                Word::Refused { why } => return why,
                Word::Heard => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn pieces_from(&self, address: &str) -> usize {
        let from = self.came_from.iter().flatten();
        from.filter(|from| *from == address).count()
    }
}

#[derive(Debug)]
struct NamedPeer {
    id: PeerId,
    origin: swarm::Origin,
    address: String,
}

impl PieceSource for NamedPeer {
    fn origin(&self) -> swarm::Origin {
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
        Box::pin(async { Err(SourceError::unavailable("on paper only")) })
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
    fn peer(&self, id: PeerId, origin: swarm::Origin, address: &str) -> Arc<dyn Peer> {
        let address = address.to_owned();
        Arc::new(NamedPeer {
            id,
            origin,
            address,
        })
    }
}
