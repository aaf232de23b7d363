//! The registry client on real sockets: whom it dials, what it believes, what it keeps to itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers too")]

mod addresses;
mod connections;
mod forward_proxies;
mod redirects;
mod server;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use oci::client::{
    Client, ClientConfig, ClientError, Endpoint, EndpointOptions, HostPort, Redirects, Request,
    Response, Timeouts,
};

/// A client whose deadlines end a failing test soon.
fn config() -> ClientConfig {
    ClientConfig {
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(1),
            body_idle: Duration::from_secs(1),
        },
        ..ClientConfig::bare()
    }
}

/// What an operator says who wrote the endpoint, and these hosts besides.
fn named(allowed_hosts: &[&server::Server]) -> EndpointOptions {
    EndpointOptions {
        named: true,
        allowed_hosts: allowed_hosts
            .iter()
            .map(|server| HostPort::new("127.0.0.1", server.port()))
            .collect(),
        ..EndpointOptions::default()
    }
}

async fn get(client: &Client, endpoint: &Endpoint, path: &str) -> Result<Response, ClientError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer t"));
    let request = Request {
        endpoint,
        method: Method::GET,
        url: endpoint.url(path).unwrap(),
        headers,
        body: Bytes::new(),
        also_allowed: None,
        redirects: Redirects::Follow,
    };
    client.send(request).await
}

async fn text(response: Result<Response, ClientError>) -> String {
    let bytes = response.unwrap().body.collect(1 << 20).await.unwrap();
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}
