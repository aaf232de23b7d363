//! Every request an origin has seen, and questions about them.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::lock;

/// A test that waits longer than this for a request waits for one that will not come.
const WAIT: Duration = Duration::from_secs(10);

/// What a path names, as this crate reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/v2/`
    Ping,
    /// A blob's digest.
    Blob(String),
    /// A manifest's tag or digest.
    Manifest(String),
    /// `tags/list`
    Tags,
    /// What is referred to.
    Referrers(String),
    /// `blobs/uploads/`: the running upload, empty where one is to begin.
    Upload(String),
    /// An upload under the path of the storage host, outside the registry's API.
    Storage(String),
    /// The token server.
    Token,
    /// Anything else.
    Other,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Running,
    /// All bytes that the head announced were handed to the kernel.
    Whole,
    /// Cut as the script said.
    Cut,
    /// The client went away first.
    ClientLeft,
}

/// One request.
#[derive(Debug)]
pub struct Seen {
    /// `GET`
    pub method: String,
    /// As sent, without the query.
    pub path: String,
    /// As sent; empty if there is none.
    pub query: String,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's body; empty until all of it has come.
    pub body: RequestBody,
    /// The repository, where the path has one.
    pub repository: String,
    /// What is asked.
    pub kind: Kind,
    sent: AtomicU64,
    received: watch::Sender<u64>,
    outcome: watch::Sender<Outcome>,
}

/// A body that is there once it has come whole.
#[derive(Debug, Default)]
pub struct RequestBody(OnceLock<Bytes>);

impl Deref for RequestBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.get().map_or(&[], |bytes| bytes)
    }
}

impl Seen {
    pub(super) fn new(method: &str, target: &str, headers: Vec<(String, String)>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (repository, kind) = read_path(path);
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: RequestBody::default(),
            repository,
            kind,
            sent: AtomicU64::new(0),
            received: watch::Sender::new(0),
            outcome: watch::Sender::new(Outcome::Running),
        }
    }

    /// The first header of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The `Range` header.
    pub fn range(&self) -> Option<&str> {
        self.header("range")
    }

    /// The `Authorization` header.
    pub fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// The value of a query parameter, escapes undone as far as tokens need it.
    pub fn parameter(&self, name: &str) -> Option<String> {
        parameters(&self.query)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// Body bytes that were handed to the kernel so far.
    pub fn body_bytes(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Bytes of the request's body that were taken in so far.
    pub fn received_bytes(&self) -> u64 {
        *self.received.borrow()
    }

    /// Waits until so many bytes of the request's body were taken in.
    ///
    /// # Panics
    /// If they do not come within ten seconds.
    pub async fn received(&self, bytes: u64) {
        let mut received = self.received.subscribe();
        let enough = received.wait_for(|received| *received >= bytes);
        let enough = tokio::time::timeout(WAIT, enough).await;
        let enough = enough.map(|enough| drop(enough.expect("the sender lives in self")));
        enough.unwrap_or_else(|_| panic!("{self}: only {} bytes came", self.received_bytes()));
    }

    /// How the answer ended, as far as known.
    pub fn outcome(&self) -> Outcome {
        *self.outcome.borrow()
    }

    /// Waits for the answer's end.
    ///
    /// # Panics
    /// If it does not end within ten seconds.
    pub async fn ended(&self) -> Outcome {
        let mut outcome = self.outcome.subscribe();
        let ended = outcome.wait_for(|outcome| *outcome != Outcome::Running);
        let ended = tokio::time::timeout(WAIT, ended).await;
        *ended
            .unwrap_or_else(|_| panic!("{self} never ends"))
            .expect("the sender lives in self")
    }

    pub(super) fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.send_modify(|all| *all += bytes as u64);
    }

    /// The whole body, without copying it; nothing before it has come.
    pub(super) fn whole_body(&self) -> Bytes {
        self.body.0.get().cloned().unwrap_or_default()
    }

    pub(super) fn set_body(&self, bytes: Bytes) {
        self.body.0.set(bytes).expect("a request has one body");
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}?{} range {:?}",
            self.method,
            self.path,
            self.query,
            self.range()
        )
    }
}

/// The pairs of a query or form.
pub(super) fn parameters(text: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(key), unescape(value))
    })
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_path(path: &str) -> (String, Kind) {
    if path == "/token" {
        return (String::new(), Kind::Token);
    }
    if path == "/v2/" || path == "/v2" {
        return (String::new(), Kind::Ping);
    }
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["", "v2", name @ .., "blobs", "uploads"] => (name.join("/"), Kind::Upload(String::new())),
        ["", "v2", name @ .., "blobs", "uploads", session] => {
            (name.join("/"), Kind::Upload((*session).to_owned()))
        }
        ["", "storage", session] => (String::new(), Kind::Storage((*session).to_owned())),
        ["", "v2", name @ .., "blobs", digest] => {
            (name.join("/"), Kind::Blob((*digest).to_owned()))
        }
        ["", "v2", name @ .., "manifests", reference] => {
            (name.join("/"), Kind::Manifest((*reference).to_owned()))
        }
        ["", "v2", name @ .., "tags", "list"] => (name.join("/"), Kind::Tags),
        ["", "v2", name @ .., "referrers", digest] => {
            (name.join("/"), Kind::Referrers((*digest).to_owned()))
        }
        _ => (String::new(), Kind::Other),
    }
}

/// Says which requests are meant.
#[derive(Clone)]
pub struct Ask(Arc<dyn Fn(&Seen) -> bool + Send + Sync>);

impl Ask {
    /// All that `means` is true for.
    pub fn of(means: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(means))
    }

    /// All.
    pub fn any() -> Self {
        Self::of(|_| true)
    }

    /// Of this blob.
    pub fn blob(digest: &str) -> Self {
        Self::kind(Kind::Blob(digest.to_owned()))
    }

    /// Of any blob.
    pub fn blobs() -> Self {
        Self::of(|seen| matches!(seen.kind, Kind::Blob(_)))
    }

    /// Of this manifest by this tag or digest.
    pub fn manifest(reference: &str) -> Self {
        Self::kind(Kind::Manifest(reference.to_owned()))
    }

    /// Of any manifest.
    pub fn manifests() -> Self {
        Self::of(|seen| matches!(seen.kind, Kind::Manifest(_)))
    }

    /// Of any upload: begun, running, or at the storage host.
    pub fn uploads() -> Self {
        Self::of(|seen| matches!(seen.kind, Kind::Upload(_) | Kind::Storage(_)))
    }

    /// Of the token server.
    pub fn token() -> Self {
        Self::kind(Kind::Token)
    }

    /// Of this kind.
    pub fn kind(kind: Kind) -> Self {
        Self::of(move |seen| seen.kind == kind)
    }

    /// Of this path.
    pub fn path(path: &str) -> Self {
        let path = path.to_owned();
        Self::of(move |seen| seen.path == path)
    }

    /// Those of them that use GET.
    #[must_use]
    pub fn get(self) -> Self {
        self.and(|seen| seen.method == "GET")
    }

    /// Those of them that use HEAD.
    #[must_use]
    pub fn head(self) -> Self {
        self.and(|seen| seen.method == "HEAD")
    }

    /// Those of them that use this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        let method = method.to_owned();
        self.and(move |seen| seen.method == method)
    }

    /// Those of them for which `also` is true.
    #[must_use]
    pub fn and(self, also: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Self {
        Self::of(move |seen| self.means(seen) && also(seen))
    }

    pub(super) fn means(&self, seen: &Seen) -> bool {
        (self.0)(seen)
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

/// All requests so far.
#[derive(Default)]
pub(super) struct Record {
    all: Mutex<Vec<Arc<Seen>>>,
    changed: watch::Sender<()>,
}

impl Record {
    pub(super) fn add(&self, seen: Seen) -> Arc<Seen> {
        let seen = Arc::new(seen);
        lock(&self.all).push(Arc::clone(&seen));
        self.changed.send_replace(());
        seen
    }

    pub(super) fn end(&self, seen: &Seen, outcome: Outcome) {
        seen.outcome.send_replace(outcome);
        self.changed.send_replace(());
    }

    pub(super) fn seen(&self, ask: &Ask) -> Vec<Arc<Seen>> {
        let all = lock(&self.all);
        all.iter().filter(|seen| ask.means(seen)).cloned().collect()
    }

    pub(super) fn clear(&self) {
        lock(&self.all).clear();
    }

    pub(super) async fn wait_for(&self, count: usize, ask: &Ask) -> Vec<Arc<Seen>> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.mark_unchanged();
                let seen = self.seen(ask);
                if seen.len() >= count {
                    return seen;
                }
                changed.changed().await.expect("the sender lives in self");
            }
        };
        let found = tokio::time::timeout(WAIT, waiting).await;
        found.unwrap_or_else(|_| panic!("{count} requests never came; seen: {:?}", self.paths()))
    }

    fn paths(&self) -> Vec<String> {
        lock(&self.all)
            .iter()
            .map(|seen| seen.to_string())
            .collect()
    }
}
