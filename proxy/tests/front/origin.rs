//! A small registry that does as it is told and remembers what it was asked.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use oci::Digest;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// What a registry holds, and how it behaves.
#[derive(Default)]
pub(crate) struct Content {
    manifests: HashMap<(String, String), (String, Bytes)>,
    blobs: HashMap<(String, Digest), Bytes>,
    /// Repositories that want `Authorization: Basic <this>`.
    pub(crate) private: HashMap<String, String>,
    /// Every answer is this.
    pub(crate) fail: Option<StatusCode>,
    /// Extra headers of every answer.
    pub(crate) headers: HeaderMap,
    /// What `Docker-Content-Digest` says instead of the truth.
    pub(crate) digest_lie: Option<String>,
    /// Bytes sent instead of a blob's or manifest's own.
    pub(crate) swapped: HashMap<Digest, Bytes>,
    /// Blobs whose body stops here until the gate opens.
    pub(crate) held_at: HashMap<Digest, usize>,
    /// Who does not accept this type gets that manifest instead.
    pub(crate) by_accept: Option<(String, Bytes)>,
    /// Repositories without HEAD for blobs.
    pub(crate) no_blob_head: HashSet<String>,
}

impl Content {
    pub(crate) fn manifest(
        &mut self,
        repository: &str,
        reference: &str,
        kind: &str,
        bytes: &Bytes,
    ) {
        let key = (repository.to_owned(), reference.to_owned());
        self.manifests.insert(key, (kind.to_owned(), bytes.clone()));
    }

    pub(crate) fn remove(&mut self, repository: &str, reference: &str) {
        self.manifests
            .remove(&(repository.to_owned(), reference.to_owned()));
    }

    pub(crate) fn blob(&mut self, repository: &str, bytes: &Bytes) {
        self.blob_as(repository, Digest::sha256(bytes), bytes);
    }

    pub(crate) fn remove_blob(&mut self, repository: &str, bytes: &Bytes) {
        let key = (repository.to_owned(), Digest::sha256(bytes));
        self.blobs.remove(&key);
    }

    pub(crate) fn blob_as(&mut self, repository: &str, digest: Digest, bytes: &Bytes) {
        let key = (repository.to_owned(), digest);
        self.blobs.insert(key, bytes.clone());
    }
}

/// One request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
}

struct State {
    content: Mutex<Content>,
    asked: Mutex<Vec<Asked>>,
    gate: watch::Sender<bool>,
}

/// A running registry.
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            content: Mutex::default(),
            asked: Mutex::default(),
            gate: watch::channel(false).0,
        });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let state = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(state.clone(), request));
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self {
            addr,
            state,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.state.content.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Nobody listens there any more.
    pub(crate) async fn stop(&self) {
        self.task.abort();
        while tokio::net::TcpStream::connect(self.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Lets bodies go on that are held.
    pub(crate) fn open_gate(&self) {
        self.state.gate.send_replace(true);
    }

    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// How often this was asked.
    pub(crate) fn count(&self, method: &Method, path: &str) -> usize {
        let matches = |asked: &&Asked| asked.method == *method && asked.path == path;
        self.asked().iter().filter(matches).count()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn plain(status: StatusCode) -> Response<Body> {
    let json = Bytes::from_static(b"{\"errors\":[{\"code\":\"UNKNOWN\"}]}");
    let mut response = Response::new(full(json));
    *response.status_mut() = status;
    response
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let asked = Asked {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    };
    state.asked.lock().unwrap().push(asked.clone());
    let content = state.content.lock().unwrap();
    let mut response = match content.fail {
        Some(status) => plain(status),
        None => route(&state, &content, &asked),
    };
    for (name, value) in &content.headers {
        response.headers_mut().insert(name, value.clone());
    }
    Ok(response)
}

fn route(state: &State, content: &Content, asked: &Asked) -> Response<Body> {
    let parts: Vec<&str> = asked
        .path
        .trim_start_matches("/v2/")
        .rsplitn(3, '/')
        .collect();
    let [reference, kind, repository] = parts[..] else {
        return plain(StatusCode::OK);
    };
    if let Some(account) = content.private.get(repository) {
        let sent = asked.headers.get(header::AUTHORIZATION);
        if sent.is_none_or(|sent| sent.to_str().ok() != Some(&format!("Basic {account}"))) {
            let mut response = plain(StatusCode::UNAUTHORIZED);
            let challenge = "Basic  realm=\"small registry\"".parse().unwrap();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
    }
    match kind {
        "manifests" => manifest(content, asked, repository, reference),
        "blobs" => blob(state, content, asked, repository, reference),
        "tags" => {
            let mut response = Response::new(full(Bytes::from_static(b"{\"tags\":[\"a\",\"b\"]}")));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
            let link = format!("<{}?last=b&n=2>; rel=\"next\"", asked.path);
            headers.insert(header::LINK, link.parse().unwrap());
            response
        }
        _ => plain(StatusCode::NOT_FOUND),
    }
}

fn manifest(content: &Content, asked: &Asked, repository: &str, reference: &str) -> Response<Body> {
    let key = (repository.to_owned(), reference.to_owned());
    let Some((kind, bytes)) = content.manifests.get(&key) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let accepted = |wanted: &str| {
        let lines = asked.headers.get_all(header::ACCEPT).iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .any(|line| line.contains(wanted))
    };
    let (kind, bytes) = match &content.by_accept {
        Some((wanted, other)) if kind == wanted && !accepted(wanted) => {
            (crate::image::MANIFEST, other)
        }
        _ => (kind.as_str(), bytes),
    };
    let digest = Digest::sha256(bytes);
    let sent = content.swapped.get(&digest).unwrap_or(bytes);
    let said = content.digest_lie.clone();
    let said = said.unwrap_or_else(|| digest.to_string());
    let response = Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .header("docker-content-digest", said)
        .header(header::CONTENT_LENGTH, sent.len());
    let body = if asked.method == Method::HEAD {
        full(Bytes::new())
    } else {
        full(sent.clone())
    };
    response.body(body).unwrap()
}

fn blob(
    state: &State,
    content: &Content,
    asked: &Asked,
    repository: &str,
    reference: &str,
) -> Response<Body> {
    let key = reference
        .parse()
        .map(|digest| (repository.to_owned(), digest));
    let Some(bytes) = key.ok().and_then(|key| content.blobs.get(&key)) else {
        return plain(StatusCode::NOT_FOUND);
    };
    let digest = Digest::sha256(bytes);
    let bytes = content.swapped.get(&digest).unwrap_or(bytes).clone();
    if asked.method == Method::HEAD {
        if content.no_blob_head.contains(repository) {
            return plain(StatusCode::FORBIDDEN);
        }
        let response = Response::builder().header(header::CONTENT_LENGTH, bytes.len());
        return response.body(full(Bytes::new())).unwrap();
    }
    let total = bytes.len() as u64;
    let range = asked.headers.get(header::RANGE);
    let range = range.map(|range| oci::range::parse(range.to_str().ok()));
    let part = match range {
        Some(oci::range::RangeHeader::Ranges(specs)) => match specs[0].within(total) {
            Some(part) => Some(part),
            None => {
                let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE);
                let value = oci::range::content_range_unsatisfied(total)
                    .parse()
                    .unwrap();
                response.headers_mut().insert(header::CONTENT_RANGE, value);
                return response;
            }
        },
        _ => None,
    };
    let mut response = Response::builder();
    let bytes = match part {
        Some(part) => {
            response = response.status(StatusCode::PARTIAL_CONTENT).header(
                header::CONTENT_RANGE,
                oci::range::content_range(&part, total),
            );
            bytes.slice(part.start as usize..part.end as usize)
        }
        None => bytes,
    };
    let response = response.header(header::CONTENT_LENGTH, bytes.len());
    let body = match content.held_at.get(&digest) {
        Some(at) if *at < bytes.len() => held(bytes.clone(), *at, state.gate.subscribe()),
        _ => full(bytes),
    };
    response.body(body).unwrap()
}

/// The first `at` bytes, the rest when the gate opens.
fn held(bytes: Bytes, at: usize, mut gate: watch::Receiver<bool>) -> Body {
    let first = bytes.slice(..at);
    let rest = async move {
        let _ = gate.wait_for(|open| *open).await;
        Ok(Frame::data(bytes.slice(at..)))
    };
    let frames = stream::iter([Ok(Frame::data(first))]).chain(stream::once(rest));
    StreamBody::new(frames).boxed_unsync()
}
