//! The systems, each started the way its documentation says, on a cache that is empty.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::ground::{Ground, Server, free_address};
use crate::origin::Content;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// nginx: `proxy_cache` where something is fetched, files by sendfile where all is there.
    Nginx,
    /// Debian's docker-registry in pull-through mode.
    Registry,
    /// This program.
    Darner,
}

impl System {
    pub(crate) const ALL: [Self; 3] = [Self::Nginx, Self::Registry, Self::Darner];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Registry => "docker-registry",
            Self::Darner => "darner",
        }
    }

    /// A pull-through cache of `origin`, empty.
    pub(crate) fn start(
        self,
        ground: &Ground,
        content: &Content,
        origin: SocketAddr,
    ) -> Result<Server> {
        let folder = ground.fresh(self.name())?;
        let address = free_address()?;
        match self {
            Self::Nginx => {
                let server = nginx_cache(&folder, content, origin);
                nginx(&folder, address, &server)
            }
            Self::Registry => registry(&folder, address, origin),
            Self::Darner => darner(&folder, address, origin),
        }
    }
}

/// nginx that serves the files of the origin: the origin itself, and the bar for what is held.
pub(crate) fn file_server(ground: &Ground, content: &Content, name: &str) -> Result<Server> {
    let folder = ground.fresh(name)?;
    let server = format!("root {};", ground.files().display()) + &registry_shape(content);
    nginx(&folder, free_address()?, &server)
}

fn registry_shape(content: &Content) -> String {
    let digest = &content.manifest.digest;
    format!(
        r#"
        location = /v2/ {{ default_type application/json; return 200 '{{}}'; }}
        location ~ /manifests/ {{
            default_type application/vnd.oci.image.manifest.v1+json;
            add_header Docker-Content-Digest {digest};
        }}"#
    )
}

/// Buffers as large as help it: with the default ones it takes twice the CPU.
fn nginx_cache(folder: &Path, content: &Content, origin: SocketAddr) -> String {
    let _ = content;
    format!(
        r#"
        location / {{
            proxy_pass http://{origin};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache blobs;
            proxy_cache_valid 200 1h;
            proxy_cache_lock on;
            proxy_buffer_size 256k;
            proxy_buffers 8 256k;
            proxy_busy_buffers_size 512k;
            proxy_temp_file_write_size 512k;
            proxy_max_temp_file_size 8192m;
            proxy_temp_path {}/temp;
        }}"#,
        folder.display()
    )
}

fn nginx(folder: &Path, address: SocketAddr, server: &str) -> Result<Server> {
    let place = folder.display();
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let config = format!(
        r#"
{user}
daemon off;
worker_processes auto;
pid {place}/pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    sendfile_max_chunk 2m;
    tcp_nopush on;
    keepalive_timeout 120;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=10m;
    default_type application/octet-stream;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/temp;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    proxy_cache_path {place}/cache levels=1:2 keys_zone=blobs:4m max_size=20g inactive=1h use_temp_path=off;
    server {{
        listen {address};
        {server}
    }}
}}
"#
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let arguments = ["-p", &place.to_string(), "-c", &file.display().to_string()];
    Server::start(
        "/usr/sbin/nginx",
        &arguments.map(str::to_owned),
        address,
        &folder.join("log"),
    )
}

fn registry(folder: &Path, address: SocketAddr, origin: SocketAddr) -> Result<Server> {
    let config = format!(
        "version: 0.1\n\
         log: {{ level: error, accesslog: {{ disabled: true }} }}\n\
         storage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
         http: {{ addr: '{address}' }}\n\
         proxy: {{ remoteurl: 'http://{origin}' }}\n",
        folder.join("store").display()
    );
    let file = folder.join("config.yml");
    fs::write(&file, config)?;
    let arguments = ["serve".to_owned(), file.display().to_string()];
    Server::start("docker-registry", &arguments, address, &folder.join("log"))
}

fn darner(folder: &Path, address: SocketAddr, origin: SocketAddr) -> Result<Server> {
    let admin = free_address()?;
    let store = folder.join("store").display().to_string();
    let text = format!(
        "proxy --listen {address} --admin {admin} --data-dir {store} \
         --registry docker.io=http://{origin} --cache-size 20GiB --min-free 1% --log warn"
    );
    let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    Server::start(
        env!("CARGO_BIN_EXE_darner"),
        &arguments,
        address,
        &folder.join("log"),
    )
    .context("darner")
}
