//! `darner pull` against a node and a scripted registry: layouts, resuming, platforms, refusals.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::fs;
use std::path::Path;

use cli::{Machine, Node, Said};
use oci_conformance::origin::{content, nobody, sha256};
use oci_conformance::{Ask, Fault, Image, Origin};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MIB: usize = 1 << 20;

/// A machine with a node on it that serves `registry.test` from an origin of the test's.
struct Place {
    machine: Machine,
    node: Node,
    origin: Origin,
}

impl Place {
    async fn new() -> Self {
        let origin = Origin::start().await;
        let machine = Machine::new();
        let registry = format!("registry.test={}", origin.url());
        let node = machine.up(&["--registry", &registry, "--negative-ttl", "10ms"]);
        Self {
            machine,
            node,
            origin,
        }
    }

    fn image(&self) -> Image {
        let layers = [content(1, 3 * MIB), content(2, MIB), content(3, 5_000)];
        let layers: Vec<&[u8]> = layers.iter().map(|layer| &layer[..]).collect();
        self.origin.push_image("app", "1", &layers)
    }

    /// `darner pull` to this node; the origin answers meanwhile.
    fn pull(&self, arguments: &[&str]) -> Said {
        let all = ["pull"].iter().chain(arguments).copied();
        let all = all.chain(self.node.flags());
        tokio::task::block_in_place(|| self.machine.run(all))
    }

    fn pulled(&self, arguments: &[&str]) -> Value {
        let said = self.pull(&[arguments, &["--json"]].concat());
        assert_eq!(said.code, 0, "{}", said.text());
        serde_json::from_str(&said.out).unwrap()
    }
}

fn blob(layout: &Path, digest: &str) -> Vec<u8> {
    let name = digest.strip_prefix("sha256:").unwrap();
    fs::read(layout.join("blobs/sha256").join(name)).unwrap()
}

fn index(layout: &Path) -> Value {
    serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap()
}

fn part<'a>(report: &'a Value, digest: &str) -> &'a Value {
    let parts = report["parts"].as_array().unwrap();
    parts.iter().find(|p| p["digest"] == digest).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_becomes_a_layout_that_is_whole_and_is_not_fetched_twice() {
    let place = Place::new().await;
    let image = place.image();
    let folder = place.machine.path("layout");
    let output = ["registry.test/app:1", "-o", folder.to_str().unwrap()];
    let report = place.pulled(&output);
    assert_eq!(report["digest"], json!(image.manifest));
    assert_eq!(report["parts"].as_array().unwrap().len(), 4);
    let sources = json!({"store": 0, "peer": 0, "supernode": 0, "upstream": 3 * MIB});
    assert_eq!(part(&report, &image.layers[0])["sources"], sources);

    for digest in image.blobs().chain([&image.manifest]) {
        assert_eq!(sha256(&blob(&folder, digest)), *digest);
    }
    let layout = fs::read_to_string(folder.join("oci-layout")).unwrap();
    assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
    let entry = &index(&folder)["manifests"][0];
    assert_eq!(entry["digest"], json!(image.manifest));
    assert_eq!(entry["mediaType"], MANIFEST);
    let manifest = blob(&folder, &image.manifest);
    assert_eq!(entry["size"], manifest.len());
    let names = &entry["annotations"];
    assert_eq!(names["org.opencontainers.image.ref.name"], "1");
    assert_eq!(names["io.containerd.image.name"], "registry.test/app:1");
    let mut rest: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    rest.sort();
    assert_eq!(rest, ["blobs", "index.json", "oci-layout"]);

    // A blob that rotted is fetched again, the others are not: the node is not even asked.
    let rotten = image.layers[1].strip_prefix("sha256:").unwrap();
    fs::write(folder.join("blobs/sha256").join(rotten), content(9, MIB)).unwrap();
    let report = place.pulled(&output);
    for digest in image.blobs() {
        let again = *digest == image.layers[1];
        assert_eq!(part(&report, digest)["already"], json!(!again));
    }
    assert_eq!(sha256(&blob(&folder, &image.layers[1])), image.layers[1]);
    assert_eq!(index(&folder)["manifests"].as_array().unwrap().len(), 1);
    // And the node asked the registry once for each.
    for digest in image.blobs() {
        assert_eq!(place.origin.count(Ask::blob(digest)), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_folder_the_nodes_store_is_warmed() {
    let place = Place::new().await;
    let image = place.image();
    let said = place.pull(&["registry.test/app:1"]);
    assert_eq!(said.code, 0, "{}", said.text());
    assert!(
        said.out
            .starts_with("pulled registry.test/app:1: 4.0 MiB in "),
        "{}",
        said.out
    );
    assert!(
        said.out.ends_with(&format!("\n{}\n", image.manifest)),
        "{}",
        said.out
    );
    assert!(
        said.err.contains("layer "),
        "plain lines, no terminal: {}",
        said.err
    );
    let report = place.pulled(&["registry.test/app:1"]);
    let layer = part(&report, &image.layers[0]);
    assert_eq!(layer["sources"]["store"], 3 * MIB);
    assert_eq!(layer["bytes"], 3 * MIB);
    assert!(report["layout"].is_null());
    assert_eq!(place.origin.count(Ask::blob(&image.layers[0])), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_index_comes_one_platform_or_all() {
    let place = Place::new().await;
    let mut entries = Vec::new();
    let platforms = ["linux/amd64", "linux/arm64", "linux/arm/v6", "plan9/386"];
    for (seed, platform) in (10..).zip(platforms) {
        let layer = content(seed, 70_000);
        let image = place.origin.push_image("multi", "part", &[&layer]);
        let mut words = platform.split('/');
        let mut of = json!({"os": words.next(), "architecture": words.next()});
        if let Some(variant) = words.next() {
            of["variant"] = json!(variant);
        }
        let size = place_manifest(&place, &image.manifest).await;
        entries.push(
            json!({"mediaType": MANIFEST, "digest": image.manifest, "size": size, "platform": of}),
        );
    }
    let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let bytes = document.to_string();
    let digest = place.origin.push_manifest("multi", Some("1"), INDEX, bytes);

    let folder = place.machine.path("one");
    let report = place.pulled(&[
        "registry.test/multi:1",
        "--platform",
        "linux/arm/v7",
        "-o",
        folder.to_str().unwrap(),
    ]);
    assert_eq!(report["platform"], "linux/arm/v6");
    assert_eq!(report["digest"], entries[2]["digest"]);
    let entry = &index(&folder)["manifests"][0];
    assert_eq!(entry["platform"], entries[2]["platform"]);

    let folder = place.machine.path("all");
    let all = ["registry.test/multi:1", "--all-platforms", "-o"];
    let report = place.pulled(&[&all[..], &[folder.to_str().unwrap()]].concat());
    assert_eq!(report["digest"], json!(digest));
    assert_eq!(report["manifests"], 5);
    assert_eq!(index(&folder)["manifests"][0]["mediaType"], INDEX);
    for entry in &entries {
        let digest = entry["digest"].as_str().unwrap();
        assert_eq!(sha256(&blob(&folder, digest)), digest);
    }

    let said = place.pull(&["registry.test/multi:1", "--platform", "linux/s390x"]);
    assert_eq!(said.code, 1);
    insta::assert_snapshot!("pull_of_a_missing_platform", said.err);
}

/// The size of a manifest as the registry serves it.
async fn place_manifest(place: &Place, digest: &str) -> usize {
    let path = format!("/v2/multi/manifests/{digest}?ns=registry.test");
    let text = tokio::task::block_in_place(|| cli::get(&place.node.listen, &path));
    text.split_once("\r\n\r\n").unwrap().1.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_pulled_by_itself() {
    let place = Place::new().await;
    let image = place.image();
    let folder = place.machine.path("blob");
    let layer = &image.layers[1];
    for name in [
        format!("registry.test/app@{layer}"),
        format!("registry.test/app/blobs/{layer}"),
    ] {
        let report = place.pulled(&[&name, "-o", folder.to_str().unwrap()]);
        assert_eq!(report["digest"], json!(layer));
        assert_eq!(report["parts"][0]["kind"], "blob");
        assert_eq!(blob(&folder, layer).len(), MIB);
    }
    assert_eq!(index(&folder)["manifests"], json!([]));
    // An image by digest has no tag to be named by.
    let name = format!("registry.test/app@{}", image.manifest);
    place.pulled(&[&name, "-o", folder.to_str().unwrap()]);
    let entry = &index(&folder)["manifests"][0];
    assert_eq!(entry["digest"], json!(image.manifest));
    assert!(entry["annotations"].is_null());
}

/// A pull that fails, as a person sees it.
fn refused(place: &Place, arguments: &[&str]) -> String {
    let said = place.pull(arguments);
    assert_ne!(said.code, 0, "{arguments:?}");
    assert_eq!(said.out, "");
    let command = arguments.join(" ");
    let text = format!("$ darner pull {command}\n{}\n", said.text_of(&place.node));
    let folder = place.machine.path("");
    text.replace(folder.to_str().unwrap().trim_end_matches('/'), "[tmp]")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_told_with_a_way_out() {
    let place = Place::new().await;
    place.image();
    let lost = place
        .origin
        .push_image("lost", "1", &[&content(7, 100_000)]);
    let gone = Ask::blob(&lost.layers[0]);
    place.origin.when(gone).answer(Fault::Status(404));
    place.origin.push_image("broken", "broken", &[b"z"]);
    let broken = Ask::manifest("broken");
    place.origin.when(broken).answer(Fault::Status(503));
    place.origin.push_image("limited", "limited", &[b"y"]);
    let limited = Ask::manifest("limited");
    let seconds = Fault::TooMany(Some("17".to_owned()));
    place.origin.when(limited).answer(seconds);
    let missing = format!("registry.test/app@{}", sha256(b"nothing"));
    let mut text = String::new();
    for image in [
        "registry.test/app:2",
        &missing,
        "registry.test/lost:1",
        "registry.test/broken:broken",
        // From here on the node leaves the registry alone for a while.
        "registry.test/limited:limited",
        "other.test/app:1",
    ] {
        text.push_str(&refused(&place, &[image]));
    }
    let private = Place::new().await;
    private.origin.require_tokens();
    private.origin.private("secret", "me", "word");
    private.origin.push_image("secret", "1", &[b"x"]);
    text.push_str(&refused(&private, &["registry.test/secret:1"]));
    insta::assert_snapshot!(text);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_cannot_work_are_told() {
    let place = Place::new().await;
    let taken = place.machine.path("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("thesis.txt"), "x").unwrap();
    let app = "registry.test/app:1";
    let mut text = String::new();
    for arguments in [
        vec![app, "-o", taken.to_str().unwrap()],
        vec!["https://registry.test/app:1"],
        vec!["registry.test/App:1"],
        vec!["registry.test/app@sha256:abc"],
        vec![app, "--platform", "arm"],
        vec![app, "--platform", "linux/arm", "--all-platforms"],
    ] {
        text.push_str(&refused(&place, &arguments));
    }
    let nobody = nobody().await.to_string();
    for (name, address) in [
        ("[nobody]", nobody.clone()),
        ("[admin]", place.node.admin.clone()),
        ("http://[node]", format!("http://{}", place.node.listen)),
        ("localhost", "localhost".to_owned()),
    ] {
        let arguments = ["pull", app, "--address", &address];
        let said = tokio::task::block_in_place(|| place.machine.run(arguments));
        let words = said.text_of(&place.node).replace(&nobody, "[nobody]");
        text.push_str(&format!("$ darner pull {app} --address {name}\n{words}\n"));
    }
    insta::assert_snapshot!(text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_leaves_no_image_and_what_was_whole_stays() {
    let place = Place::new().await;
    let image = place.image();
    place
        .origin
        .when(Ask::blob(&image.layers[2]))
        .answer(Fault::Status(404));
    let folder = place.machine.path("layout");
    let output = ["registry.test/app:1", "-o", folder.to_str().unwrap()];
    let said = place.pull(&output);
    assert_eq!(said.code, 1, "{}", said.text());
    assert_eq!(index(&folder)["manifests"], json!([]));

    place.origin.behave();
    let report = cli::wait_until("the registry is asked again", || {
        let said = place.pull(&[&output[..], &["--json"]].concat());
        (said.code == 0).then(|| serde_json::from_str::<Value>(&said.out).unwrap())
    });
    assert_eq!(report["digest"], json!(image.manifest));
    assert_eq!(part(&report, &image.config)["already"], true);
    assert_eq!(part(&report, &image.layers[2])["already"], false);
}
