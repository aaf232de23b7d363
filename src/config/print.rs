//! The settings in effect, as the file that would say the same, or as JSON.
//!
//! Invariant: reading what is printed gives the same settings, except for passwords, which are
//! never printed: a comment (in JSON `true`) says that there is one.

use std::fmt::Write as _;
use std::path::PathBuf;

use proxy::config::MinFree;
use proxy::upstream::{AccountConfig, EndpointConfig, RegistryConfig};
use serde_json::{Map, Value, json};

use crate::config::key::{Key, Role};
use crate::config::quantity::{print_duration, print_size};
use crate::config::settings::Settings;

/// The TOML file that says the same.
pub(crate) fn to_toml(settings: &Settings) -> String {
    let mut text = String::new();
    for (key, value) in plain(settings) {
        line(&mut text, key, &value);
    }
    for (name, registry) in &settings.registries {
        let name = quote(name.as_str());
        line_raw(&mut text, &format!("\n[registry.{name}]"));
        for (key, value) in registry_plain(registry) {
            line(&mut text, key, &value);
        }
        for account in &registry.accounts {
            line_raw(&mut text, &format!("\n[[registry.{name}.account]]"));
            for (key, value) in account_plain(account) {
                line(&mut text, key, &value);
            }
            if account.password.is_some() {
                line_raw(&mut text, "# password: set, not shown");
            }
        }
    }
    text
}

/// The same as JSON, with `password: true` where there is one.
pub(crate) fn to_json(settings: &Settings) -> Value {
    let mut all = object(plain(settings));
    let registries = settings.registries.iter().map(|(name, registry)| {
        let mut table = object(registry_plain(registry));
        let accounts = registry.accounts.iter().map(|account| {
            let mut table = object(account_plain(account));
            if account.password.is_some() {
                table.insert("password".to_owned(), Value::Bool(true));
            }
            Value::Object(table)
        });
        table.insert("account".to_owned(), accounts.collect());
        (name.as_str().to_owned(), Value::Object(table))
    });
    all.insert("registry".to_owned(), Value::Object(registries.collect()));
    Value::Object(all)
}

fn object(pairs: Vec<(&'static str, Value)>) -> Map<String, Value> {
    let pairs = pairs.into_iter();
    pairs.map(|(key, value)| (key.to_owned(), value)).collect()
}

fn plain(settings: &Settings) -> Vec<(&'static str, Value)> {
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let admin = match settings.role {
        Role::Supernode => "control",
        Role::Up | Role::Proxy => "admin",
    };
    let mut all = vec![
        ("listen", json!(listen)),
        (admin, json!(settings.admin.to_string())),
    ];
    if let Some(host) = &settings.advertise {
        all.push(("advertise", json!(host)));
    }
    if let Some(address) = settings.swarm {
        all.push(("swarm", json!(address.to_string())));
    }
    if !settings.supernodes.is_empty() {
        all.push(("supernode", json!(settings.supernodes)));
    }
    if let Some(address) = settings.peer_listen {
        all.push(("peer-listen", json!(address.to_string())));
    }
    for (key, label) in [("zone", &settings.zone), ("rack", &settings.rack)] {
        if !label.is_empty() {
            all.push((key, json!(label)));
        }
    }
    if let Some(rate) = settings.upload_limit {
        all.push(("upload-limit", json!(print_size(rate))));
    }
    all.push(("data-dir", json!(settings.data_dir.to_string_lossy())));
    all.push(("cache-size", json!(print_size(settings.cache_size))));
    let min_free = match settings.min_free {
        MinFree::Percent(percent) => format!("{percent}%"),
        MinFree::Bytes(bytes) => print_size(bytes),
    };
    all.push(("min-free", json!(min_free)));
    if let Some(rate) = settings.ratelimit {
        all.push(("ratelimit", json!(print_size(rate))));
    }
    for (key, duration) in [
        ("tag-ttl", settings.tag_ttl),
        ("grant-ttl", settings.grant_ttl),
        ("negative-ttl", settings.negative_ttl),
        ("public-memory", settings.public_memory),
        ("stale-tag", settings.stale_tag),
        ("drain", settings.drain),
    ] {
        all.push((key, json!(print_duration(duration))));
    }
    all.push(("public-registries", json!(settings.public_registries)));
    all.push(("challenge-ping", json!(settings.challenge_ping)));
    if Key::ReadOnly.serves(settings.role) {
        all.push(("read-only", json!(settings.read_only)));
    }
    all.push(("log", json!(settings.log)));
    all
}

fn registry_plain(registry: &RegistryConfig) -> Vec<(&'static str, Value)> {
    let mut all = Vec::new();
    if !registry.endpoints.is_empty() {
        let endpoints: Vec<Value> = registry.endpoints.iter().map(endpoint).collect();
        all.push(("endpoints", Value::Array(endpoints)));
    }
    if !registry.realms.is_empty() {
        all.push(("realms", json!(registry.realms)));
    }
    if !registry.allowed_hosts.is_empty() {
        all.push(("allowed-hosts", json!(registry.allowed_hosts)));
    }
    if let Some(most) = registry.max_in_flight {
        all.push(("max-in-flight", json!(most)));
    }
    all
}

/// A text where only the place is said, else a table.
fn endpoint(endpoint: &EndpointConfig) -> Value {
    let mut table = Map::from_iter([("url".to_owned(), json!(endpoint.url))]);
    if let Some(ca) = &endpoint.ca {
        table.insert("ca".to_owned(), json!(ca.to_string_lossy()));
    }
    for (key, set) in [
        ("trusted", endpoint.trusted),
        ("skip-verify", endpoint.insecure_skip_verify),
    ] {
        if set {
            table.insert(key.to_owned(), Value::Bool(true));
        }
    }
    if table.len() == 1 {
        json!(endpoint.url)
    } else {
        Value::Object(table)
    }
}

fn account_plain(account: &AccountConfig) -> Vec<(&'static str, Value)> {
    let mut all = vec![("repositories", json!(account.repositories))];
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    for (key, value) in [
        ("username", account.username.clone()),
        ("password-file", account.password_file.as_ref().map(path)),
        ("docker-config", account.docker_config.as_ref().map(path)),
        ("credential-helper", account.credential_helper.clone()),
    ] {
        if let Some(value) = value {
            all.push((key, json!(value)));
        }
    }
    all
}

fn line(text: &mut String, key: &str, value: &Value) {
    line_raw(text, &format!("{key} = {}", toml_value(value)));
}

fn line_raw(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(table) => {
            let pair = |(key, value): (&String, &Value)| format!("{key} = {}", toml_value(value));
            let pairs: Vec<String> = table.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// A TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::config::file;

    const FILE: &str = r#"
listen = ["127.0.0.1:1", "[::1]:1"]
admin = "127.0.0.1:2"
supernode = ["seed.lan", "[fd00::1]:9"]
peer-listen = "10.0.0.7:65003"
advertise = "node-7.lan"
zone = "eu-1"
rack = "r7"
upload-limit = "50M"
swarm = "10.0.0.7"
data-dir = "/data"
cache-size = "3GiB"
min-free = "1500M"
ratelimit = "400M"
tag-ttl = "90s"
log = "proxy=debug,warn"
[registry]
"quay.io" = ["http://10.0.0.5:5000/quay", "https://quay.io"]
[registry."docker.io"]
endpoints = ["https://a"]
ca = "/etc/ca.pem"
skip-verify = true
realms = ["auth.lan"]
max-in-flight = 8
[registry."docker.io".account]
username = "we\"ird"
password-file = "/run/pw"
repositories = ["org/*", "other"]
"#;

    fn read(text: &str) -> Settings {
        let mut settings = Settings::defaults(Role::Up, "/other".into());
        let layer = file::parse(text, Path::new("/etc/darner/darner.toml")).unwrap();
        assert_eq!(settings.apply(layer).unwrap(), [""; 0]);
        settings
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let settings = read(FILE);
        assert_eq!(settings.tag_ttl, Duration::from_secs(90));
        assert_eq!(read(&to_toml(&settings)), settings);
        let defaults = Settings::defaults(Role::Up, "/data".into());
        assert_eq!(read(&to_toml(&defaults)), defaults);
    }

    #[test]
    fn a_password_is_never_printed() {
        let settings = read(
            "[registry.\"docker.io\".account]\nusername = \"a\"\npassword = \"hunter2\"\nrepositories = \"*\"\n",
        );
        let (toml, json) = (to_toml(&settings), to_json(&settings).to_string());
        assert!(toml.contains("# password: set, not shown"), "{toml}");
        assert!(json.contains("\"password\":true"), "{json}");
        assert!(!toml.contains("hunter2") && !json.contains("hunter2"));
    }
}
