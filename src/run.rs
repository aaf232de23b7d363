//! `darner up`, `proxy` and `supernode`: from settings to a running node, and to its end.
//!
//! Invariant: the first SIGTERM or SIGINT drains, the second ends the process at once. Deliberately
//! not here: what a node does; that is `proxy::App`, and `supernode::App` around it.

use std::net::SocketAddr;

use proxy::upstream::UpstreamsConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::announce;
use crate::config::check::{unbound, unwritable};
use crate::config::key::Role;
use crate::config::settings::Settings;
use crate::failure::Failure;
use crate::speak::mention;

/// Runs until told to stop.
pub(crate) fn run(settings: &Settings, warnings: &[String]) -> Result<(), Failure> {
    log_to_stderr(&settings.log);
    for warning in warnings {
        warn!("{warning}");
    }
    warn_of_lent_accounts(settings);
    raise_open_files();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the runtime does not start: {error}")))?
        .block_on(serve(settings))
}

/// What the libraries are told.
pub(crate) fn node_config(settings: &Settings) -> proxy::Config {
    let mut listen = settings.listen.clone();
    let seed = |port| settings.swarm.map(|address| SocketAddr::new(address, port));
    listen.extend(seed(supernode::LISTEN_PORT));
    proxy::Config {
        listen,
        admin: settings.admin,
        control: seed(supernode::CONTROL_PORT),
        data_dir: settings.data_dir.clone(),
        registries: UpstreamsConfig {
            public: settings.public_registries,
            registries: settings.registries.values().cloned().collect(),
            ..UpstreamsConfig::default()
        },
        cache_size: settings.cache_size,
        min_free: settings.min_free,
        ratelimit: settings.ratelimit,
        trust: proxy::config::Trust {
            tag: settings.tag_ttl,
            grant: settings.grant_ttl,
            negative: settings.negative_ttl,
            public_memory: settings.public_memory,
            stale_tag: settings.stale_tag,
        },
        drain: settings.drain,
        challenge_ping: settings.challenge_ping,
        read_only: settings.read_only,
        supernodes: settings.supernodes.clone(),
        peer_listen: settings.peer_listen,
        advertise: settings.advertise.clone(),
        zone: settings.zone.clone(),
        rack: settings.rack.clone(),
        upload_limit: settings.upload_limit,
        seed: settings.leads(),
        ..proxy::Config::default()
    }
}

/// The supernode's own checks and the node's, without opening anything.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let node = node_config(settings);
    node.check().map_err(|error| broken(&error, 2))?;
    proxy::upstream::Upstreams::build(&node.registries)
        .map_err(|error| broken(&error, 2))
        .map(drop)
}

enum App {
    Node(proxy::App),
    Supernode(supernode::App),
}

impl App {
    fn build(settings: &Settings) -> Result<Self, Failure> {
        let node = node_config(settings);
        let failed = |error| build_failure(settings, error);
        if !settings.leads() {
            return proxy::App::build(node).map(Self::Node).map_err(failed);
        }
        let config = supernode::Config {
            node,
            advertise: settings.advertise.clone(),
            ..supernode::Config::default()
        };
        match supernode::App::build(config) {
            Ok(app) => Ok(Self::Supernode(app)),
            Err(supernode::BuildError::Node(error)) => Err(failed(error)),
            Err(error @ supernode::BuildError::Advertise(_)) => Err(broken(&error, 2)),
        }
    }

    fn addrs(&self) -> &proxy::Addrs {
        match self {
            Self::Node(app) => app.addrs(),
            Self::Supernode(app) => app.addrs(),
        }
    }

    async fn run(self, shutdown: CancellationToken) -> Result<(), proxy::RunError> {
        match self {
            Self::Node(app) => app.run(shutdown).await,
            Self::Supernode(app) => app.run(shutdown).await,
        }
    }
}

async fn serve(settings: &Settings) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let app = App::build(settings)?;
    mention(announce::text(settings, app.addrs()));
    info!(listen = ?app.addrs().listen, admin = %app.addrs().admin, "serving");

    let shutdown = CancellationToken::new();
    let run = app.run(shutdown.clone());
    tokio::pin!(run);
    let outcome = tokio::select! {
        outcome = &mut run => outcome,
        never = signals.obey(&shutdown, settings) => match never {},
    };
    outcome.map_err(|error| {
        Failure::new(error.to_string()).hint("this is a fault in darner: please report it")
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(format!("signals cannot be received: {error}")))
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    /// The first signal asks for the end, the second is the end.
    async fn obey(
        mut self,
        shutdown: &CancellationToken,
        settings: &Settings,
    ) -> std::convert::Infallible {
        self.next().await;
        info!(
            drain_seconds = settings.drain.as_secs(),
            "stopping when the last response has gone; a second signal stops at once"
        );
        shutdown.cancel();
        let number = self.next().await;
        warn!("stopped at once");
        std::process::exit(128 + number);
    }

    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        kind.as_raw_value()
    }
}

fn log_to_stderr(filter: &str) {
    use std::io::IsTerminal as _;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        // Complaining there that nobody reads there would be a panic.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    // Only a second call could fail, and there is none.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The soft limit of open files, usually 1,024 for the sake of select(2), becomes the hard one: a
/// thousand connections and the open blobs are more. Where that is refused the node runs as before.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(?current, %error, "the limit of open files cannot be raised");
    }
}

/// An own account reads for whoever reaches the port.
fn warn_of_lent_accounts(settings: &Settings) {
    let open: Vec<SocketAddr> = node_config(settings)
        .listen
        .into_iter()
        .filter(|address| !address.ip().is_loopback())
        .collect();
    for (name, registry) in &settings.registries {
        if !registry.accounts.is_empty() && !open.is_empty() {
            warn!(
                registry = name.as_str(),
                ?open,
                "whoever reaches these addresses reads with this account what its repositories name"
            );
        }
    }
}

/// What the settings make impossible ends with 2, so that a supervisor does not try again; what may
/// pass (a port that another process is about to leave) with 1.
fn build_failure(settings: &Settings, error: proxy::BuildError) -> Failure {
    match error {
        proxy::BuildError::Config(_) | proxy::BuildError::Registries(_) => broken(&error, 2),
        proxy::BuildError::Listen { address, cause } => {
            let swarm = settings.swarm == Some(address.ip());
            let flag = match settings.role {
                Role::Supernode if address == settings.admin => "--control",
                _ if address == settings.admin => "--admin",
                _ if settings.peer_listen == Some(address) => "--peer-listen",
                _ if settings.listen.contains(&address) => "--listen",
                _ if swarm => "--swarm",
                _ => "--listen",
            };
            unbound(address, flag, &cause).exit(1)
        }
        proxy::BuildError::DataDir { path, cause } => unwritable(&path, &cause).exit(1),
        other => broken(&other, 1),
    }
}

/// A library's error, whose text carries its hint behind a line break.
fn broken(error: &dyn std::fmt::Display, code: u8) -> Failure {
    let text = error.to_string();
    match text.split_once("\nhint: ") {
        Some((what, hint)) => Failure::new(what).hint(hint).exit(code),
        None => Failure::new(text).exit(code),
    }
}
