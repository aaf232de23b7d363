//! The scripted origin is itself tested: a test double that lies by mistake proves nothing.

use oci_conformance::origin::{
    Kind, Outcome, Post, Reply, TokenAnswer, TokenField, content, nobody, sha256,
};
use oci_conformance::raw::{self, Answer, Ending};
use oci_conformance::{Ask, Fault, Gate, Origin};

async fn get(origin: &Origin, path: &str) -> Answer {
    raw::get(origin.addr(), path).send().await
}

async fn range(origin: &Origin, path: &str, range: &str) -> Answer {
    raw::get(origin.addr(), path)
        .header("Range", range)
        .send()
        .await
}

/// An origin with one blob of 1 MiB, and the blob's path.
async fn with_blob() -> (Origin, bytes::Bytes, String) {
    let origin = Origin::start().await;
    let bytes = content(1, 1 << 20);
    let digest = origin.push_blob("a/b", bytes.clone());
    (origin, bytes, format!("/v2/a/b/blobs/{digest}"))
}

#[tokio::test]
async fn serves_an_image_and_records_what_was_asked() {
    let origin = Origin::start().await;
    let layer = content(1, 200_000);
    let image = origin.push_image("a/b", "1", &[&layer]);
    assert_eq!(get(&origin, "/v2/").await.status, 200);
    let manifest = get(&origin, "/v2/a/b/manifests/1").await;
    assert_eq!(
        manifest.header("docker-content-digest"),
        Some(image.manifest.as_str())
    );
    assert_eq!(sha256(&manifest.body), image.manifest);
    let head = raw::head(origin.addr(), "/v2/a/b/manifests/1?ns=x")
        .send()
        .await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let blob = get(&origin, &format!("/v2/a/b/blobs/{}", image.layers[0])).await;
    assert_eq!((blob.status, &blob.body[..]), (200, &layer[..]));
    assert_eq!(
        get(&origin, "/v2/a/c/manifests/1").await.code(),
        "MANIFEST_UNKNOWN"
    );
    assert_eq!(origin.count(Ask::any()), 5);
    assert_eq!(origin.count(Ask::manifest("1").head()), 1);
    assert_eq!(origin.body_bytes(Ask::blobs()), 200_000);
    assert_eq!(origin.seen(Ask::manifest("1").head())[0].query, "ns=x");
}

#[tokio::test]
async fn ranges() {
    let (origin, bytes, path) = with_blob().await;
    for (asked, start, end) in [
        ("0-0", 0, 1),
        ("100-", 100, 1 << 20),
        ("-5", (1 << 20) - 5, 1 << 20),
    ] {
        let answer = range(&origin, &path, &format!("bytes={asked}")).await;
        assert_eq!((answer.status, &answer.body[..]), (206, &bytes[start..end]));
        let said = format!("bytes {start}-{}/{}", end - 1, 1 << 20);
        assert_eq!(answer.header("content-range"), Some(said.as_str()));
    }
    assert_eq!(range(&origin, &path, "bytes=9999999-").await.status, 416);
    assert_eq!(origin.seen(Ask::blobs())[0].range(), Some("bytes=0-0"));
}

#[tokio::test]
async fn a_huge_body_is_made_as_it_is_sent() {
    let (origin, _, path) = with_blob().await;
    origin
        .when(Ask::blobs())
        .once()
        .answer(Fault::Huge(3 << 20));
    let chunked = [Fault::Huge(200_000), Fault::Chunked];
    origin.when(Ask::blobs()).answer_all(chunked);
    for length in [3 << 20, 200_000] {
        let huge = get(&origin, &path).await;
        assert_eq!((huge.status, huge.body.len()), (200, length));
        assert!(huge.body.iter().all(|byte| *byte == b' '));
    }
    assert_eq!(origin.body_bytes(Ask::blobs()), (3 << 20) + 200_000);
}

#[tokio::test]
async fn cuts_with_fin_and_with_rst() {
    let (origin, bytes, path) = with_blob().await;
    origin.when(Ask::blobs()).once().answer(Fault::CutFin(1000));
    origin.when(Ask::blobs()).once().answer(Fault::CutRst(1000));
    origin.when(Ask::blobs()).once().answer(Fault::HangUp);
    origin.when(Ask::blobs()).once().answer(Fault::Reset);
    let fin = get(&origin, &path).await;
    assert_eq!((fin.ending, &fin.body[..]), (Ending::Short, &bytes[..1000]));
    assert_eq!(get(&origin, &path).await.ending, Ending::Reset);
    let nothing = get(&origin, &path).await;
    assert_eq!((nothing.ending, nothing.status), (Ending::Short, 0));
    assert_eq!(get(&origin, &path).await.ending, Ending::Reset);
    assert_eq!(get(&origin, &path).await.body, bytes);
    assert_eq!(origin.seen(Ask::any())[0].ended().await, Outcome::Cut);
}

#[tokio::test]
async fn a_gate_holds_the_head_and_paces_the_body() {
    let (origin, bytes, path) = with_blob().await;
    let (head, body) = (Gate::closed(), Gate::closed());
    origin
        .when(Ask::blobs())
        .answer_all([Fault::HoldHead(head.clone()), Fault::Pace(body.clone())]);
    let asking = tokio::spawn(raw::get(origin.addr(), &path).open());
    let seen = origin.wait_for(1, Ask::blobs()).await.remove(0);
    assert!(!asking.is_finished());
    head.open();
    let mut exchange = asking.await.unwrap();
    body.allow(70_000);
    assert_eq!(exchange.at_least(70_000).await, &bytes[..70_000]);
    assert_eq!(seen.body_bytes(), 70_000);
    body.open();
    assert_eq!(exchange.rest().await.body, bytes);
    assert_eq!(seen.ended().await, Outcome::Whole);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let (origin, _, path) = with_blob().await;
    origin.when(Ask::blobs()).answer(Fault::StallAt(500));
    let mut exchange = raw::get(origin.addr(), &path).open().await;
    assert_eq!(exchange.at_least(500).await.len(), 500);
    drop(exchange);
    assert_eq!(
        origin.seen(Ask::blobs())[0].ended().await,
        Outcome::ClientLeft
    );
}

#[tokio::test]
async fn lies() {
    let (origin, bytes, path) = with_blob().await;
    let lie = |fault| {
        origin.behave();
        origin.when(Ask::blobs()).answer(fault);
    };
    lie(Fault::WholeForRange);
    assert_eq!(range(&origin, &path, "bytes=5-9").await.body, bytes);
    lie(Fault::WrongContentRange);
    let shifted = range(&origin, &path, "bytes=5-9").await;
    assert_eq!(
        (shifted.header("content-range"), &shifted.body[..]),
        (Some("bytes 6-10/1048576"), &bytes[5..10])
    );
    lie(Fault::ShortBody(1));
    assert_eq!(get(&origin, &path).await.body, bytes[..bytes.len() - 1]);
    lie(Fault::LongBody(3));
    assert_eq!(get(&origin, &path).await.body.len(), bytes.len() + 3);
    lie(Fault::WrongByteAt(7));
    let wrong = get(&origin, &path).await;
    assert!(wrong.body[7] != bytes[7] && wrong.body[8..] == bytes[8..]);
    lie(Fault::Html);
    assert_eq!(
        get(&origin, &path).await.header("content-type"),
        Some("text/html")
    );
    lie(Fault::Gzip);
    assert_eq!(
        get(&origin, &path).await.header("content-encoding"),
        Some("gzip")
    );
    lie(Fault::NoDigest);
    assert_eq!(
        get(&origin, &path).await.header("docker-content-digest"),
        None
    );
    for fault in [Fault::Chunked, Fault::CloseDelimited] {
        lie(fault);
        let answer = get(&origin, &path).await;
        assert_eq!(
            (answer.header("content-length"), answer.body == bytes),
            (None, true)
        );
    }
}

#[tokio::test]
async fn refusals_and_redirects_by_request_number() {
    let (origin, bytes, path) = with_blob().await;
    origin.serve_at("/cdn/x", bytes.clone());
    origin
        .when(Ask::blobs())
        .after(1)
        .once()
        .answer(Fault::TooMany(Some("3".to_owned())));
    origin.when(Ask::blobs().head()).answer(Fault::Status(401));
    origin
        .when(Ask::manifests())
        .answer(Fault::Reply(Reply::new(200).body(content(2, 5 << 20))));
    assert_eq!(get(&origin, &path).await.status, 200);
    assert_eq!(get(&origin, &path).await.header("retry-after"), Some("3"));
    assert_eq!(raw::head(origin.addr(), &path).send().await.status, 401);
    assert_eq!(get(&origin, &path).await.status, 200);
    assert_eq!(
        get(&origin, "/v2/a/b/manifests/big").await.body.len(),
        5 << 20
    );
    origin
        .when(Ask::blobs())
        .answer(Fault::Redirect(format!("{}/cdn/x?sig=1", origin.url())));
    let to = get(&origin, &path).await;
    assert_eq!((to.status, to.header("location").is_some()), (307, true));
    assert_eq!(
        range(&origin, "/cdn/x?sig=1", "bytes=1-2").await.body,
        bytes[1..3]
    );
}

#[tokio::test]
async fn tags_and_referrers() {
    let origin = Origin::start().await;
    let image = origin.push_image("a", "1", &[b"x"]);
    origin.tag("a", "2", &image.manifest);
    let page = get(&origin, "/v2/a/tags/list?n=1").await;
    assert_eq!(page.text(), r#"{"name":"a","tags":["1"]}"#);
    assert_eq!(
        page.header("link"),
        Some(r#"</v2/a/tags/list?n=1&last=1>; rel="next""#)
    );
    let last = get(&origin, "/v2/a/tags/list?n=1&last=1").await;
    assert!(last.header("link").is_none() && last.text().contains(r#"["2"]"#));
    let about = serde_json::json!({"artifactType": "t/x", "subject": {"digest": image.manifest}});
    let digest = origin.push_manifest(
        "a",
        None,
        "application/vnd.oci.image.manifest.v1+json",
        about.to_string(),
    );
    let referrers = get(
        &origin,
        &format!("/v2/a/referrers/{}?artifactType=t/x", image.manifest),
    )
    .await;
    assert!(referrers.text().contains(&digest));
    assert_eq!(
        referrers.header("oci-filters-applied"),
        Some("artifactType")
    );
}

#[tokio::test]
async fn tokens() {
    let origin = Origin::start().await;
    let image = origin.push_image("pub", "1", &[b"x"]);
    origin.push_image("sec", "1", &[b"y"]);
    origin.require_tokens();
    origin.private("sec", "ann", "pw");
    let refused = get(&origin, "/v2/sec/manifests/1").await;
    let challenge = format!(
        r#"Bearer realm="{}/token",service="test",scope="repository:sec:pull""#,
        origin.url()
    );
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some(challenge.as_str()))
    );
    let ask = async |authorization: Option<&str>, repository: &str| {
        let target = format!("/token?service=test&scope=repository:{repository}:pull");
        let request = raw::get(origin.addr(), &target);
        let answer = match authorization {
            Some(value) => request.header("Authorization", value).send().await,
            None => request.send().await,
        };
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        body["token"].as_str().unwrap_or_default().to_owned()
    };
    let read = async |token: &str, repository: &str| {
        let request = raw::get(origin.addr(), &format!("/v2/{repository}/manifests/1"));
        request
            .header("Authorization", &format!("Bearer {token}"))
            .send()
            .await
            .status
    };
    assert_eq!(read(&ask(None, "pub").await, "pub").await, 200);
    assert_eq!(read(&ask(None, "sec").await, "sec").await, 401);
    let ann = "Basic YW5uOnB3";
    let token = ask(Some(ann), "sec").await;
    assert_eq!(
        (read(&token, "sec").await, read(&token, "pub").await),
        (200, 401)
    );
    assert_eq!(ask(Some("Basic YW5uOnh4"), "sec").await, "");
    origin.revoke("sec");
    assert_eq!(read(&token, "sec").await, 401);
    assert_eq!(origin.count(Ask::blob(&image.config)), 0);
    assert_eq!(origin.seen(Ask::token())[2].authorization(), Some(ann));
}

#[tokio::test]
async fn token_answers_take_other_forms() {
    let origin = Origin::start().await;
    origin.require_tokens();
    origin.private("sec", "ann", "pw");
    origin.answer_tokens(TokenAnswer {
        field: TokenField::AccessToken,
        expires_in: Some(30),
        issued_at: None,
        post: Post::Refused(405),
    });
    assert_eq!(
        get(&origin, "/token?scope=x").await.text(),
        r#"{"access_token":"token-1-anonymous","expires_in":30}"#
    );
    assert_eq!(
        raw::request(origin.addr(), "POST", "/token")
            .send()
            .await
            .status,
        405
    );
    origin.answer_tokens(TokenAnswer::default());
    let form = "grant_type=password&username=ann&password=pw&scope=repository%3Asec%3Apull&access_type=offline";
    let post = format!(
        "POST /token HTTP/1.1\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = raw::Exchange::begin(origin.addr(), post.as_bytes(), false)
        .await
        .rest()
        .await;
    assert!(answer.text().contains("refresh-ann"), "{}", answer.text());
}

#[tokio::test]
async fn basic() {
    let origin = Origin::start().await;
    origin.push_image("pub", "1", &[b"x"]);
    origin.push_image("sec", "1", &[b"y"]);
    origin.require_basic();
    origin.private("sec", "ann", "pw");
    assert_eq!(get(&origin, "/v2/pub/manifests/1").await.status, 200);
    assert_eq!(get(&origin, "/v2/sec/manifests/1").await.status, 401);
    let request = raw::get(origin.addr(), "/v2/sec/manifests/1");
    assert_eq!(
        request
            .header("Authorization", "Basic YW5uOnB3")
            .send()
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn stops_and_starts_on_the_same_port() {
    let (origin, bytes, path) = with_blob().await;
    origin.when(Ask::blobs()).once().answer(Fault::StallAt(10));
    let mut stalled = raw::get(origin.addr(), &path).open().await;
    stalled.at_least(10).await;
    origin.stop().await;
    assert!(tokio::net::TcpStream::connect(origin.addr()).await.is_err());
    assert!(
        tokio::net::TcpStream::connect(nobody().await)
            .await
            .is_err()
    );
    origin.start_again().await;
    assert_eq!(get(&origin, &path).await.body, bytes);
    assert_eq!(origin.count(Ask::kind(Kind::Ping)), 0);
}
