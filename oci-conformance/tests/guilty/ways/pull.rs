//! Wrong ways with manifests and blobs.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;

use super::{Way, asks, blob, manifest, remembering, says};
use crate::relay::{Heard, Said, Wrong};

/// Leaves the quotes of the ETag out the first time, as docker-registry does with cold blobs.
fn bare_tag_when_cold() -> Wrong {
    let known: Mutex<HashSet<String>> = Mutex::default();
    Wrong::says(move |heard, said| {
        if heard.method == "GET" && known.lock().unwrap().insert(heard.target.clone()) {
            said.set("etag", "sha256:bare");
        }
    })
}

fn flip(said: &mut Said) {
    if let Some(byte) = said.body.get_mut(9) {
        *byte ^= 1;
    }
}

pub(super) fn manifests() -> Vec<Way> {
    vec![
        says("PUL-01", "realm", |_, said| {
            said.status = 401;
            said.set("www-authenticate", "Bearer service=\"x\"");
        }),
        says("PUL-01", "404", |_, said| said.status = 404),
        says("PUL-02", "differ from offset 9", |heard, said| {
            if manifest(heard) {
                flip(said);
            }
        }),
        says("PUL-02", "bytes, not", |heard, said| {
            if manifest(heard) {
                said.body.push(b'\n');
            }
        }),
        says("PUL-03", "hashes to", |heard, said| {
            if manifest(heard) {
                flip(said);
            }
        }),
        says("PUL-04", "charset", |heard, said| {
            if manifest(heard) && heard.method == "HEAD" {
                said.set(
                    "content-type",
                    "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
                );
            }
        }),
        says("PUL-05", "Docker-Content-Digest is missing", |_, said| {
            said.remove("docker-content-digest");
        }),
        says("PUL-05", "content-length is 0", |heard, said| {
            if heard.method == "HEAD" {
                said.length = Some(0);
            }
        }),
        says("PUL-05", "of body", |heard, said| {
            if heard.method == "HEAD" {
                said.body = b"{}".to_vec();
                said.body_anyway = true;
            }
        }),
    ]
}

pub(super) fn blobs() -> Vec<Way> {
    vec![
        says("PUL-06", "content-type is", |heard, said| {
            if heard.method == "GET" && blob(heard) {
                said.set("content-type", "application/x-tar");
            }
        }),
        Way {
            check: "PUL-06",
            words: "etag is",
            wrong: bare_tag_when_cold(),
        },
        says(
            "PUL-07",
            "Docker-Content-Digest is sha256:0",
            |heard, said| {
                if blob(heard) {
                    said.set(
                        "docker-content-digest",
                        &format!("sha256:{}", "0".repeat(64)),
                    );
                }
            },
        ),
        says("PUL-07", "ends early", |heard, said| {
            if blob(heard) {
                said.length = Some(said.body.len() + 1);
            }
        }),
        Way {
            check: "PUL-08",
            words: "asked 2 times",
            wrong: Wrong::asks(|heard| {
                if blob_asked(heard) {
                    heard.method = "GET".to_owned();
                }
            }),
        },
        says("PUL-08", "content-length", |heard, said| {
            if blob(heard) {
                said.length = Some(7);
            }
        }),
        says("PUL-09", "the blob of 0 bytes", |heard, said| {
            // Eviction by two timers left files of no bytes; then none are believed.
            if blob(heard) && heard.method == "GET" && said.body.is_empty() {
                said.json(404, "{\"errors\":[]}");
            }
        }),
        says("PUL-12", "content-type is", |heard, said| {
            let docker = |(_, value): &(String, String)| value.contains("manifest.list");
            if manifest(heard) && said.headers.iter().any(docker) {
                said.set("content-type", "application/vnd.oci.image.index.v1+json");
            }
        }),
        says("PUL-15", "the manifest with whitespace", |heard, said| {
            let json = serde_json::from_slice::<serde_json::Value>(&said.body);
            if let (true, Ok(json)) = (manifest(heard), json) {
                said.body = json.to_string().into_bytes();
            }
        }),
        says("PUL-15", "the manifest with large", |heard, said| {
            if manifest(heard) && said.body.len() > 1 << 20 {
                said.json(413, "{}");
            }
        }),
    ]
}

fn blob_asked(heard: &Heard) -> bool {
    blob(heard) && heard.method == "HEAD"
}

fn fetch(url: &str) {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    _ = stream.read_to_end(&mut Vec::new());
}

pub(super) fn odd_content() -> Vec<Way> {
    vec![
        says("PUL-10", "docker-content-digest is", |_, said| {
            let digest = format!("sha256:{}", "0".repeat(64));
            said.set("docker-content-digest", &digest);
        }),
        Way {
            check: "PUL-11",
            words: "second content",
            wrong: remembering(),
        },
        says("PUL-16", "url was fetched", |_, said| {
            let json: serde_json::Value = serde_json::from_slice(&said.body).unwrap_or_default();
            if let Some(url) = json["layers"][0]["urls"][0].as_str() {
                fetch(url);
            }
        }),
        says("PUL-16", "as upstream", |heard, said| {
            if blob(heard) {
                said.status = 502;
            }
        }),
    ]
}

pub(super) fn negotiation() -> Vec<Way> {
    vec![
        Way {
            check: "PUL-13",
            words: "OCI client, request 2: 404",
            wrong: remembering(),
        },
        asks("PUL-14", "several lines", |heard| {
            let mut first = true;
            heard
                .headers
                .retain(|(name, _)| name != "accept" || std::mem::take(&mut first));
        }),
        asks("PUL-14", "no Accept", |heard| {
            heard.headers.push(("accept".to_owned(), "*/*".to_owned()));
        }),
        asks("PUL-17", "200, not 304", |heard| {
            heard.headers.retain(|(name, _)| name != "if-none-match");
        }),
        says("PUL-17", "no strong entity tag", |_, said| {
            said.set("etag", "W/\"x\"");
        }),
        says("PUL-17", "bytes of body", |_, said| {
            if said.status == 304 {
                said.body = b"not modified".to_vec();
                said.body_anyway = true;
            }
        }),
        says("PUL-18", "Content-Encoding `gzip`", |heard, said| {
            if heard.header("accept-encoding").is_some() {
                said.set("content-encoding", "gzip");
            }
        }),
    ]
}
