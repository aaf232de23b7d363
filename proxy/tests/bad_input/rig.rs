//! A node in front of scripted registries, in a folder of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use oci_conformance::Origin;
use oci_conformance::origin::content;
use oci_conformance::raw::{self, Answer, Ending};
use proxy::upstream::{EndpointConfig, RegistryConfig};
use proxy::{App, Config};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The end of a body that is withheld until the digest fits.
pub(crate) const WITHHELD: usize = 64 * 1024;

/// Where every test's content lives.
pub(crate) const REPOSITORY: &str = "team/app";

pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), proxy::RunError>>,
    config: Config,
    folder: TempDir,
}

/// A registry of this name at these origins, in order.
pub(crate) fn registry(name: &str, endpoints: &[&Origin]) -> RegistryConfig {
    RegistryConfig {
        name: name.to_owned(),
        endpoints: endpoints
            .iter()
            .map(|origin| EndpointConfig::at(origin.url()))
            .collect(),
        ..RegistryConfig::default()
    }
}

impl Node {
    /// `docker.io` is this origin; nothing else is known.
    pub(crate) fn of(origin: &Origin) -> Self {
        Self::with(vec![registry("docker.io", &[origin])], |_| {})
    }

    /// These registries, and what `change` makes of the configuration. Nothing negative is
    /// remembered, unless `change` says so, so that each request of a test counts.
    pub(crate) fn with(registries: Vec<RegistryConfig>, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: folder.path().to_owned(),
            min_free: proxy::config::MinFree::Bytes(0),
            drain: Duration::from_secs(5),
            ..Config::default()
        };
        config.registries.public = false;
        config.registries.registries = registries;
        config.trust.negative = Duration::ZERO;
        change(&mut config);
        Self::start(config, folder)
    }

    fn start(config: Config, folder: TempDir) -> Self {
        let app = App::build(config.clone()).unwrap();
        let shutdown = CancellationToken::new();
        Self {
            addr: app.addrs().listen[0],
            task: tokio::spawn(app.run(shutdown.clone())),
            shutdown,
            config,
            folder,
        }
    }

    /// Ends in order: every test calls it, so that every test shows that nothing is left running.
    pub(crate) async fn stop(self) -> (Config, TempDir) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.task).await;
        ended.expect("the node ends").unwrap().unwrap();
        (self.config, self.folder)
    }

    /// Ends, and starts again with the same folder.
    pub(crate) async fn restart(self) -> Self {
        let (config, folder) = self.stop().await;
        Self::start(config, folder)
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        raw::get(self.addr, target).send().await
    }

    pub(crate) async fn head(&self, target: &str) -> Answer {
        raw::head(self.addr, target).send().await
    }

    pub(crate) async fn range(&self, target: &str, range: &str) -> Answer {
        let request = raw::get(self.addr, target).header("Range", range);
        request.send().await
    }

    pub(crate) async fn get_as(&self, target: &str, authorization: &str) -> Answer {
        let request = raw::get(self.addr, target).header("Authorization", authorization);
        request.send().await
    }
}

/// A blob in an origin.
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    pub(crate) digest: String,
    pub(crate) path: String,
}

impl Blob {
    pub(crate) fn new(origin: &Origin, seed: u64, length: usize) -> Self {
        let bytes = content(seed, length);
        let digest = origin.push_blob(REPOSITORY, bytes.clone());
        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        Self {
            bytes,
            digest,
            path,
        }
    }

    /// It came whole, and right.
    #[track_caller]
    pub(crate) fn is_whole(&self, answer: &Answer) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.ending, Ending::Complete);
        assert!(answer.body == self.bytes, "other bytes than the blob's");
        let length = self.bytes.len().to_string();
        assert_eq!(answer.header("content-length"), Some(length.as_str()));
        assert_eq!(answer.header("docker-content-digest"), Some(&*self.digest));
    }

    /// It did not come whole: cut with FIN before its end, or refused quickly with 404.
    #[track_caller]
    pub(crate) fn is_not_whole(&self, answer: &Answer) {
        if answer.status == 404 {
            return is_blob_unknown(answer);
        }
        assert_eq!(answer.status, 200);
        assert_eq!(answer.ending, Ending::Short, "a body is cut with FIN only");
        let announced = answer.header("content-length").unwrap();
        let announced: usize = announced.parse().unwrap();
        assert!(answer.body.len() < announced);
    }
}

/// The quick "not here" on which every client goes on elsewhere.
#[track_caller]
pub(crate) fn is_blob_unknown(answer: &Answer) {
    is_error(answer, 404, "BLOB_UNKNOWN");
}

/// A JSON error body with this code, and whole.
#[track_caller]
pub(crate) fn is_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.ending, Ending::Complete);
}

pub(crate) fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}
