//! Precedence, and how a wrong value is refused.

use proxy::upstream::EndpointConfig;

use super::*;
use crate::config::layer::Place;

use crate::config::{env, file};

fn flag(key: Key, value: &str) -> Layer {
    Layer {
        entries: vec![Entry {
            key,
            values: vec![value.to_owned()],
            place: Place::Flag(key),
        }],
        registries: Vec::new(),
    }
}

fn settings() -> Settings {
    Settings::defaults(Role::Up, "/data".into())
}

#[test]
fn flags_beat_variables_beat_the_file_beats_the_defaults() {
    let mut settings = settings();
    let file = "cache-size = \"1GiB\"\nmin-free = \"1GiB\"\ntag-ttl = \"1m\"\n\
        [registry.\"docker.io\"]\nendpoints = \"https://file\"\n\
        [registry.\"docker.io\".account]\nusername = \"a\"\npassword = \"b\"\nrepositories = \"org/*\"\n";
    settings
        .apply(file::parse(file, Path::new("f")).unwrap())
        .unwrap();
    let variables = [
        ("DARNER_CACHE_SIZE".into(), "2GiB".into()),
        ("DARNER_MIN_FREE".into(), "2%".into()),
        ("DARNER_REGISTRY".into(), "docker.io=https://env".into()),
    ];
    settings
        .apply(env::read(variables.into_iter()).unwrap().layer)
        .unwrap();
    settings.apply(flag(Key::CacheSize, "3GiB")).unwrap();

    assert_eq!(settings.cache_size, 3 << 30);
    assert_eq!(settings.min_free, MinFree::Percent(2));
    assert_eq!(settings.tag_ttl, Duration::from_secs(60));
    assert_eq!(settings.grant_ttl, Duration::from_secs(300));
    let hub = &settings.registries[&Registry::docker_hub()];
    assert_eq!(hub.endpoints, [EndpointConfig::at("https://env")]);
    assert!(!hub.accounts.is_empty(), "the file's account stays");
}

#[test]
fn a_wrong_value_names_its_place_and_the_way_out() {
    let refused = |key, value| {
        let failure = settings().apply(flag(key, value)).unwrap_err();
        assert_eq!(failure.code(), 2);
        failure.to_string()
    };
    assert_eq!(
        refused(Key::CacheSize, "20XB"),
        "error: --cache-size: `20XB` is not a size\n\
         hint: write 20GiB (powers of 1024), 400M (powers of 1000) or bytes"
    );
    assert_eq!(
        refused(Key::Listen, "65001"),
        "error: --listen: `65001` is not an address with a port\n\
         hint: did you mean 127.0.0.1:65001?"
    );
    for (key, value) in [
        (Key::Listen, "localhost:1"),
        (Key::Admin, "127.0.0.1"),
        (Key::MinFree, "101%"),
        (Key::TagTtl, "30"),
        (Key::Drain, "99999d"),
        (Key::Log, "loud"),
        (Key::Log, "proxy=loud"),
        (Key::Swarm, "10.0.0.1:8001"),
        (Key::DataDir, ""),
    ] {
        assert!(refused(key, value).contains(&format!("--{key}")), "{value}");
    }
}

#[test]
fn what_a_command_does_not_use_is_said() {
    let unused = settings().apply(flag(Key::Control, "127.0.0.1:1")).unwrap();
    assert_eq!(unused, ["--control is not used by `darner up`"]);
}

#[test]
fn a_rate_of_zero_is_no_limit() {
    let mut settings = settings();
    settings.apply(flag(Key::Ratelimit, "400M")).unwrap();
    assert_eq!(settings.ratelimit, Some(400_000_000));
    settings.apply(flag(Key::Ratelimit, "0")).unwrap();
    assert_eq!(settings.ratelimit, None);
}

#[test]
fn the_data_folder_follows_the_user() {
    let none = |_: &str| None;
    assert_eq!(default_data_dir(true, none), Some("/var/lib/darner".into()));
    assert_eq!(default_data_dir(false, none), None);
    let home = |name: &str| (name == "HOME").then(|| "/home/a".into());
    assert_eq!(
        default_data_dir(false, home),
        Some("/home/a/.local/share/darner".into())
    );
    let xdg = |name: &str| match name {
        "XDG_DATA_HOME" => Some("/xdg".into()),
        _ => Some("/home/a".into()),
    };
    assert_eq!(default_data_dir(false, xdg), Some("/xdg/darner".into()));
}
