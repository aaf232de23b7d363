//! How supernodes and hosts are written, and how they are refused.

use super::*;
use crate::config::key::{Key, Role};
use crate::config::layer::{Layer, Place};

fn settings(pairs: &[(Key, &str)]) -> Result<(Settings, Vec<String>), Failure> {
    let mut settings = Settings::defaults(Role::Up, "/data".into());
    let entries = pairs.iter().map(|(key, value)| Entry {
        key: *key,
        values: vec![(*value).to_owned()],
        place: Place::Flag(*key),
    });
    settings.apply(Layer {
        entries: entries.collect(),
        registries: Vec::new(),
    })?;
    let warnings = check(&settings)?;
    Ok((settings, warnings))
}

fn refused(pairs: &[(Key, &str)]) -> String {
    let failure = settings(pairs).unwrap_err();
    assert_eq!(failure.code(), 2);
    let text = failure.to_string();
    assert!(text.contains("\nhint: "), "{text}");
    text
}

#[test]
fn supernodes_are_kept_with_their_port() {
    let (settings, _) = settings(&[(
        Key::Supernode,
        "Seed.lan, 10.0.0.2:9, [fd00::1], [fd00::2]:9,seed.lan:8002",
    )])
    .unwrap();
    assert_eq!(
        settings.supernodes,
        [
            "seed.lan:8002",
            "10.0.0.2:9",
            "[fd00::1]:8002",
            "[fd00::2]:9"
        ]
    );
}

#[test]
fn a_supernode_that_cannot_be_dialled_is_refused() {
    let supernode = |text| refused(&[(Key::Supernode, text)]);
    assert!(supernode("http://seed.lan:8002/").contains("without a scheme: seed.lan:8002"));
    assert!(supernode("fd00::1").contains("did you mean [fd00::1]:8002?"));
    for text in [
        "",
        ",",
        "seed.lan:",
        "seed.lan:0",
        "seed.lan:http",
        "seed.lan:99999",
        "seed.lan/x",
        "me@seed.lan",
        "[seed.lan]:8002",
        "[fd00::1",
        "[fd00::1]x",
        ":8002",
        "0.0.0.0:8002",
        "[::]:8002",
    ] {
        assert!(supernode(text).contains("--supernode"), "{text}");
    }
}

#[test]
fn an_advertised_host_means_something_to_others() {
    for (text, kept) in [
        ("node-1.lan", "node-1.lan"),
        ("10.0.0.7", "10.0.0.7"),
        ("[fd00::7]", "fd00::7"),
    ] {
        let (settings, _) = settings(&[(Key::Advertise, text)]).unwrap();
        assert_eq!(settings.advertise.as_deref(), Some(kept));
    }
    for text in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "::",
        "[::1]",
        "localhost",
    ] {
        assert!(
            refused(&[(Key::Advertise, text)]).contains("nobody else reaches"),
            "{text}"
        );
    }
    for text in ["", "http://a", "a:8001", "a b"] {
        refused(&[(Key::Advertise, text)]);
    }
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let led = (Key::Supernode, "seed.lan");
    let port = (Key::PeerListen, "10.0.0.7:65003");
    assert!(settings(&[led, port]).is_ok());
    assert!(refused(&[port]).contains("--supernode"));
    assert!(refused(&[led, (Key::PeerListen, "127.0.0.1:65001")]).contains("peer-listen"));
    assert!(refused(&[led, (Key::PeerListen, "127.0.0.1:65002")]).contains("peer-listen"));
    assert!(refused(&[led, (Key::Swarm, "10.0.0.7")]).contains("swarm"));
}

#[test]
fn zones_without_a_supernode_are_a_warning() {
    let zone = (Key::Zone, "eu-west-1a");
    assert_eq!(
        settings(&[zone]).unwrap().1,
        ["zone says nothing without a supernode"]
    );
    let (settings, warnings) = settings(&[zone, (Key::Supernode, "seed.lan")]).unwrap();
    assert_eq!((settings.zone.as_str(), warnings.len()), ("eu-west-1a", 0));
    for text in ["", "two words", "ä", &"z".repeat(64)] {
        refused(&[(Key::Zone, text)]);
    }
}
