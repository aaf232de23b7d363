//! What the file may say and how it is refused.

use super::*;

fn refused(text: &str) -> String {
    parse(text, Path::new("darner.toml"))
        .unwrap_err()
        .to_string()
}

#[test]
fn all_forms_of_a_registry_are_read() {
    let layer = parse(
        r#"
listen = ["127.0.0.1:65001", "[::1]:65001"]
cache-size = "20GiB"

[registry]
"quay.io" = "https://mirror.example/quay"
"ghcr.io" = ["http://10.0.0.5:5000", "https://ghcr.io"]

[registry."docker.io"]
endpoints = [{ url = "https://m", trusted = true, ca = "/m.pem" }, "https://registry-1.docker.io"]
ca = "hub.pem"
[[registry."docker.io".account]]
username = "reader"
password-file = "/run/secrets/hub"
repositories = ["org/*"]
"#,
        Path::new("/etc/darner/darner.toml"),
    )
    .unwrap();
    assert_eq!(layer.entries.len(), 2);
    let of = |name: &str| {
        let entry = layer.registries.iter().find(|r| r.name.as_str() == name);
        entry.unwrap().config.clone()
    };
    assert_eq!(
        of("quay.io").endpoints,
        [EndpointConfig::at("https://mirror.example/quay")]
    );
    assert_eq!(of("ghcr.io").endpoints.len(), 2);
    let hub = of("docker.io");
    assert!(hub.endpoints[0].trusted);
    assert_eq!(hub.endpoints[0].ca, Some("/m.pem".into()));
    assert_eq!(hub.endpoints[1].ca, Some("/etc/darner/hub.pem".into()));
    assert_eq!(hub.accounts[0].username.as_deref(), Some("reader"));
    assert_eq!(
        hub.accounts[0].password_file,
        Some("/run/secrets/hub".into())
    );
}

#[test]
fn a_slip_is_refused_with_line_and_nearest_name() {
    assert_eq!(
        refused("listen = \"127.0.0.1:1\"\ncache_size = \"1G\"\n"),
        "error: darner.toml:2: cache_size is not a setting\nhint: did you mean `cache-size`?"
    );
    assert_eq!(
        refused("[registry.\"docker.io\"]\nendpoint = [\"https://a\"]\n"),
        "error: darner.toml:2: endpoint is not a setting\nhint: did you mean `endpoints`?"
    );
    assert!(refused("xyzzy = 1").contains("hint: the settings are listen, admin"));
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let words = refused("listen = \"127.0.0.1:1\"\nadmin = \n");
    assert!(words.starts_with("error: darner.toml:2: "), "{words}");
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    for text in [
        "cache-size = 1.5",
        "registry = 5",
        "[registry.\"docker.io\"]\nskip-verify = \"yes\"",
        "[registry.\"docker.io\"]\nendpoints = [\"quay.io\"]",
        "[registry.\"-\"]\nendpoints = []",
        "[registry.\"docker.io\"]\nca = \"x\"",
        "[registry.\"docker.io\"]\nmax-in-flight = 0",
        "[registry.\"docker.io\"]\naccount = \"me\"",
        "[registry.\"docker.io\"]\nendpoints = [{ trusted = true }]",
    ] {
        assert!(refused(text).starts_with("error: darner.toml:"), "{text}");
    }
}

#[test]
fn half_an_account_is_refused() {
    for text in [
        "username = \"a\"",
        "password = \"a\"\nrepositories = [\"a\"]",
        "username = \"a\"\npassword = \"b\"",
        "username = \"a\"\npassword = \"b\"\ncredential-helper = \"x\"\nrepositories = [\"a\"]",
        "repositories = [\"a\"]",
    ] {
        let words = refused(&format!(
            "[registry.\"docker.io\"]\naccount = {{ {} }}\n",
            text.replace('\n', ", ")
        ));
        assert!(words.contains("darner.toml:2: account"), "{words}");
    }
}

#[test]
fn a_password_is_not_in_the_debug_form() {
    let layer = parse(
        "[registry.\"docker.io\".account]\nusername = \"a\"\npassword = \"hunter2\"\nrepositories = \"*\"\n",
        Path::new("x"),
    )
    .unwrap();
    assert!(!format!("{layer:?}").contains("hunter2"));
}
