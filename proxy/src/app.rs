//! One node: built from its configuration, run until told to stop.
//!
//! Building opens everything that can fail (folder, store, catalog, ports), so that a wrong set-up
//! is one sentence and a hint before anything is served. Running owns every task; it ends when the
//! shutdown was asked for and the last response has gone, or the drain is over.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use swarm::store::{DiskStore, OpenError, Options};
use swarm::{Attendance, BlobStore, Engine, EngineOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, About, Pages};
use crate::attending::{self, Attending};
use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, ConfigError};
use crate::front::{Front, Parts, unix_now};
use crate::handler;
use crate::http;
use crate::manifests::Owners;
use crate::metrics::Metrics;
use crate::peers::{self, GiveOptions, Giver, Peers};
use crate::seed::Seed;
use crate::upstream::{UpstreamConfigError, Upstreams};

const CATALOG_FILE: &str = "catalog.redb";
/// How often what was learned goes to disk: what a crash forgets at most.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long the catalog remembers what is not seen again, in seconds.
const REMEMBER_SECONDS: u64 = 90 * 24 * 3600;
/// How long the engine's flights may take to end after the last response.
const ENGINE_GRACE: Duration = Duration::from_secs(5);

/// Why a node cannot start. Printed, it says what, with what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A value that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A registry's entry.
    #[error("registries: {0}")]
    Registries(#[from] UpstreamConfigError),
    /// A port.
    #[error("cannot listen on {address}: {cause}\nhint: {}", listen_hint(.cause))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// The data folder.
    #[error("cannot use the data folder {}: {cause}\nhint: {}", .path.display(), folder_hint(.cause))]
    DataDir {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Two nodes on one folder.
    #[error("the data folder {} is in use by another darner\nhint: stop that one, or give this one its own --data-dir", .path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The catalog.
    #[error("{0}\nhint: move this file away; it only remembers what can be asked again")]
    Catalog(CatalogError),
}

fn listen_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "another process has this port (is darner running already?); stop it or give another with --listen, --admin or --peer-listen"
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need root; give a higher one",
        _ => "give another address with --listen, --admin or --peer-listen",
    }
}

fn folder_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "give a folder that this user may write with --data-dir",
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; give another folder with --data-dir"
        }
        io::ErrorKind::StorageFull => "the disk is full; make room or give another --data-dir",
        _ => "give a folder on a local disk with --data-dir",
    }
}

/// Why a node ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A bug: the node was stopped because of it.
    #[error("a task of the node panicked: {0}")]
    Panicked(tokio::task::JoinError),
}

/// The addresses that were bound, with the ports that port 0 became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addrs {
    /// The registry front door.
    pub listen: Vec<SocketAddr>,
    /// The admin port.
    pub admin: SocketAddr,
    /// The control port, where there is one.
    pub control: Option<SocketAddr>,
    /// Where other nodes get pieces, if this node is in a swarm.
    pub peer: Option<SocketAddr>,
}

/// A task that a node runs beside its own, until the token is cancelled; the node ends with it.
pub type Beside = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// A node that is ready to run.
pub struct App {
    config: Config,
    front: Arc<Front>,
    listeners: Vec<TcpListener>,
    admin: Option<TcpListener>,
    control: Option<TcpListener>,
    peer: Option<TcpListener>,
    beside: Vec<Beside>,
    at_control: Option<Beside>,
    giver: Arc<Giver>,
    peers: Peers,
    attending: Option<Attending>,
    addrs: Addrs,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("App");
        text.field("addrs", &self.addrs).finish_non_exhaustive()
    }
}

impl App {
    /// Opens the folder and the ports. Must be called within a tokio runtime; blocks for the disk.
    ///
    /// # Errors
    /// [`BuildError`] for the first thing that does not work.
    pub fn build(config: Config) -> Result<Self, BuildError> {
        config.check()?;
        let mut registries = config.registries.clone();
        registries.ratelimit = config.ratelimit;
        let upstreams = Upstreams::build(&registries)?;
        let listeners: Vec<TcpListener> = config
            .listen
            .iter()
            .map(|address| bind(*address))
            .collect::<Result<_, _>>()?;
        let admin = bind(config.admin)?;
        let control = config.control.map(bind).transpose()?;
        let peer = peers::listen_at(&config).map(bind).transpose()?;
        let addrs = Addrs {
            listen: listeners.iter().map(bound).collect::<Result<_, _>>()?,
            admin: bound(&admin)?,
            control: control.as_ref().map(bound).transpose()?,
            peer: peer.as_ref().map(bound).transpose()?,
        };
        let store = open_store(&config)?;
        let catalog = open_catalog(&config)?;
        let options = EngineOptions {
            head: config.limits.head,
            ..EngineOptions::default()
        };
        let peers = Peers::new(upstreams.ratelimit());
        let attending = addrs.peer.map(|at| Attending::start(&config, at, &peers));
        let attendance = attending.as_ref().map(Attending::attendance);
        let engine = match attendance.clone() {
            Some(tracker) => Engine::in_swarm(store.clone(), options, tracker),
            None => Engine::new(store.clone(), options),
        };
        let metrics = metrics(store.clone(), engine.clone(), attendance.clone());
        let giving = GiveOptions {
            upload_limit: config.upload_limit,
            ..GiveOptions::default()
        };
        let giver = Arc::new(Giver::new(engine.clone(), metrics.clone(), giving));
        let front = Front::new(Parts {
            upstreams,
            engine,
            store,
            catalog: Arc::new(catalog),
            metrics,
            trust: config.trust,
            limits: config.limits,
            challenge_ping: config.challenge_ping,
            read_only: config.read_only,
            giver: config.seed.then(|| giver.clone()),
            owners: attendance
                .map(|them| Owners::new(Box::new(move |digest| them.seed_of(digest)))),
        });
        Ok(Self {
            config,
            front: Arc::new(front),
            listeners,
            admin: Some(admin),
            control,
            peer,
            beside: Vec::new(),
            at_control: None,
            giver,
            peers,
            attending,
            addrs,
        })
    }

    /// Where it listens.
    pub fn addrs(&self) -> &Addrs {
        &self.addrs
    }

    /// Runs a task from the start until the shutdown begins.
    pub fn run_beside(&mut self, task: Beside) {
        self.beside.push(task);
    }

    /// Gives away the control port, or the admin port if that is the only one. `serve` has it and
    /// shows [`App::pages`] there, until the last response of the front door has gone.
    pub fn give_control(&mut self, serve: impl FnOnce(TcpListener) -> Beside) {
        if let Some(listener) = self.control.take().or_else(|| self.admin.take()) {
            self.at_control = Some(serve(listener));
        }
    }

    /// How a supernode reads what it shares.
    pub fn seed(&self) -> Seed {
        Seed::new(self.front.clone())
    }

    /// The admin port's pages, for a port of another's.
    pub fn pages(&self) -> Pages {
        let pages = Pages::new(self.about(), self.front.metrics.clone())
            .with_flights(self.front.engine.clone());
        let Some(attending) = &self.attending else {
            return pages;
        };
        let tell = attending.teller();
        pages.with_swarm(move || serde_json::to_value(tell()).unwrap_or_default())
    }

    /// Serves until `shutdown`, then lets responses end for at most the configured drain.
    ///
    /// # Errors
    /// When a task panicked; everything else was shut down in order then.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let metrics = self.front.metrics.clone();
        // The admin port stays until the last response has gone, to be asked about the drain.
        let drained = CancellationToken::new();
        let mut admin = JoinSet::new();
        let pages = self.pages();
        for listener in [self.admin, self.control].into_iter().flatten() {
            admin.spawn(admin::run(listener, pages.clone(), drained.clone()));
        }
        if let Some(serve) = self.at_control {
            admin.spawn(serve(drained.clone()));
        }
        let limits = http::Limits {
            max_connections: self.config.limits.connections,
            drain: self.config.drain,
            ..http::Limits::default()
        };
        let mut serving = JoinSet::new();
        for task in self.beside {
            serving.spawn(task(shutdown.clone()));
        }
        for listener in self.listeners {
            let front = self.front.clone();
            let service = move |request, client| handler::answer(front.clone(), request, client);
            let (limits, traffic) = (limits.clone(), metrics.traffic());
            serving.spawn(http::serve(
                listener,
                service,
                limits,
                traffic,
                shutdown.clone(),
            ));
        }
        if let Some(listener) = self.peer {
            let giver = self.giver;
            let service = move |request, _| giver.clone().answer(request);
            let traffic = Arc::<http::Traffic>::default();
            let shutdown = shutdown.clone();
            serving.spawn(http::serve(listener, service, limits, traffic, shutdown));
        }
        serving.spawn(self.peers.tidy(shutdown.clone()));
        // Left only when the last transfer has ended: it may need the others until then.
        let stayed = self.attending.map(|mut attending| {
            let (stays, stayed) = oneshot::channel();
            let (front, shutdown) = (self.front.clone(), shutdown.clone());
            serving.spawn(async move {
                attending.run(front, shutdown).await;
                // The other end is gone only if the node was dropped.
                let _ = stays.send(attending);
            });
            stayed
        });
        serving.spawn(keep_catalog(self.front.catalog.clone(), shutdown.clone()));
        serving.spawn(tell_ready(metrics, shutdown.clone()));
        let served = ended(&mut serving, &shutdown).await;
        drained.cancel();
        let administered = ended(&mut admin, &shutdown).await;
        let closed = close(self.front).await;
        if let Some(stayed) = stayed
            && let Ok(attending) = stayed.await
        {
            attending.end().await;
        }
        served.and(administered).and(closed)
    }

    fn about(&self) -> About {
        let registries = self.front.upstreams.configured();
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: self.addrs.listen.clone(),
            registries: registries.map(ToString::to_string).collect(),
        }
    }
}

fn metrics(
    store: Arc<dyn BlobStore>,
    engine: Engine,
    attendance: Option<Arc<Attendance>>,
) -> Arc<Metrics> {
    let probe = Box::new(move || (store.usage(), engine.stats()));
    match attendance {
        Some(attendance) => {
            Metrics::in_swarm(probe, Box::new(move || attending::counts(&attendance)))
        }
        None => Metrics::new(probe),
    }
}

/// Waits for all; a panic of one asks the others to end, so that a supervisor starts anew.
async fn ended(tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<(), RunError> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            shutdown.cancel();
            outcome = Err(RunError::Panicked(error));
        }
    }
    outcome
}

/// Ends the transfers, makes the catalog durable and closes the store.
async fn close(front: Arc<Front>) -> Result<(), RunError> {
    let engine = front.engine.clone();
    let transfers = tokio::time::timeout(ENGINE_GRACE, engine.shutdown());
    if transfers.await.is_err() {
        tracing::warn!("transfers did not end in time");
    }
    drop(engine);
    let close = move || {
        front.catalog.flush();
        drop(front);
    };
    let closed = tokio::task::spawn_blocking(close).await;
    closed.map_err(RunError::Panicked)
}

async fn tell_ready(metrics: Arc<Metrics>, shutdown: CancellationToken) {
    metrics.set_ready(true);
    shutdown.cancelled().await;
    metrics.set_ready(false);
}

fn bind(address: SocketAddr) -> Result<TcpListener, BuildError> {
    http::bind(address).map_err(|cause| BuildError::Listen { address, cause })
}

fn bound(listener: &TcpListener) -> Result<SocketAddr, BuildError> {
    listener.local_addr().map_err(|cause| BuildError::Listen {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        cause,
    })
}

fn open_catalog(config: &Config) -> Result<Catalog, BuildError> {
    let path = config.data_dir.join(CATALOG_FILE);
    let catalog = Catalog::open(&path).map_err(|error| match error {
        CatalogError::InUse(_) => BuildError::InUse {
            path: config.data_dir.clone(),
        },
        CatalogError::Io { path, cause } => BuildError::DataDir { path, cause },
        broken @ CatalogError::Broken { .. } => BuildError::Catalog(broken),
    })?;
    catalog.prune(unix_now().saturating_sub(REMEMBER_SECONDS));
    Ok(catalog)
}

fn open_store(config: &Config) -> Result<Arc<dyn BlobStore>, BuildError> {
    let limits = swarm::Limits::cap(config.cache_size);
    let mut options = Options::new(&config.data_dir, limits);
    options.min_free = config.min_free;
    let store = DiskStore::open(options).map_err(|error| match error {
        OpenError::Locked(path) => BuildError::InUse { path },
        OpenError::Io { path, source } => BuildError::DataDir {
            path,
            cause: source,
        },
    })?;
    Ok(Arc::new(store))
}

/// Makes what was learned durable, every now and then and at the end.
async fn keep_catalog(catalog: Arc<Catalog>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(FLUSH_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if catalog.is_dirty() {
            let catalog = catalog.clone();
            // A failure was logged where it happened; a panic shows at the next flush.
            let _ = tokio::task::spawn_blocking(move || catalog.flush()).await;
        }
    }
}
