//! The upstream: Debian's docker-registry on its own files, open or behind Basic or token authorisation.
//!
//! Its access log is what the tests count upstream requests by.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::Daemon;
use super::token::TokenServer;
use super::{Lab, http};

/// Who may read.
pub(crate) enum Access<'a> {
    /// Anyone.
    Open,
    /// Whoever knows the user and password of [`super::token::ACCOUNT`], by Basic.
    Basic,
    /// Whoever brings a token of this server.
    Token(&'a TokenServer),
}

/// A running docker-registry.
pub(crate) struct Origin {
    daemon: Daemon,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// The token server it sends clients to, if there is one.
    token_server: Option<String>,
}

/// One line of the access log.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
}

impl Origin {
    /// Serves the images of [`super::images`] read-only.
    pub(crate) fn start(lab: &Lab, access: &Access<'_>) -> Result<Self> {
        Self::serve(lab, &super::images::storage()?, access, Writable::No)
    }

    /// Serves the registry storage in `storage`.
    pub(crate) fn serve(
        lab: &Lab,
        storage: &Path,
        access: &Access<'_>,
        writable: Writable,
    ) -> Result<Self> {
        let folder = lab.folder("origin")?;
        let config = folder.join("config.yml");
        std::fs::write(&config, config_text(&folder, storage, access, writable)?)?;
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none");
        let mut daemon = Daemon::start("docker-registry", &command, &folder)?;
        let addr = daemon.wait_until(
            "docker-registry to listen",
            Duration::from_secs(20),
            |daemon| {
                let log = daemon.log();
                let (_, rest) = log.split_once("listening on ")?;
                rest.split(|c: char| c == '"' || c.is_whitespace())
                    .next()?
                    .parse::<SocketAddr>()
                    .ok()
            },
        )?;
        super::wait_for("docker-registry to answer", Duration::from_secs(20), || {
            http::get(addr, "/", &[])
                .ok()
                .filter(|answer| answer.status == 200)
        })?;
        let token_server = match access {
            Access::Token(server) => Some(server.authority()),
            Access::Open | Access::Basic => None,
        };
        Ok(Self {
            daemon,
            addr,
            token_server,
        })
    }

    /// What `--registry NAME=` takes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What Darner's file must say of it as docker.io: its token server is on another port of this machine.
    pub(crate) fn file(&self) -> String {
        let server = self.token_server.as_ref();
        let line = server.map(|server| format!("realms = [\"{server}\"]\n"));
        format!("[registry.\"docker.io\"]\n{}", line.unwrap_or_default())
    }

    /// The registry requests so far, as its own access log tells them (a request is logged when it ends).
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.daemon
            .log()
            .lines()
            .filter_map(parse)
            .filter(|request| request.path != "/")
            .collect()
    }

    /// GETs of blobs that sent a body.
    pub(crate) fn blob_gets(&self) -> Vec<String> {
        let sent = |request: &Request| {
            request.method == "GET" && request.path.contains("/blobs/") && request.status < 300
        };
        self.requests()
            .into_iter()
            .filter(sent)
            .map(|request| request.path)
            .collect()
    }

    /// Ends it; its address refuses connections afterwards.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.daemon.kill()
    }
}

/// Whether the storage may be changed by pushing and deleting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writable {
    Yes,
    No,
}

/// `127.0.0.1 - - [time] "GET /v2/... HTTP/1.1" 200 123 "" "agent"`
fn parse(line: &str) -> Option<Request> {
    let (_, rest) = line.split_once("] \"")?;
    let mut words = rest.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let status = words.nth(1)?.parse().ok()?;
    Some(Request {
        method,
        path,
        status,
    })
}

fn config_text(
    folder: &Path,
    storage: &Path,
    access: &Access<'_>,
    writable: Writable,
) -> Result<String> {
    let storage = storage.to_str().context("a plain path")?;
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {storage}\n    maxthreads: 100\n  \
         delete:\n    enabled: {}\n  maintenance:\n    readonly:\n      enabled: {}\nhttp:\n  addr: 127.0.0.1:0\n  \
         secret: test\n",
        writable == Writable::Yes,
        writable == Writable::No
    );
    match access {
        Access::Open => {}
        Access::Basic => {
            let file = htpasswd(folder)?;
            write!(
                text,
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                file.display()
            )?;
        }
        Access::Token(server) => write!(
            text,
            "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    rootcertbundle: {}\n",
            server.realm(),
            super::token::SERVICE,
            super::token::ISSUER,
            server.certificate().display()
        )?,
    }
    Ok(text)
}

fn htpasswd(folder: &Path) -> Result<PathBuf> {
    let (user, password) = super::token::ACCOUNT;
    // docker-registry takes bcrypt only.
    let line = super::run(
        Command::new("htpasswd").args(["-Bbn", user, password]),
        Duration::from_secs(20),
    )?;
    let file = folder.join("htpasswd");
    std::fs::write(&file, line)?;
    Ok(file)
}
