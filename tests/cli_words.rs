//! What a person reads: help, errors with their hints, the settings in effect, status.
//!
//! Each text is a committed snapshot: a change of wording is a change that a reviewer sees.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::fs;
use std::net::TcpListener;

use cli::Machine;

#[test]
fn help() {
    let machine = Machine::new();
    for (name, arguments) in [
        ("darner", vec!["--help"]),
        ("up", vec!["up", "--help"]),
        ("up_short", vec!["up", "-h"]),
        ("proxy", vec!["proxy", "-h"]),
        ("supernode", vec!["supernode", "-h"]),
        ("pull", vec!["pull", "--help"]),
        ("preheat", vec!["preheat", "--help"]),
        ("conformance", vec!["conformance", "--help"]),
        ("setup", vec!["setup", "--help"]),
        ("status", vec!["status", "--help"]),
    ] {
        let said = machine.run(arguments);
        assert_eq!(said.code, 0);
        insta::assert_snapshot!(format!("help_{name}"), said.out);
    }
}

#[test]
fn wrong_values_are_one_sentence_and_a_hint() {
    let machine = Machine::new();
    let file = machine.path("darner.toml");
    fs::write(&file, "listen = \"127.0.0.1:0\"\ncache_size = \"1GiB\"\n").unwrap();
    let broken = machine.path("broken.toml");
    fs::write(&broken, "listen = \"127.0.0.1:0\"\nadmin = \n").unwrap();
    let (file, broken) = (file.to_str().unwrap(), broken.to_str().unwrap());
    let missing = machine.path("missing.toml");
    let missing = missing.to_str().unwrap();
    let mut text = String::new();
    for arguments in [
        vec!["--cache-size", "20XB"],
        vec!["--cache-size", "1K"],
        vec!["--min-free", "15"],
        vec!["--min-free", "95%"],
        vec!["--min-free", "lots"],
        vec!["--ratelimit", "fast"],
        vec!["--listen", "65001"],
        vec!["--listen", "127.0.0.1"],
        vec!["--listen", "127.0.0.1:1", "--admin", "127.0.0.1:1"],
        vec!["--tag-ttl", "30"],
        vec!["--grant-ttl", "2d"],
        vec!["--log", "loud"],
        vec!["--swarm", "10.0.0.1:8001"],
        vec!["--supernode", "http://seed.lan:8002"],
        vec!["--supernode", "fd00::1"],
        vec!["--supernode", "seed.lan:http"],
        vec!["--supernode", "0.0.0.0"],
        vec!["--supernode", ""],
        vec!["--supernode", "seed.lan", "--swarm", "10.0.0.1"],
        vec!["--peer-listen", "10.0.0.1:65003"],
        vec!["--peer-listen", "10.0.0.1", "--supernode", "seed.lan"],
        vec![
            "--peer-listen",
            "127.0.0.1:65002",
            "--supernode",
            "seed.lan",
        ],
        vec!["--advertise", "127.0.0.1"],
        vec!["--advertise", "http://node.lan"],
        vec!["--zone", "two words"],
        vec!["--upload-limit", "slow"],
        vec!["--registry", "docker.io"],
        vec!["--registry", "docker.io=mirror.example"],
        vec!["--registry", "docker.io=https://me:secret@mirror.example"],
        vec!["--registry", "d@cker=https://mirror.example"],
        vec!["--challenge-ping", "yes"],
        vec!["--config", file],
        vec!["--config", broken],
        vec!["--config", missing],
        vec!["--json"],
        vec!["--cash-size", "1GiB"],
    ] {
        let said = machine.run(["up", "--check"].iter().take(1).chain(&arguments).chain(
            // `--json` alone shows that it needs --check; all others must fail without starting.
            if arguments == ["--json"] {
                [].iter()
            } else {
                ["--check"].iter()
            },
        ));
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.text());
        assert_eq!(said.out, "");
        let arguments = arguments.join(" ");
        let folder = machine.path("");
        let arguments = arguments.replace(folder.to_str().unwrap().trim_end_matches('/'), "[tmp]");
        text.push_str(&format!("$ darner up {arguments}\n{}\n", said.err));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn check_prints_what_is_in_effect_and_where_each_source_wins() {
    let machine = Machine::new();
    let file = machine.path("darner.toml");
    let content = "\
cache-size = \"1GiB\"
min-free = \"10%\"
tag-ttl = \"1m\"

[registry.\"docker.io\"]
endpoints = [\"http://10.0.0.5:5000\", \"https://registry-1.docker.io\"]

[registry.\"docker.io\".account]
username = \"reader\"
password = \"hunter2\"
repositories = [\"org/*\"]
";
    fs::write(&file, content).unwrap();
    let mut command = machine.command([
        "up",
        "--check",
        "--admin",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.1:0",
        "--cache-size",
        "3GiB",
    ]);
    command
        .env("DARNER_CONFIG", &file)
        .env("DARNER_CACHE_SIZE", "2GiB")
        .env("DARNER_MIN_FREE", "5GiB")
        .env("DARNER_DATA_DIR", machine.path("node"))
        .env(
            "DARNER_REGISTRY",
            "quay.io=https://quay.mirror.example;ghcr.io=https://ghcr.io",
        )
        .env("DARNER_PORT_65001_TCP", "tcp://10.0.0.1:65001");
    let said = machine.said(&mut command);
    insta::assert_snapshot!("check_toml", said.text());
    command.arg("--json");
    let said = machine.said(&mut command);
    assert_eq!(said.code, 0);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["cache-size"], "3GiB");
    assert_eq!(
        json["registry"]["docker.io"]["account"][0]["password"],
        true
    );
    assert!(!said.out.contains("hunter2"));

    // What is printed is a file that says the same.
    let printed = machine.path("printed.toml");
    let first = machine.run([
        "proxy",
        "--check",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let text = first.out.replace(
        "[tmp]",
        machine.path("").to_str().unwrap().trim_end_matches('/'),
    );
    fs::write(&printed, text).unwrap();
    let second = machine.run(["proxy", "--check", "--config", printed.to_str().unwrap()]);
    assert_eq!(second.text(), first.text());
}

#[test]
fn check_leaves_nothing_behind() {
    let machine = Machine::new();
    let said = machine.run([
        "up",
        "--check",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    assert_eq!(said.code, 0, "{}", said.text());
    assert!(!machine.path("data").exists());
}

#[test]
fn what_the_machine_refuses_is_said_by_check_and_by_the_start() {
    let machine = Machine::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (port, other) = (
        address.port().to_string(),
        (address.port() + 10).to_string(),
    );
    let address = address.to_string();
    let file = machine.path("file");
    fs::write(&file, "").unwrap();
    let below_file = file.join("data");
    let below_file = below_file.to_str().unwrap();
    let mut text = String::new();
    for (name, arguments) in [
        (
            "--listen of a port in use",
            ["--listen", &address, "--admin", "127.0.0.1:0"],
        ),
        (
            "--admin of a port in use",
            ["--admin", &address, "--listen", "127.0.0.1:0"],
        ),
        (
            "--listen of a foreign address",
            ["--listen", "192.0.2.1:1", "--admin", "127.0.0.1:0"],
        ),
    ] {
        let check = machine.run(["up", "--check"].iter().chain(&arguments));
        let start = machine.run(["up"].iter().chain(&arguments));
        assert_eq!((check.code, start.code), (2, 1), "{name}");
        assert!(start.err.ends_with(&check.err), "{}", start.err);
        let words = check.err.replace(&address, "[address]");
        let words = words.replace(&format!(":{port}"), ":[port]");
        let words = words.replace(&format!(":{other}"), ":[other]");
        text.push_str(&format!("{name}\n{words}\n"));
    }
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let folder = ["--data-dir", below_file];
    let check = machine.run(["up", "--check"].iter().chain(&free).chain(&folder));
    let start = machine.run(["up"].iter().chain(&free).chain(&folder));
    assert_eq!((check.code, start.code), (2, 1));
    assert!(start.err.ends_with(&check.err), "{}", start.err);
    text.push_str(&format!("--data-dir below a file\n{}\n", check.err));

    let _node = machine.up(&[]);
    let node = machine.path("node");
    let same = ["--data-dir", node.to_str().unwrap()];
    let start = machine.run(["up"].iter().chain(&free).chain(&same));
    assert_eq!(start.code, 1);
    let words: Vec<&str> = start.err.lines().rev().take(2).collect();
    text.push_str(&format!(
        "--data-dir of a running node\n{}\n{}\n",
        words[1], words[0]
    ));
    insta::assert_snapshot!(text);
}

#[test]
fn a_start_says_how_clients_are_pointed_to_it() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    let text = node
        .name_in(&node.text)
        .replace(env!("CARGO_PKG_VERSION"), "[version]");
    insta::assert_snapshot!(text);
}

#[test]
fn status_is_one_line_or_json_or_an_error_with_a_hint() {
    let machine = Machine::new();
    // A port that no test's node can get.
    let said = machine.run(["status", "--admin", "127.0.0.1:1"]);
    insta::assert_snapshot!(
        "status_of_nobody",
        said.text().replace("127.0.0.1:1", "[address]")
    );

    let node = machine.up(&["--registry", "registry.test:5000=http://127.0.0.1:1"]);
    let said = machine.run(["status", "--admin", &node.admin]);
    insta::assert_snapshot!("status_of_a_new_node", said.text_of(&node));
    let said = machine.run(["status", "--json", "--admin", &node.admin]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["ready"], true);
    assert_eq!(
        json["registries"],
        serde_json::json!(["registry.test:5000"])
    );
    assert_eq!(json["requests"]["total"], 0);
    assert_eq!(json["listen"], serde_json::json!([node.listen]));

    let wrong = machine.run(["status", "--admin", &node.listen]);
    insta::assert_snapshot!("status_of_the_wrong_port", wrong.text_of(&node));
}
