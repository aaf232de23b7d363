//! The scripted origin takes pushes as the specification says; checked without any client's help.

use oci_conformance::origin::{Locations, content, sha256, sha512};
use oci_conformance::raw::{self, Answer, Request};
use oci_conformance::{Ask, Fault, Gate, Origin};
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn ask(origin: &Origin, method: &str, target: &str) -> Request {
    raw::request(origin.addr(), method, target)
}

/// Begins an upload in `a/b` and returns where it goes on.
async fn begin(origin: &Origin) -> String {
    let answer = ask(origin, "POST", "/v2/a/b/blobs/uploads/")
        .body("")
        .send()
        .await;
    assert_eq!(answer.status, 202);
    location(&answer)
}

fn location(answer: &Answer) -> String {
    answer.header("location").expect("a Location").to_owned()
}

#[tokio::test]
async fn a_blob_by_post_and_put_and_by_one_post() {
    let origin = Origin::start().await;
    let bytes = content(1, 300_000);
    for digest in [sha256(&bytes), sha512(&bytes)] {
        let to = format!("{}&digest={digest}", begin(&origin).await);
        let answer = ask(&origin, "PUT", &to).body(&bytes).send().await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(location(&answer), format!("/v2/a/b/blobs/{digest}"));
        assert_eq!(origin.blob("a/b", &digest).unwrap(), bytes);
    }
    let digest = sha256(&bytes);
    let one = format!("/v2/c/blobs/uploads/?digest={digest}");
    let answer = ask(&origin, "POST", &one)
        .chunks([&bytes[..7], &bytes[7..]])
        .send()
        .await;
    assert_eq!(answer.status, 201);
    assert_eq!(origin.blob("c", &digest).unwrap(), bytes);
    let wrong = ask(&origin, "POST", &one).body("else").send().await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (400, "DIGEST_INVALID")
    );
    assert_eq!(origin.uploads(), 0);
    let seen = &origin.seen(Ask::uploads().method("PUT"))[0];
    assert_eq!(
        (&seen.body[..], seen.received_bytes()),
        (&bytes[..], 300_000)
    );
}

#[tokio::test]
async fn chunks_in_order_and_out_of_order() {
    let origin = Origin::start().await;
    origin.habits(|habits| habits.chunk_min = Some(1000));
    let bytes = content(2, 3000);
    let answer = ask(&origin, "POST", "/v2/a/b/blobs/uploads/")
        .body("")
        .send()
        .await;
    assert_eq!(answer.header("oci-chunk-min-length"), Some("1000"));
    let to = location(&answer);
    let chunk = |range: &str, part: &[u8]| {
        let request = ask(&origin, "PATCH", &to).header("Content-Range", range);
        request.body(part).send()
    };
    let first = chunk("0-999", &bytes[..1000]).await;
    assert_eq!((first.status, first.header("range")), (202, Some("0-999")));
    for range in [
        "2000-2999",
        "0-999",
        "1000-1998",
        "bytes 1000-1999/3000",
        "-",
    ] {
        let answer = chunk(range, &bytes[1000..2000]).await;
        assert_eq!(
            (answer.status, answer.header("range")),
            (416, Some("0-999")),
            "{range}"
        );
    }
    let status = ask(&origin, "GET", &to).send().await;
    assert_eq!(
        (status.status, status.header("range")),
        (204, Some("0-999"))
    );
    assert_eq!(chunk("1000-1999", &bytes[1000..2000]).await.status, 202);
    let digest = sha256(&bytes);
    let end = format!("{to}&digest={digest}");
    let last = ask(&origin, "PUT", &end).header("Content-Range", "2000-2999");
    assert_eq!(last.body(&bytes[2000..]).send().await.status, 201);
    assert_eq!(origin.blob("a/b", &digest).unwrap(), bytes);
    assert_eq!(ask(&origin, "GET", &to).send().await.status, 404);
}

#[tokio::test]
async fn an_upload_is_cancelled_and_is_found_only_with_its_query() {
    let origin = Origin::start().await;
    let to = begin(&origin).await;
    let bare = to.split('?').next().unwrap();
    for lost in [
        bare,
        &to.replace("a/b", "a/c"),
        &to.replace("upload-1", "upload-9"),
    ] {
        let answer = ask(&origin, "GET", lost).send().await;
        assert_eq!(answer.code(), "BLOB_UPLOAD_UNKNOWN", "{lost}");
    }
    assert_eq!(ask(&origin, "DELETE", &to).send().await.status, 204);
    assert_eq!(ask(&origin, "DELETE", &to).send().await.status, 404);
    let url = origin.url();
    for (locations, start) in [
        (Locations::Absolute, format!("{url}/v2/a/b/blobs/uploads/")),
        (Locations::Storage(url.clone()), format!("{url}/storage/")),
    ] {
        origin.habits(|habits| habits.locations = locations);
        let to = begin(&origin).await;
        assert!(to.starts_with(&start), "{to}");
        let path = to.strip_prefix(&url).unwrap();
        let answer = ask(&origin, "PATCH", path).body("x").send().await;
        assert_eq!(answer.status, 202);
    }
}

#[tokio::test]
async fn mounts_take_the_right_to_read_the_source() {
    let origin = Origin::start().await;
    let digest = origin.push_blob("from/here", "a layer");
    let mount = format!("/v2/a/b/blobs/uploads/?mount={digest}&from=from/here");
    assert_eq!(
        ask(&origin, "POST", &mount).body("").send().await.status,
        201
    );
    assert!(origin.blob("a/b", &digest).is_some());
    let missing = mount.replace("from/here", "from/there");
    assert_eq!(
        ask(&origin, "POST", &missing).body("").send().await.status,
        202
    );
    origin.require_basic();
    origin.private("from/here", "alice", "a");
    origin.private("a/b", "alice", "a");
    origin.private("a/b", "bob", "b");
    for (account, status) in [("YWxpY2U6YQ==", 201), ("Ym9iOmI=", 202)] {
        let request = ask(&origin, "POST", &mount).body("");
        let request = request.header("Authorization", &format!("Basic {account}"));
        assert_eq!(request.send().await.status, status);
    }
    assert_eq!(
        ask(&origin, "POST", &mount).body("").send().await.status,
        401
    );
}

#[tokio::test]
async fn manifests_are_checked_tagged_and_deleted() {
    let origin = Origin::start().await;
    let config = origin.push_blob("a/b", "{}");
    let subject = sha256(b"another manifest");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "x/y",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 16},
    });
    let bytes = manifest.to_string();
    let digest = sha256(bytes.as_bytes());
    let put = |reference: &str, body: &str| {
        let target = format!("/v2/a/b/manifests/{reference}");
        let request = ask(&origin, "PUT", &target).header("Content-Type", MANIFEST);
        request.body(body).send()
    };
    let tags = format!("{digest}?tag=one&tag=two&tag=-bad");
    let answer = put(&tags, &bytes).await;
    assert_eq!(
        (answer.status, answer.header("oci-subject")),
        (201, Some(&*subject))
    );
    let named: Vec<&str> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "oci-tag")
        .map(|(_, tag)| &**tag)
        .collect();
    assert_eq!(named, ["one", "two"]);
    assert_eq!(
        put("three", &bytes).await.header("docker-content-digest"),
        Some(&*digest)
    );
    for (reference, body, status) in [
        (&*digest, "{}", 400),
        ("x", "not json", 400),
        ("x", &bytes.replace(&config, &subject), 404),
        ("x", &format!("{{\"x\":\"{}\"}}", "y".repeat(4 << 20)), 413),
    ] {
        assert_eq!(put(reference, body).await.status, status, "{reference}");
    }
    let delete = |what: &str| ask(&origin, "DELETE", &format!("/v2/a/b/{what}")).send();
    assert_eq!(delete("manifests/three").await.status, 202);
    assert_eq!(origin.resolve("a/b", "three"), None);
    assert_eq!(origin.resolve("a/b", "one").as_deref(), Some(&*digest));
    assert_eq!(delete(&format!("manifests/{digest}")).await.status, 202);
    assert_eq!(origin.resolve("a/b", "one"), None);
    assert_eq!(delete(&format!("blobs/{config}")).await.status, 202);
    assert_eq!(delete(&format!("blobs/{config}")).await.status, 404);
    origin.habits(|habits| habits.deletes = false);
    assert_eq!(delete(&format!("blobs/{config}")).await.status, 405);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let origin = Origin::start().await;
    let subject = sha256(b"subject");
    for number in 0..5 {
        let kind = if number == 4 { "z/z" } else { "x/y+z" };
        let manifest = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "n": number,
            "artifactType": kind, "subject": {"digest": subject}});
        origin.push_manifest(
            "a/b",
            Some(&format!("t{number}")),
            INDEX,
            manifest.to_string(),
        );
    }
    origin.habits(|habits| habits.page = Some(2));
    let filtered = format!("/v2/a/b/referrers/{subject}?artifactType=x/y%2Bz");
    for (first, list, count) in [
        ("/v2/a/b/tags/list", "tags", 5),
        ("/v2/a/b/tags/list?n=3&last=t0", "tags", 4),
        (&format!("/v2/a/b/referrers/{subject}"), "manifests", 5),
        (&filtered, "manifests", 4),
    ] {
        let (mut next, mut all) = (Some(first.to_owned()), Vec::new());
        while let Some(target) = next {
            let answer = ask(&origin, "GET", &target).send().await;
            let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let entries = page[list].as_array().unwrap().clone();
            assert!(entries.len() <= 2);
            all.extend(entries);
            let link = answer
                .header("link")
                .and_then(|line| line.strip_prefix('<'));
            next = link.and_then(|line| Some(line.split_once('>')?.0.to_owned()));
        }
        all.dedup();
        assert_eq!(all.len(), count, "{first}");
    }
    let none = ask(&origin, "GET", "/v2/a/b/tags/list?n=0").send().await;
    assert_eq!(
        (none.header("link"), none.text().contains("[]")),
        (None, true)
    );
    assert_eq!(
        ask(&origin, "GET", "/v2/a/b/tags/list?n=-1")
            .send()
            .await
            .status,
        400
    );
    assert_eq!(
        ask(&origin, "GET", "/v2/a/b/referrers/sha256:x")
            .send()
            .await
            .status,
        400
    );
    origin.habits(|habits| habits.referrers = false);
    assert_eq!(ask(&origin, "GET", &filtered).send().await.status, 404);
}

#[tokio::test]
async fn answers_before_the_body_and_paces_it() {
    let origin = Origin::start().await;
    let target = "/v2/a/b/blobs/uploads/?digest=sha256:x";
    origin
        .when(Ask::uploads())
        .once()
        .answer_all([Fault::Early, Fault::Status(413)]);
    // The body that is announced never comes.
    let request = ask(&origin, "POST", target).header("Content-Length", "1000000");
    assert_eq!(request.send().await.status, 413);

    let gate = Gate::closed();
    origin
        .when(Ask::uploads())
        .once()
        .answer(Fault::PaceBody(gate.clone()));
    let bytes = content(3, 200_000);
    let sending = ask(&origin, "POST", target).header("Expect", "100-continue");
    let sending = tokio::spawn(sending.body(&bytes).send());
    let seen = origin.wait_for(2, Ask::uploads()).await.remove(1);
    gate.allow(1000);
    seen.received(1000).await;
    assert_eq!(seen.received_bytes(), 1000);
    gate.open();
    assert_eq!(sending.await.unwrap().status, 400);
    assert_eq!(&seen.body[..], &bytes[..]);
}

#[tokio::test]
async fn writing_takes_a_name_and_may_take_more() {
    let origin = Origin::start().await;
    origin.require_tokens();
    origin.writer("a/b", "alice", "a");
    origin.private("other", "bob", "b");
    let answer = ask(&origin, "POST", "/v2/a/b/blobs/uploads/")
        .body("")
        .send()
        .await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("repository:a/b:pull,push"),
        "{challenge}"
    );
    let scope = "/token?scope=repository:a/b:pull,push";
    for (account, status) in [("YWxpY2U6YQ==", 202), ("Ym9iOmI=", 401)] {
        let request = raw::get(origin.addr(), scope);
        let request = request.header("Authorization", &format!("Basic {account}"));
        let token: serde_json::Value = serde_json::from_slice(&request.send().await.body).unwrap();
        let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
        let request = ask(&origin, "POST", "/v2/a/b/blobs/uploads/").body("");
        let answer = request.header("Authorization", &bearer).send().await;
        assert_eq!(answer.status, status, "{account}");
    }
}
