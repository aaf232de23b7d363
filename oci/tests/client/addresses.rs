//! Names are resolved once, checked, and the checked address is dialled.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use oci::client::{Client, ClientConfig, ClientError, EndpointOptions, Resolve};

use super::server::{Server, ok};
use super::{config, get, named, text};

/// Answers every name with these addresses, and counts how often it was asked.
struct Fixed(Vec<IpAddr>, AtomicUsize);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(self.0.clone()) })
    }
}

fn resolving_to(addresses: &[&str]) -> (Client, Arc<Fixed>) {
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let resolver = Arc::new(Fixed(addresses, AtomicUsize::new(0)));
    let client = Client::new(ClientConfig {
        resolver: resolver.clone(),
        ..config()
    });
    (client, resolver)
}

#[tokio::test]
async fn a_built_in_name_does_not_lead_inside() {
    let server = Server::plain(|_| ok("inside")).await;
    let url = format!("http://registry.example:{}", server.port());
    for address in [
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
    ] {
        let (client, _) = resolving_to(&[address]);
        let endpoint = client.endpoint(&url, EndpointOptions::default()).unwrap();
        let error = get(&client, &endpoint, "/").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Refused { .. }),
            "{address}: {error}"
        );
    }
    assert_eq!(server.heads().len(), 0);
}

#[tokio::test]
async fn an_operator_s_name_may_but_not_to_metadata() {
    let server = Server::plain(|_| ok("inside")).await;
    let url = format!("http://registry.corp:{}", server.port());
    let (client, resolver) = resolving_to(&["169.254.169.254", "127.0.0.1"]);
    let endpoint = client.endpoint(&url, named(&[])).unwrap();
    assert_eq!(text(get(&client, &endpoint, "/").await).await, "inside");
    assert_eq!(resolver.1.load(Ordering::SeqCst), 1);

    let (client, _) = resolving_to(&["169.254.169.254"]);
    let endpoint = client.endpoint(&url, named(&[])).unwrap();
    let error = get(&client, &endpoint, "/").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_dead_address_is_followed_by_the_next() {
    let server = Server::plain(|_| ok("second")).await;
    let url = format!("http://registry.corp:{}", server.port());
    // Nobody listens there, on the same port.
    let (client, _) = resolving_to(&["127.0.0.2", "127.0.0.1"]);
    let endpoint = client.endpoint(&url, named(&[])).unwrap();
    assert_eq!(text(get(&client, &endpoint, "/").await).await, "second");
}

#[tokio::test]
async fn no_address_is_unreachable() {
    let (client, _) = resolving_to(&[]);
    let endpoint = client
        .endpoint("http://nowhere.example", named(&[]))
        .unwrap();
    let error = get(&client, &endpoint, "/").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[test]
fn an_endpoint_is_an_origin_and_a_path() {
    let (client, _) = resolving_to(&[]);
    let endpoint = |url: &str| client.endpoint(url, named(&[]));
    for url in [
        "",
        "r.example",
        "ftp://r.example",
        "https://u:pass@r.example",
        "https://r.example/?a=b",
        "https://",
    ] {
        let error = endpoint(url).expect_err(url).to_string();
        assert!(!error.contains("pass"), "{error}");
    }
    let good = endpoint("https://R.Example./Team/").unwrap();
    assert_eq!(format!("{good:?}"), "https://r.example:443/Team");
    let url = good.url("/v2/").unwrap().to_string();
    assert_eq!(url, "https://r.example/v2/");
    let v6 = endpoint("http://[::1]:5000").unwrap();
    assert_eq!(v6.url("/v2/").unwrap().to_string(), "http://[::1]:5000/v2/");
}
