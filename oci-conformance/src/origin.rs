//! A registry in the test's own process that does as the test says.
//!
//! It speaks HTTP/1.1 on a plain socket, by hand, because it must be able to do what an HTTP
//! library prevents: cut a body with FIN or RST at an exact offset, lie about lengths, stall. It
//! waits for the test, never for time, and it records every request before it answers.
//!
//! ```no_run
//! # async fn example() {
//! use oci_conformance::{Ask, Fault, Origin};
//!
//! let origin = Origin::start().await;
//! let image = origin.push_image("library/app", "latest", &[b"a layer"]);
//! origin.when(Ask::blob(&image.layers[0])).once().answer(Fault::CutFin(3));
//! // ... pull through a mirror of origin.url() ...
//! assert_eq!(origin.count(Ask::blob(&image.layers[0])), 2);
//! # }
//! ```

mod answer;
mod conditions;
mod content;
mod fault;
mod gate;
mod guard;
mod habits;
mod incoming;
mod lists;
mod manage;
mod record;
mod upload;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use content::{Image, content, sha256, sha512};
pub use fault::{Fault, Reply, RuleBuilder};
pub use gate::Gate;
pub use guard::{Post, TokenAnswer, TokenField};
pub use habits::{Habits, Locations};
pub use record::{Ask, Kind, Outcome, RequestBody, Seen};

use content::Shelf;
use fault::Rule;
use guard::Guard;
use record::Record;

/// A scripted registry. It ends with its last handle's drop.
pub struct Origin {
    state: Arc<State>,
    running: Mutex<CancellationToken>,
    tasks: TaskTracker,
}

/// What every connection of one origin shares.
struct State {
    addr: SocketAddr,
    shelf: Mutex<Shelf>,
    rules: Mutex<Vec<Rule>>,
    guard: Mutex<Guard>,
    habits: Mutex<Habits>,
    record: Record,
}

impl Origin {
    /// Starts an open, empty and honest registry on a free loopback port.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let started = Self::start_at(anywhere).await;
        started.expect("a free loopback port")
    }

    /// The same on this address; port 0 means a free one.
    ///
    /// # Errors
    /// If somebody else listens there.
    pub async fn start_at(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let origin = Self {
            state: Arc::new(State {
                addr,
                shelf: Mutex::default(),
                rules: Mutex::default(),
                guard: Mutex::new(Guard::default()),
                habits: Mutex::default(),
                record: Record::default(),
            }),
            running: Mutex::new(CancellationToken::new()),
            tasks: TaskTracker::new(),
        };
        origin.accept(listener);
        Ok(origin)
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.state.addr
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.state.addr)
    }

    /// Closes the port and all connections: connecting is refused from now on.
    pub async fn stop(&self) {
        lock(&self.running).cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Listens again on the same port after [`Self::stop`].
    ///
    /// # Panics
    /// If somebody else has taken the port meanwhile.
    pub async fn start_again(&self) {
        self.tasks.reopen();
        *lock(&self.running) = CancellationToken::new();
        let listener = TcpListener::bind(self.state.addr).await;
        self.accept(listener.expect("the port is still free"));
    }

    /// Stores a blob in a repository and returns its sha256 digest.
    pub fn push_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        self.push_blob_as(repository, &digest, bytes);
        digest
    }

    /// Stores a blob under a digest that need not fit it.
    pub fn push_blob_as(&self, repository: &str, digest: &str, bytes: impl Into<Bytes>) {
        lock(&self.state.shelf).blob(repository, digest, bytes.into());
    }

    /// Stores a manifest under its digest, and under `tag` if there is one; returns the digest.
    pub fn push_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        let mut shelf = lock(&self.state.shelf);
        shelf.manifest(repository, &digest, media_type, bytes);
        if let Some(tag) = tag {
            shelf.tag(repository, tag, &digest);
        }
        digest
    }

    /// Stores a manifest under a digest that need not fit it.
    pub fn push_manifest_as(
        &self,
        repository: &str,
        digest: &str,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) {
        lock(&self.state.shelf).manifest(repository, digest, media_type, bytes.into());
    }

    /// Points a tag at a digest.
    pub fn tag(&self, repository: &str, tag: &str, digest: &str) {
        lock(&self.state.shelf).tag(repository, tag, digest);
    }

    /// Stores an image of these layers with a config, under a tag.
    pub fn push_image(&self, repository: &str, tag: &str, layers: &[&[u8]]) -> Image {
        content::push_image(self, repository, tag, layers)
    }

    /// Forgets a repository with all in it.
    pub fn forget(&self, repository: &str) {
        lock(&self.state.shelf).forget(repository);
    }

    /// Serves bytes at a path outside the registry's API, as a blob store behind a redirect does.
    pub fn serve_at(&self, path: &str, bytes: impl Into<Bytes>) {
        lock(&self.state.shelf).plain(path, bytes.into());
    }

    /// The bytes of a blob of a repository.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        lock(&self.state.shelf).find_blob(repository, digest)
    }

    /// The digest that a tag or digest of a repository leads to.
    pub fn resolve(&self, repository: &str, reference: &str) -> Option<String> {
        let found = lock(&self.state.shelf).find_manifest(repository, reference);
        found.map(|manifest| manifest.digest)
    }

    /// How many uploads have begun and not ended.
    pub fn uploads(&self) -> usize {
        lock(&self.state.shelf).sessions.len()
    }

    /// Changes what this registry does where registries differ.
    pub fn habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut lock(&self.state.habits));
    }

    /// Begins a rule: for these requests, do otherwise. Earlier rules come first.
    pub fn when(&self, ask: Ask) -> RuleBuilder<'_> {
        RuleBuilder::new(&self.state.rules, ask)
    }

    /// Is an open, honest registry again; keeps its content, forgets rules, guard, habits and record.
    pub fn reset(&self) {
        self.behave();
        *lock(&self.state.guard) = Guard::default();
        *lock(&self.state.habits) = Habits::default();
        self.forget_requests();
    }

    /// Forgets all rules.
    pub fn behave(&self) {
        lock(&self.state.rules).clear();
    }

    /// Every request so far that `ask` means, oldest first.
    pub fn seen(&self, ask: Ask) -> Vec<Arc<Seen>> {
        self.state.record.seen(&ask)
    }

    /// How many there were of them.
    pub fn count(&self, ask: Ask) -> usize {
        self.seen(ask).len()
    }

    /// How many body bytes their answers have carried.
    pub fn body_bytes(&self, ask: Ask) -> u64 {
        self.seen(ask).iter().map(|seen| seen.body_bytes()).sum()
    }

    /// Forgets what was recorded.
    pub fn forget_requests(&self) {
        self.state.record.clear();
    }

    /// Waits until `count` such requests have come.
    ///
    /// # Panics
    /// If they do not come within ten seconds.
    pub async fn wait_for(&self, count: usize, ask: Ask) -> Vec<Arc<Seen>> {
        self.state.record.wait_for(count, &ask).await
    }

    /// Demands Bearer tokens from its own token server, for all but `/token` itself. Public
    /// repositories take an anonymous token.
    pub fn require_tokens(&self) {
        lock(&self.state.guard).require_tokens(self.url());
    }

    /// Demands Basic authentication for private repositories, and for the ping.
    pub fn require_basic(&self) {
        lock(&self.state.guard).require_basic();
    }

    /// Makes a repository readable for this user only, beside those it was given before.
    pub fn private(&self, repository: &str, user: &str, password: &str) {
        lock(&self.state.guard).private(repository, user, password);
    }

    /// Lets this user write to a repository, and from then on only those named so. Without it
    /// everybody with a name who may read may write; without any authentication, everybody.
    pub fn writer(&self, repository: &str, user: &str, password: &str) {
        lock(&self.state.guard).writer(repository, user, password);
    }

    /// Takes the right to a repository away from everybody; tokens given out lose it too.
    pub fn revoke(&self, repository: &str) {
        lock(&self.state.guard).revoke(repository);
    }

    /// Makes all tokens given out so far invalid.
    pub fn expire_tokens(&self) {
        lock(&self.state.guard).expire_tokens();
    }

    /// Shapes the token server's answers.
    pub fn answer_tokens(&self, answer: TokenAnswer) {
        lock(&self.state.guard).answer = answer;
    }

    /// Names another token server in the challenges.
    pub fn set_realm(&self, realm: &str) {
        lock(&self.state.guard).realm = realm.to_owned();
    }

    fn accept(&self, listener: TcpListener) {
        let (state, tasks) = (Arc::clone(&self.state), self.tasks.clone());
        let running = lock(&self.running).clone();
        self.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = running.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (state, running) = (Arc::clone(&state), running.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = running.cancelled() => {}
                        () = serve(stream, &state) => {}
                    }
                });
            }
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        lock(&self.running).cancel();
    }
}

/// An address where nobody listens, so that connecting is refused.
///
/// # Panics
/// If there is no free port.
pub async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a free loopback port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}

async fn serve(stream: TcpStream, state: &State) {
    let mut wire = wire::Wire::new(stream);
    while let Some((request, length)) = wire.request().await {
        let seen = state.record.add(request);
        let mut verdict = answer::judge(state, &seen);
        // What is left of the body would be taken for the next request.
        let mut last = seen.header("connection") == Some("close");
        let reply = match verdict.early.take() {
            Some(reply) => {
                last |= length != incoming::Length::Known(0);
                reply
            }
            None if wire.body(&seen, length, verdict.pace()).await.is_some() => {
                answer::answer(state, &seen, &verdict)
            }
            None => {
                state.record.end(&seen, Outcome::ClientLeft);
                return;
            }
        };
        let outcome = wire.send(&seen, reply).await;
        state.record.end(&seen, outcome);
        if outcome != Outcome::Whole || last {
            wire.finish().await;
            return;
        }
    }
}

/// A test that panicked while it held a lock has failed already; the others may go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
