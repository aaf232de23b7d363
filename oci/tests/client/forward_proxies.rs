//! The system's forward proxies.

use std::sync::{Arc, Mutex};

use hyper_util::client::proxy::matcher::Matcher;
use oci::client::{Client, ClientConfig, ClientError, EndpointOptions};

use super::server::{Authority, Server, ok, tunnel_proxy};
use super::{config, get, named, text};

#[tokio::test]
async fn plain_requests_carry_the_whole_url() {
    let proxy = Server::plain(|_| ok("by proxy")).await;
    let proxies = Matcher::builder()
        .http(format!("http://user:pass@127.0.0.1:{}", proxy.port()))
        .no("direct.example")
        .build();
    let client = Client::new(ClientConfig {
        proxies,
        ..config()
    });
    // The name exists nowhere: the proxy resolves it.
    let options = EndpointOptions::default();
    let endpoint = client.endpoint("http://r.invalid", options).unwrap();
    assert_eq!(
        text(get(&client, &endpoint, "/v2/").await).await,
        "by proxy"
    );
    let head = &proxy.heads()[0];
    assert!(
        head.starts_with("GET http://r.invalid/v2/ HTTP/1.1\r\n"),
        "{head}"
    );
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("\r\nproxy-authorization: basic dxnlcjpwyxnz\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nhost: r.invalid\r\n"), "{head}");
}

#[tokio::test]
async fn an_inner_address_is_refused_also_through_a_proxy() {
    let proxy = Server::plain(|_| ok("by proxy")).await;
    let proxies = Matcher::builder()
        .http(format!("http://127.0.0.1:{}", proxy.port()))
        .build();
    let client = Client::new(ClientConfig {
        proxies,
        ..config()
    });
    for url in [
        "http://169.254.169.254",
        "http://localhost",
        "http://10.0.0.1",
    ] {
        let endpoint = client.endpoint(url, EndpointOptions::default()).unwrap();
        let error = get(&client, &endpoint, "/").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Refused { .. }),
            "{url}: {error}"
        );
    }
    assert_eq!(proxy.heads().len(), 0);
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let authority = Authority::new();
    let server = Server::tls(&authority, |_| ok("end to end")).await;
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let (port, _tasks) = tunnel_proxy(heads.clone()).await;
    let proxies = Matcher::builder()
        .https(format!("http://u:p@127.0.0.1:{port}"))
        .build();
    let client = Client::new(ClientConfig {
        proxies,
        ..config()
    });
    let options = EndpointOptions {
        ca_pem: Some(authority.pem()),
        ..named(&[])
    };
    let endpoint = client.endpoint(&server.url("https"), options).unwrap();
    assert_eq!(text(get(&client, &endpoint, "/").await).await, "end to end");
    let heads = heads.lock().unwrap();
    let connect = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", server.port());
    assert!(heads[0].starts_with(&connect), "{heads:?}");
    assert!(
        heads[0].contains("Proxy-Authorization: Basic dTpw\r\n"),
        "{heads:?}"
    );
    assert!(!heads[0].contains("Bearer"), "{heads:?}");
}
