//! Named cases of request lines, good and hostile, and the inverse property.

use proptest::prelude::*;

use super::*;

const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The table of a node that knows three registries.
fn known(name: &str) -> Option<Registry> {
    let registry: Registry = name.parse().ok()?;
    let names = ["docker.io", "quay.io", "localhost:5000", "10.0.0.5:5000"];
    names.contains(&registry.as_str()).then_some(registry)
}

fn get(path: &str) -> Result<Target, OciError> {
    read(Method::GET, path)
}

fn read(method: Method, target: &str) -> Result<Target, OciError> {
    match target.split_once('?') {
        Some((path, query)) => parse(&method, path, Some(query), &known),
        None => parse(&method, target, None, &known),
    }
}

fn registry(target: &str) -> (Option<String>, String) {
    let target = get(target).unwrap_or_else(|why| panic!("{target}: {why}"));
    (
        target.registry.map(|r| r.to_string()),
        target.route.path_and_query(),
    )
}

fn refused(target: &str) -> (u16, &'static str) {
    match get(target) {
        Err(why) => (why.status.as_u16(), why.code.as_str()),
        Ok(got) => panic!("{target} is {got:?}"),
    }
}

#[test]
fn every_endpoint() {
    let blob = format!("/v2/a/blobs/{SHA256}");
    let referrers = format!("/v2/a/b/referrers/{SHA256}?artifactType=x&n=1");
    let by_digest = format!("/v2/a/manifests/{SHA256}");
    for path in [
        "/v2/",
        "/v2/_catalog",
        "/v2/a/b/manifests/latest",
        &by_digest,
        &blob,
        "/v2/a/tags/list?n=3&last=%2Fx",
        &referrers,
        "/v2/a/blobs/uploads/",
        "/v2/a/blobs/uploads/1-2?digest=x",
    ] {
        assert_eq!(registry(path), (None, path.to_owned()));
    }
    assert_eq!(get("/v2").unwrap().route, Route::Ping);
}

#[test]
fn keywords_may_be_part_of_a_name() {
    for path in [
        "/v2/manifests/manifests/manifests",
        "/v2/a/blobs/uploads/manifests/x",
        "/v2/tags/list/tags/list",
        "/v2/v2/v2/manifests/v2",
        "/v2/a/blobs/b/tags/list",
    ] {
        assert_eq!(registry(path), (None, path.to_owned()));
    }
}

#[test]
fn the_registry_by_ns_by_path_or_not_at_all() {
    let quay = (Some("quay.io".to_owned()), "/v2/o/a/manifests/1".to_owned());
    for target in [
        "/v2/o/a/manifests/1?ns=quay.io",
        "/v2/o/a/manifests/1?ns=QUAY.IO:443",
        "/v2/o/a/manifests/1?n%73=quay%2Eio",
        "/v2/quay.io/o/a/manifests/1",
        "/quay.io/v2/o/a/manifests/1",
        "/v2/quay.io/o/a/manifests/1?ns=quay.io",
        "/quay.io/v2/o/a/manifests/1?ns=quay.io",
    ] {
        assert_eq!(registry(target), quay, "{target}");
    }
    let local = "/v2/localhost:5000/a/manifests/1";
    assert_eq!(registry(local).0.as_deref(), Some("localhost:5000"));
    assert_eq!(
        registry("/v2/a/manifests/1?ns=10.0.0.5:5000").0.as_deref(),
        Some("10.0.0.5:5000")
    );
    assert_eq!(
        registry("/v2/a/manifests/1?ns=index.docker.io")
            .0
            .as_deref(),
        Some("docker.io")
    );
    // The caller's table decides on this one.
    assert_eq!(
        registry("/v2/a/manifests/1?ns=evil.example").0.as_deref(),
        Some("evil.example")
    );
    // Another registry's name below `ns` is part of the repository.
    assert_eq!(
        registry("/v2/quay.io/a/manifests/1?ns=docker.io").1,
        "/v2/quay.io/a/manifests/1"
    );
}

#[test]
fn pings_with_a_prefix() {
    for target in [
        "/quay.io/v2/",
        "/quay.io/v2",
        "/v2/quay.io/",
        "/v2/?ns=quay.io",
    ] {
        let target = get(target).unwrap();
        assert_eq!(target.route, Route::Ping);
        assert_eq!(target.registry.unwrap().as_str(), "quay.io");
    }
}

#[test]
fn ns_is_stripped_and_the_rest_survives() {
    let target = "/v2/a/tags/list?n=5&ns=quay.io&last=b%26&&x";
    assert_eq!(registry(target).1, "/v2/a/tags/list?n=5&last=b%26&x");
    assert!(get(target).unwrap().named_by_ns);
    assert!(!get("/v2/quay.io/a/tags/list").unwrap().named_by_ns);
}

#[test]
fn ns_that_is_no_name() {
    for ns in [
        "ns=",
        "ns",
        "ns=quay.io&ns=quay.io",
        "ns=quay.io&n%73=docker.io",
        "ns=http://quay.io",
        "ns=http%3A%2F%2Fquay.io",
        "ns=user@quay.io",
        "ns=quay.io/x",
        "ns=quay.io%2Fx",
        "ns=quay.io%0d%0aHost:%20x",
        "ns=quay.io%00",
        "ns=127.0.0.1",
        "ns=169.254.169.254",
        "ns=127.0.0.1:5000",
        "ns=[::1]:5000",
        "ns=%5B::1%5D",
        "ns=quay.io:0",
        "ns=quay.io:65536",
        "ns=%ff%fe",
        "ns=..",
        "ns=quay.io+",
    ] {
        let target = format!("/v2/a/manifests/1?{ns}");
        assert_eq!(refused(&target), (400, "NAME_INVALID"), "{ns}");
    }
}

#[test]
fn names_tags_and_digests_outside_the_grammar() {
    let long_name = format!("/v2/{}/manifests/1", "a".repeat(256));
    let long_tag = format!("/v2/a/manifests/{}", "t".repeat(129));
    let upper = format!("/v2/a/blobs/sha256:{}", SHA256[7..].to_uppercase());
    let short = format!("/v2/a/blobs/{}", &SHA256[..70]);
    let foreign = format!("/v2/a/referrers/blake3:{}", &SHA256[7..]);
    for (target, answer) in [
        ("/v2/A/manifests/1", (400, "NAME_INVALID")),
        ("/v2/a..b/manifests/1", (400, "NAME_INVALID")),
        ("/v2/manifests/1", (400, "NAME_INVALID")),
        (&long_name, (400, "NAME_INVALID")),
        (&long_tag, (404, "MANIFEST_UNKNOWN")),
        ("/v2/a/manifests/-x", (404, "MANIFEST_UNKNOWN")),
        ("/v2/a/manifests/", (404, "MANIFEST_UNKNOWN")),
        ("/v2/a/manifests/sha256:xyz", (400, "DIGEST_INVALID")),
        ("/v2/a/manifests/:", (400, "DIGEST_INVALID")),
        ("/v2/a/blobs/latest", (400, "DIGEST_INVALID")),
        ("/v2/a/referrers/latest", (400, "DIGEST_INVALID")),
        ("/v2/a/blobs/md5:", (400, "DIGEST_INVALID")),
        (&upper, (400, "DIGEST_INVALID")),
        (&short, (400, "DIGEST_INVALID")),
        (&foreign, (404, "MANIFEST_UNKNOWN")),
    ] {
        assert_eq!(refused(target), answer, "{target}");
    }
}

#[test]
fn digests_that_nobody_here_can_check_are_foreign() {
    for path in [
        "blobs/multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
        "blobs/blake3:0123",
        "manifests/sha256+b64u:LCa0_-=",
    ] {
        let target = get(&format!("/v2/quay.io/a/b/{path}")).unwrap();
        assert_eq!(target.registry, Some("quay.io".parse().unwrap()));
        let repository = "a/b".parse().unwrap();
        let path = path.to_owned();
        assert_eq!(target.route, Route::Foreign { repository, path });
    }
}

#[test]
fn paths_that_lead_nowhere_or_astray() {
    for target in [
        "/",
        "",
        "*",
        "v2/",
        "/v1/_ping",
        "/v3/",
        "/v2x",
        "/v2/a",
        "/v2/a/b/c",
        "/v2/a/tags",
        "/v2/a/tags/list/",
        "/evil.example/v2/a/manifests/1",
        "/a/b/v2/",
        "/v2/_catalog/x",
    ] {
        assert_eq!(refused(target), (404, "NAME_UNKNOWN"), "{target}");
    }
    for target in [
        "//v2/",
        "/v2//",
        "/v2//a/manifests/1",
        "/v2/a//manifests/1",
        "/v2/a/../b/manifests/1",
        "/v2/./a/manifests/1",
        "/v2/../v2/",
        "/v2/a/manifests/..",
        "/v2/a%2Fb/manifests/1",
        "/v2/a/%2e%2e/manifests/1",
        "/v2/a/manifests/1%2e0",
        "/v2/a%00/manifests/1",
        "/v2/a%/manifests/1",
        "/v2/a%2/manifests/1",
        "/v2/a%zz/manifests/1",
        "/v2/a%é1/manifests/1",
        "/v2/a%252fb/manifests/1",
        "/v2/a\\b/manifests/1",
        "/v2/a\0/manifests/1",
        "/v2/a/blobs/sha256%3A..%2F..%2Fetc",
    ] {
        assert_eq!(refused(target), (400, "NAME_INVALID"), "{target}");
    }
}

#[test]
fn harmless_escapes_are_undone() {
    let escaped = format!("/v2/a/blobs/{}", SHA256.replace(':', "%3a"));
    assert_eq!(registry(&escaped).1, format!("/v2/a/blobs/{SHA256}"));
}

#[test]
fn methods() {
    let blob = format!("/v2/a/blobs/{SHA256}");
    let access = |method, target: &str| read(method, target).map(|target| target.access);
    assert_eq!(access(Method::HEAD, &blob), Ok(Access::Read));
    assert_eq!(access(Method::DELETE, &blob), Ok(Access::Write));
    assert_eq!(access(Method::PUT, "/v2/a/manifests/1"), Ok(Access::Write));
    assert_eq!(
        access(Method::POST, "/v2/a/blobs/uploads/"),
        Ok(Access::Write)
    );
    assert_eq!(
        access(Method::PATCH, "/v2/a/blobs/uploads/s"),
        Ok(Access::Write)
    );
    assert_eq!(
        access(Method::GET, "/v2/a/blobs/uploads/s"),
        Ok(Access::Write)
    );
    for method in [
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
        Method::from_bytes(b"BREW").unwrap(),
    ] {
        let why = access(method, "/v2/").unwrap_err();
        assert_eq!(
            (why.status.as_u16(), why.code),
            (405, ErrorCode::Unsupported)
        );
    }
}

fn any_route() -> impl Strategy<Value = Route> {
    let name = "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}){0,3}";
    let name = name.prop_map(|text| text.parse::<Repository>().unwrap());
    let tag =
        "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}".prop_map(|text| Reference::Tag(text.parse().unwrap()));
    let digest = any::<[u8; 8]>().prop_map(|seed| Digest::sha256(&seed));
    let reference = prop_oneof![tag, digest.clone().prop_map(Reference::Digest)];
    let foreign = "(blobs|manifests)/[a-z]{3,6}:[a-zA-Z0-9=_-]{1,9}";
    let query = "([a-z]{3}=[a-z0-9%]{0,4}(&[a-z]{3}=[a-z]{1,3}){0,2})?";
    (name, reference, digest, query, foreign, 0..6).prop_map(
        |(repository, reference, digest, query, path, kind)| match kind {
            5 => Route::Foreign { repository, path },
            0 => Route::Manifest {
                repository,
                reference,
            },
            1 => Route::Blob { repository, digest },
            2 => Route::Tags { repository, query },
            3 => Route::Referrers {
                repository,
                digest,
                query,
            },
            _ => Route::Upload {
                repository,
                session: None,
                query,
            },
        },
    )
}

proptest! {
    #[test]
    fn prints_what_it_parses(route in any_route()) {
        let target = read(Method::GET, &route.path_and_query()).unwrap();
        prop_assert_eq!(target.route, route);
        prop_assert_eq!(target.registry, None);
    }

    #[test]
    fn any_target_is_survived(path in "(/|v2|%2e|\\.|a|:|%|\\PC){0,12}", query in "(ns|=|&|%|[a-z.:]){0,12}") {
        let _ = parse(&Method::GET, &format!("/v2/{path}"), Some(&query), &known);
        let _ = parse(&Method::GET, &path, Some(&query), &known);
    }
}
