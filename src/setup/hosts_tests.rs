//! Files as operators have them: what they mean, what is wrong with them, how the node gets in.

use super::*;

const NODE: &str = "http://127.0.0.1:65001";

#[test]
fn hosts_are_in_the_order_of_the_file() {
    let file = HostsFile::parse(
        "server = \"https://quay.io\"\n[host.\"https://z\"]\n[host.\"https://a\"]\nca = \"x\"\n",
    )
    .unwrap();
    let urls: Vec<&str> = file.hosts.iter().map(|host| host.url.as_str()).collect();
    assert_eq!(urls, ["https://z", "https://a"]);
    assert_eq!(file.hosts[1].tls, ["ca"]);
    assert_eq!(HostsFile::parse("a = 1\nb = [\n").unwrap_err().line, 2);
}

#[test]
fn a_merge_only_inserts_and_leads() {
    for (text, expected_head) in [
        ("", ""),
        ("# only a comment\n", "# only a comment\n"),
        ("server = \"https://a\"\n", "server = \"https://a\"\n"),
        ("server = \"https://a\"", "server = \"https://a\"\n"),
        (
            "server = \"https://a\"\n\n# the old mirror\n[host.\"https://m\"]\n  skip_verify = true\n",
            "server = \"https://a\"\n\n",
        ),
        (
            "capabilities = [\n  \"pull\",\n]\nca = [\n[\"x\"]\n]\n[host.\"https://m\"]\n",
            "capabilities = [\n  \"pull\",\n]\nca = [\n[\"x\"]\n]\n",
        ),
    ] {
        let merged = merged(text, NODE).unwrap_or_else(|| panic!("refused: {text}"));
        assert!(merged.starts_with(expected_head), "{merged}");
        let file = HostsFile::parse(&merged).unwrap();
        assert!(file.leads_with(NODE), "{merged}");
        for line in text.lines() {
            assert!(merged.contains(line), "lost `{line}`");
        }
    }
}

#[test]
fn what_cannot_be_extended_by_inserting_is_refused() {
    for text in [
        "host = { \"https://m\" = { } }\n",
        "[host.\"http://127.0.0.1:65001\"]\n",
        "[host.\"https://m\"]\n[host.\"http://127.0.0.1:65001\"]\n",
        "broken = \n",
    ] {
        assert_eq!(merged(text, NODE), None, "{text}");
    }
}

#[test]
fn the_silent_traps_are_found() {
    let traps = |text: &str, version| -> Vec<String> {
        let file = HostsFile::parse(text).unwrap();
        let traps = file.traps(Path::new("/h"), version);
        traps.into_iter().map(|trap| trap.what).collect()
    };
    let server_only = "server = \"https://m\"\n";
    assert!(traps(server_only, None)[0].contains("no [host] table"));
    assert!(traps(server_only, Some((1, 7)))[0].contains("no [host] table"));
    assert!(traps(server_only, Some((2, 1))).is_empty());

    let referrers = "[host.\"https://m\"]\ncapabilities = [\"pull\", \"referrers\"]\n";
    assert!(traps(referrers, Some((1, 6)))[0].contains("`referrers`"));
    assert!(traps(referrers, Some((2, 2))).is_empty());

    let tls = "[host.\"http://m:5000\"]\nskip_verify = true\nca = \"x\"\n";
    assert!(
        traps(tls, None)[0].contains("ca, skip_verify"),
        "{:?}",
        traps(tls, None)
    );
    assert!(traps("[host.\"http://m:5000\"]\nskip_verify = false\n", None).is_empty());
    assert!(traps("[host.\"https://m:5000\"]\nskip_verify = true\n", None).is_empty());

    let ipv6 = "[host.\"http://[::1]:5000\"]\n";
    assert!(traps(ipv6, Some((1, 7)))[0].contains("IPv6"));
    assert!(traps(ipv6, Some((2, 1))).is_empty());
}

#[test]
fn a_folder_with_certificates_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ca.crt", "a.cert", "a.key", "b.cert", "hosts.toml"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let text = fresh(
        NODE,
        Some("https://r.lan"),
        &Certificates::of(folder.path()),
    );
    assert_eq!(
        text,
        "# Written by `darner setup`; `darner setup --undo` puts back what was here.\n\
         server = \"https://r.lan\"\n\
         ca = [\"ca.crt\"]\n\
         client = [[\"a.cert\", \"a.key\"]]\n\n\
         [host.\"http://127.0.0.1:65001\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    assert!(HostsFile::parse(&text).unwrap().leads_with(NODE));
}
