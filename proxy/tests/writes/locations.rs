//! Where uploads go on: back through the node, in the form in which the client asked, and nowhere
//! that a client could choose.

use oci_conformance::origin::{Locations, content, nobody, sha256};
use oci_conformance::{Ask, Fault, Origin};

use crate::client::{UPLOADS, and, ask, location, post, push_blob};
use crate::rig::{Node, REPOSITORY, is_error, registry};

#[tokio::test]
async fn absolute_ones_and_those_at_a_storage_host() {
    let origin = Origin::start().await;
    let mut registries = vec![registry("docker.io", &[&origin])];
    let storage = format!("localhost:{}", origin.addr().port());
    registries[0].allowed_hosts = vec![storage.clone()];
    let node = Node::with(registries, |_| {});
    for (seed, locations) in [
        Locations::Relative,
        Locations::Absolute,
        Locations::Storage(format!("http://{storage}")),
        Locations::Storage(origin.url()),
    ]
    .into_iter()
    .enumerate()
    {
        origin.forget_requests();
        origin.habits(|habits| habits.locations = locations.clone());
        let bytes = content(seed as u64, 50_000);
        let request = ask(node.addr, "POST", UPLOADS).header("Authorization", "Basic eDp5");
        let begun = request.body("").send().await;
        let to = location(&begun);
        assert!(to.starts_with(UPLOADS), "{to}");
        let sealed = matches!(locations, Locations::Storage(_));
        assert_eq!(to.contains("darner."), sealed, "{to}");
        let send = async |method: &str, to: &str, part: &[u8]| {
            let request = ask(node.addr, method, to).header("Authorization", "Basic eDp5");
            request.body(part).send().await
        };
        let patched = send("PATCH", &to, &bytes[..20_000]).await;
        assert_eq!(patched.status, 202, "{}", patched.text());
        let digest = sha256(&bytes);
        let end = and(&location(&patched), &format!("digest={digest}"));
        let put = send("PUT", &end, &bytes[20_000..]).await;
        assert_eq!(put.status, 201, "{}", put.text());
        assert_eq!(location(&put), format!("/v2/{REPOSITORY}/blobs/{digest}"));
        assert_eq!(origin.blob(REPOSITORY, &digest).unwrap(), bytes);
        // A login goes to the registry's own host, also outside of its API, and to no other.
        let foreign = locations == Locations::Storage(format!("http://{storage}"));
        for seen in origin.seen(Ask::uploads().method("PUT")) {
            assert_eq!(seen.authorization().is_none(), foreign, "{locations:?}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_cannot_choose_what_is_dialled() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    origin.habits(|habits| habits.locations = Locations::Storage(origin.url()));
    let to = location(&post(&node, UPLOADS).await);
    let (start, seal) = to.rsplit_once('/').unwrap();
    origin.forget_requests();
    let forged = format!("{}A{}", &seal[..20], &seal[21..]);
    let forged = if forged == seal {
        seal.replacen("darner.", "darner.A", 1)
    } else {
        forged
    };
    for target in [
        format!("{start}/{forged}"),
        format!("{start}/darner."),
        format!("{start}/darner.aHR0cDovLzEyNy4wLjAuMS8"),
        // Of another repository.
        format!("/v2/other/blobs/uploads/{seal}"),
    ] {
        let answer = ask(node.addr, "PATCH", &target).body("x").send().await;
        is_error(&answer, 404, "BLOB_UPLOAD_UNKNOWN");
    }
    assert_eq!(origin.count(Ask::any()), 0);
    assert_eq!(
        ask(node.addr, "PATCH", &to).body("x").send().await.status,
        202
    );
    node.stop().await;
}

#[tokio::test]
async fn an_address_that_the_policy_forbids_is_not_dialled() {
    let (origin, stranger) = (Origin::start().await, Origin::start().await);
    let node = Node::of(&origin);
    for base in [
        format!("http://localhost:{}", stranger.addr().port()),
        "http://169.254.169.254".into(),
    ] {
        origin.habits(|habits| habits.locations = Locations::Storage(base));
        let to = location(&post(&node, UPLOADS).await);
        is_error(
            &ask(node.addr, "PATCH", &to).body("x").send().await,
            502,
            "UNAVAILABLE",
        );
    }
    assert_eq!(stranger.count(Ask::any()), 0);
    node.stop().await;
}

#[tokio::test]
async fn every_form_of_naming_a_registry_goes_on_in_that_form() {
    let (hub, quay) = (Origin::start().await, Origin::start().await);
    let registries = vec![
        registry("docker.io", &[&hub]),
        registry("quay.io", &[&quay]),
    ];
    let node = Node::with(registries, |_| {});
    for (seed, uploads) in [
        "/v2/org/app/blobs/uploads/?ns=quay.io",
        "/v2/quay.io/org/app/blobs/uploads/",
        "/quay.io/v2/org/app/blobs/uploads/",
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = content(seed as u64, 1000);
        let digest = sha256(&bytes);
        let begun = post(&node, uploads).await;
        let path = uploads.split('?').next().unwrap();
        let to = location(&begun);
        assert!(to.starts_with(path), "{to}");
        let by_ns = uploads.contains("ns=");
        assert_eq!(to.contains("ns=quay.io"), by_ns, "{to}");
        assert_eq!(begun.header("oci-namespace"), by_ns.then_some("quay.io"));
        let made = push_blob(&node, uploads, &bytes).await;
        let blob = path.replace("uploads/", &digest);
        let blob = if by_ns {
            format!("{blob}?ns=quay.io")
        } else {
            blob
        };
        assert_eq!((made.status, location(&made)), (201, blob.clone()));
        assert_eq!(node.get(&blob).await.body, bytes);
        assert!(quay.blob("org/app", &digest).is_some());
    }
    assert_eq!(hub.count(Ask::any()), 0);
    assert_eq!(
        quay.count(Ask::uploads().and(|seen| seen.query.contains("ns="))),
        0
    );
    node.stop().await;
}

#[tokio::test]
async fn a_redirected_upload_is_the_client_s_to_repeat() {
    let origin = Origin::start().await;
    let node = Node::of(&origin);
    let to = location(&post(&node, UPLOADS).await);
    let elsewhere = format!("{}/storage/upload-1?signature=of-upload-1", origin.url());
    let digest = sha256(b"x");
    let redirect = Fault::Redirect(format!("{elsewhere}&digest={digest}"));
    let puts = Ask::uploads().method("PUT");
    origin
        .when(puts)
        .once()
        .answer_all([Fault::Early, redirect]);
    let put = ask(node.addr, "PUT", &and(&to, &format!("digest={digest}")))
        .body("x")
        .send()
        .await;
    assert_eq!(put.status, 307, "{}", put.text());
    let made = ask(node.addr, "PUT", &location(&put))
        .body("x")
        .send()
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    // Anything but an upload is not led elsewhere.
    let gone = format!("http://{}/x", nobody().await);
    let manifest = format!("/v2/{REPOSITORY}/manifests/x");
    origin
        .when(Ask::manifest("x"))
        .answer(Fault::Redirect(gone));
    let put = ask(node.addr, "PUT", &manifest).body("{}").send().await;
    is_error(&put, 502, "UNAVAILABLE");
    node.stop().await;
}
