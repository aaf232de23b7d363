//! The node asked and written to by a client library that is not ours: rust's oci-client.
//!
//! What the conformance suite checks with its own parser, another reading of the specification must
//! find as well: pulls by tag and digest, parts, tags, referrers, and every way of upload it has.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use cli::{Machine, Node};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::Reference;
use oci_client::client::{
    BlobResponse, Client, ClientConfig, ClientProtocol, Config, ImageLayer,
    PushBlobStreamChunkedResponse,
};
use oci_client::manifest::{OciDescriptor, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_conformance::origin::{content, sha256};
use oci_conformance::{Ask, Origin};

const NOBODY: &RegistryAuth = &RegistryAuth::Anonymous;

fn node(machine: &Machine, origin: &Origin) -> Node {
    let registry = format!("docker.io={}", origin.url());
    machine.up(&["--registry", &registry, "--min-free", "1%"])
}

fn client(monolithic: bool) -> Client {
    // The library takes the process's; that it is set already is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::new(ClientConfig {
        protocol: ClientProtocol::Http,
        use_monolithic_push: monolithic,
        ..ClientConfig::default()
    })
}

fn named(node: &Node, repository: &str, tag: &str) -> Reference {
    Reference::with_tag(node.listen.clone(), repository.into(), tag.into())
}

async fn bytes_of(client: &Client, image: &Reference, layer: &OciDescriptor) -> Vec<u8> {
    let mut out = Vec::new();
    client.pull_blob(image, layer, &mut out).await.unwrap();
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_cold_warm_and_without_the_registry() {
    let (machine, origin) = (Machine::new(), Origin::start().await);
    let layers = [content(1, 300_000), content(2, 5)];
    let image = origin.push_image("library/app", "1", &[&layers[0], &layers[1]]);
    let node = node(&machine, &origin);
    let (client, name) = (client(true), named(&node, "library/app", "1"));
    for turn in ["cold", "warm", "away"] {
        let digest = client.fetch_manifest_digest(&name, NOBODY).await.unwrap();
        let (manifest, config) = {
            let (manifest, of, config) = client
                .pull_manifest_and_config(&name, NOBODY)
                .await
                .unwrap();
            assert_eq!(of, digest, "{turn}");
            (manifest, config)
        };
        assert_eq!(sha256(config.as_bytes()), manifest.config.digest, "{turn}");
        let by_digest = name.clone_with_digest(digest);
        let (same, _) = client.pull_manifest(&by_digest, NOBODY).await.unwrap();
        let OciManifest::Image(same) = same else {
            panic!("{turn}: an index")
        };
        assert_eq!(same.to_string(), manifest.to_string(), "{turn}");
        for (layer, bytes) in manifest.layers.iter().zip(&layers) {
            assert_eq!(bytes_of(&client, &name, layer).await, **bytes, "{turn}");
        }
        let part = client.pull_blob_stream_partial(&name, &manifest.layers[0], 1000, Some(500));
        let BlobResponse::Partial(part) = part.await.unwrap() else {
            panic!("{turn}: the whole for a part")
        };
        let part: Vec<u8> = part.stream.try_collect::<Vec<_>>().await.unwrap().concat();
        assert_eq!(part, layers[0][1000..1500], "{turn}");
        if turn == "warm" {
            origin.stop().await;
        }
    }
    for layer in &image.layers {
        assert_eq!(origin.count(Ask::blob(layer).get()), 1, "{layer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_tags_and_referrers() {
    let (machine, origin) = (Machine::new(), Origin::start().await);
    let image = origin.push_image("library/app", "1", &[b"a layer"]);
    for tag in ["2", "3", "4"] {
        origin.tag("library/app", tag, &image.manifest);
    }
    let referrer = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.sbom",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
                   "digest": origin.push_blob("library/app", "{}")},
        "layers": [],
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": image.manifest, "size": 500},
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let digest = origin.push_manifest("library/app", None, kind, referrer.to_string());
    let node = node(&machine, &origin);
    let (client, name) = (client(true), named(&node, "library/app", "1"));
    let all = client.list_tags(&name, NOBODY, None, None).await.unwrap();
    assert_eq!(all.tags, ["1", "2", "3", "4"]);
    assert_eq!(all.name, "library/app");
    let page = client.list_tags(&name, NOBODY, Some(2), Some("1")).await;
    assert_eq!(page.unwrap().tags, ["2", "3"]);
    let subject = name.clone_with_digest(image.manifest.clone());
    for (filter, found) in [
        (None, 1),
        (Some("application/vnd.example.sbom"), 1),
        (Some("application/vnd.example.other"), 0),
    ] {
        let index = client.pull_referrers(&subject, filter).await.unwrap();
        assert_eq!(index.manifests.len(), found, "{filter:?}");
        assert!(index.manifests.iter().all(|entry| entry.digest == digest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_in_every_way_and_pulls_it_at_once() {
    let (machine, origin) = (Machine::new(), Origin::start().await);
    let node = node(&machine, &origin);
    for (monolithic, repository) in [(true, "team/whole"), (false, "team/chunks")] {
        let (client, name) = (client(monolithic), named(&node, repository, "1"));
        client.pull_manifest(&name, NOBODY).await.unwrap_err();
        let layer = content(7, 6 << 20);
        let layers = [ImageLayer::oci_v1(layer.clone(), None)];
        let config = Config::oci_v1("{}", None);
        client
            .push(&name, &layers, config, NOBODY, None)
            .await
            .unwrap();
        // The 404 of a moment ago is forgotten.
        let (manifest, digest) = client.pull_manifest(&name, NOBODY).await.unwrap();
        assert_eq!(origin.resolve(repository, "1").unwrap(), digest);
        let OciManifest::Image(manifest) = manifest else {
            panic!("an index")
        };
        assert_eq!(bytes_of(&client, &name, &manifest.layers[0]).await, layer);
    }
    let (client, name) = (client(false), named(&node, "team/stream", "1"));
    let parts: Vec<_> = (0..3).map(|part| content(part, 400_000)).collect();
    let whole = parts.concat();
    let frames = stream::iter(parts.into_iter().map(Ok)).boxed();
    let pushed = client
        .push_blob_stream_chunked(&name, frames)
        .await
        .unwrap();
    let PushBlobStreamChunkedResponse {
        blob_digest: digest,
        ..
    } = pushed;
    assert_eq!(digest, sha256(&whole));
    assert_eq!(origin.blob("team/stream", &digest).unwrap(), whole);
    let other = named(&node, "team/mounted", "1");
    client.mount_blob(&other, &name, &digest).await.unwrap();
    assert!(client.blob_exists(&other, &digest).await.unwrap());
    assert!(
        !client
            .blob_exists(&named(&node, "team/none", "1"), &digest)
            .await
            .unwrap()
    );
}
