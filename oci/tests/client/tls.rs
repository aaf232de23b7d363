//! Whose certificates are believed.

use oci::client::{Client, ClientError, EndpointOptions};

use super::server::{Authority, Server, ok, redirect};
use super::{config, get, named, text};

#[tokio::test]
async fn only_known_authorities_unless_the_operator_says_otherwise() {
    let authority = Authority::new();
    let server = Server::tls(&authority, |_| ok("over tls")).await;
    let client = Client::new(config());
    let url = server.url("https");

    let unknown = client.endpoint(&url, named(&[])).unwrap();
    let error = get(&client, &unknown, "/").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
    assert_eq!(server.heads().len(), 0);

    let with_ca = EndpointOptions {
        ca_pem: Some(authority.pem()),
        ..named(&[])
    };
    let known = client.endpoint(&url, with_ca).unwrap();
    assert_eq!(text(get(&client, &known, "/").await).await, "over tls");

    let unverified = EndpointOptions {
        insecure_skip_verify: true,
        ..named(&[])
    };
    let unverified = client.endpoint(&url, unverified).unwrap();
    assert_eq!(text(get(&client, &unverified, "/").await).await, "over tls");
}

#[tokio::test]
async fn skipping_verification_ends_at_the_endpoint_s_own_hosts() {
    let authority = Authority::new();
    let other = Server::tls(&authority, |_| ok("other")).await;
    // The same address under another name: reachable, but nobody said not to verify it.
    let to = format!("https://localhost:{}/", other.port());
    let server = Server::tls(&authority, move |_| redirect(&to)).await;
    let client = Client::new(config());
    let options = EndpointOptions {
        insecure_skip_verify: true,
        ..named(&[])
    };
    let endpoint = client.endpoint(&server.url("https"), options).unwrap();
    let error = get(&client, &endpoint, "/").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert_eq!(other.heads().len(), 0);
}

#[tokio::test]
async fn https_never_becomes_http() {
    let authority = Authority::new();
    let plain = Server::plain(|_| ok("plain")).await;
    let to = plain.url("http");
    let server = Server::tls(&authority, move |_| redirect(&to)).await;
    let client = Client::new(config());
    let options = EndpointOptions {
        ca_pem: Some(authority.pem()),
        ..named(&[&plain])
    };
    let endpoint = client.endpoint(&server.url("https"), options).unwrap();
    let error = get(&client, &endpoint, "/").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert_eq!(plain.heads().len(), 0);
}

#[test]
fn a_ca_file_without_certificates_is_an_error() {
    let client = Client::new(config());
    let options = EndpointOptions {
        ca_pem: Some(b"not PEM".to_vec()),
        ..named(&[])
    };
    let error = client.endpoint("https://r.example", options).unwrap_err();
    assert!(error.to_string().contains("CA file"), "{error}");
}
