//! A node under test, and a plain HTTP client.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proxy::upstream::{EndpointConfig, RegistryConfig};
use proxy::{App, Config};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::origin::Origin;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) peer: Option<SocketAddr>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), proxy::RunError>>,
}

/// A configuration on free ports that knows `docker.io` and `quay.io` as these.
pub(crate) fn config(folder: &Path, registries: &[(&str, &Origin)]) -> Config {
    let mut config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: folder.to_owned(),
        drain: Duration::from_secs(5),
        min_free: proxy::config::MinFree::Bytes(0),
        ..Config::default()
    };
    config.registries.public = false;
    for (name, origin) in registries {
        config.registries.registries.push(RegistryConfig {
            name: (*name).to_owned(),
            endpoints: vec![EndpointConfig::at(origin.url())],
            ..RegistryConfig::default()
        });
    }
    config
}

impl Node {
    pub(crate) fn start(config: Config) -> Self {
        let app = App::build(config).unwrap();
        let shutdown = CancellationToken::new();
        Self {
            addr: app.addrs().listen[0],
            admin: app.addrs().admin,
            peer: app.addrs().peer,
            task: tokio::spawn(app.run(shutdown.clone())),
            shutdown,
        }
    }

    /// Shuts down in order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the node ends").unwrap().unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[]).await
    }

    pub(crate) async fn head(&self, path: &str) -> Reply {
        self.ask(Method::HEAD, path, &[]).await
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        let ask = ask(self.addr, method, path, headers);
        tokio::time::timeout(PATIENCE, ask)
            .await
            .expect("an answer")
    }

    pub(crate) async fn ask_admin(&self, path: &str) -> Reply {
        let ask = ask(self.admin, Method::GET, path, &[]);
        tokio::time::timeout(PATIENCE, ask)
            .await
            .expect("an answer")
    }

    /// The answer's head, with the body still to be read.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> http::Response<Incoming> {
        let open = open(self.addr, Method::GET, path, headers);
        tokio::time::timeout(PATIENCE, open).await.expect("a head")
    }
}

/// A whole answer; `body` is what came, `cut` says that it was less than announced.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) cut: bool,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The code of the error body.
    pub(crate) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

async fn open(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> http::Response<Incoming> {
    let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", addr.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    sender.send_request(request).await.unwrap()
}

pub(crate) async fn ask(
    addr: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Reply {
    let response = open(addr, method, path, headers).await;
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut cut) = (Vec::new(), false);
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    Reply {
        status: head.status,
        headers: head.headers,
        body: body.into(),
        cut,
    }
}
