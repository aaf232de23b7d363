//! Where a redirect may lead, and what goes along.

use http::StatusCode;
use oci::client::{Client, ClientError};

use super::server::{Server, answer, ok, redirect};
use super::{config, get, named, text};

fn authorized(head: &str) -> bool {
    head.to_ascii_lowercase()
        .contains("\r\nauthorization: bearer t\r\n")
}

#[tokio::test]
async fn credentials_stay_with_scheme_host_and_port() {
    let store = Server::plain(|_| ok("bytes")).await;
    let to = store.url("http");
    let server = Server::plain(move |head| match head.split(' ').nth(1) {
        Some("/same") => redirect("/here?a=b"),
        Some("/here?a=b") => ok("here"),
        _ => redirect(&format!("{to}/presigned?secret=1")),
    })
    .await;
    let client = Client::new(config());
    let endpoint = client
        .endpoint(&server.url("http"), named(&[&store]))
        .unwrap();
    let same = get(&client, &endpoint, "/same").await.unwrap();
    assert!(!same.moved);
    assert!(server.heads().iter().all(|head| authorized(head)));
    let away = get(&client, &endpoint, "/away").await.unwrap();
    assert!(away.moved);
    assert_eq!(away.status, StatusCode::OK);
    let heads = store.heads();
    assert!(
        heads[0].starts_with("GET /presigned?secret=1 HTTP/1.1"),
        "{heads:?}"
    );
    assert!(!authorized(&heads[0]), "{heads:?}");
}

#[tokio::test]
async fn what_was_dropped_does_not_come_back() {
    let port = std::sync::Arc::new(std::sync::OnceLock::new());
    let back = port.clone();
    let middle = Server::plain(move |_| {
        let port: &u16 = back.get().unwrap();
        redirect(&format!("http://127.0.0.1:{port}/end"))
    })
    .await;
    let to = middle.url("http");
    let server = Server::plain(move |head| match head.split(' ').nth(1) {
        Some("/end") => ok("end"),
        _ => redirect(&to),
    })
    .await;
    port.set(server.port()).unwrap();
    let client = Client::new(config());
    let endpoint = client
        .endpoint(&server.url("http"), named(&[&middle]))
        .unwrap();
    assert_eq!(text(get(&client, &endpoint, "/start").await).await, "end");
    let heads = server.heads();
    assert!(authorized(&heads[0]) && !authorized(&heads[1]), "{heads:?}");
}

#[tokio::test]
async fn loops_and_nonsense_end() {
    let server = Server::plain(|head| match head.split(' ').nth(1) {
        Some("/loop") => redirect("/loop"),
        Some("/none") => answer("307 Temporary Redirect", "", ""),
        Some("/file") => redirect("file:///etc/passwd"),
        Some("/user") => redirect("http://user:pass@127.0.0.1/"),
        _ => redirect("http://"),
    })
    .await;
    let client = Client::new(config());
    let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
    let error = get(&client, &endpoint, "/loop").await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid { .. }), "{error}");
    assert_eq!(server.heads().len(), 6);
    // Without a Location it is an answer like any other.
    let bare = get(&client, &endpoint, "/none").await.unwrap();
    assert_eq!(bare.status, StatusCode::TEMPORARY_REDIRECT);
    for path in ["/file", "/user", "/empty"] {
        let error = get(&client, &endpoint, path).await.unwrap_err();
        assert!(
            matches!(
                error,
                ClientError::Refused { .. } | ClientError::Invalid { .. }
            ),
            "{path}: {error}"
        );
        assert!(!error.to_string().contains("pass@"), "{error}");
    }
}

#[tokio::test]
async fn private_and_metadata_addresses_are_not_followed() {
    let inside = Server::plain(|_| ok("inside")).await;
    let port = inside.port();
    for to in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://0.0.0.0/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
    ] {
        let location = to.clone();
        let server = Server::plain(move |_| redirect(&location)).await;
        let client = Client::new(config());
        let endpoint = client.endpoint(&server.url("http"), named(&[])).unwrap();
        let error = get(&client, &endpoint, "/").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Refused { .. }),
            "{to}: {error}"
        );
    }
    assert_eq!(inside.heads().len(), 0);
}
