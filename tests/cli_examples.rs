//! The examples and the first page stay true: what they show is what the program takes.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::fs;
use std::path::PathBuf;

use cli::Machine;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

/// The settings, as `up --check` and `supernode --help` know them.
fn settings(machine: &Machine) -> Vec<String> {
    let mut names = Vec::new();
    for command in ["up", "supernode"] {
        let said = machine.run([command, "--help"]);
        for line in said.out.lines().map(str::trim_start) {
            let Some(flag) = line.strip_prefix("--") else {
                continue;
            };
            let name = flag.split_whitespace().next().unwrap().to_owned();
            let other = ["help", "config", "check", "json"].contains(&name.as_str());
            if !other && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

#[test]
fn the_example_file_is_taken_and_holds_every_setting() {
    let machine = Machine::new();
    let path = file("examples/one-node/darner.toml");
    let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let all = ["up", "--check", "--config", path.to_str().unwrap()];
    let said = machine.run(all.iter().chain(&free));
    assert_eq!(said.code, 0, "{}", said.text());

    let shown = text("examples/one-node/darner.toml");
    // With what is commented out it is still a file: nothing in the comments is out of date.
    let uncommented: Vec<&str> = shown
        .lines()
        .filter(|line| !line.starts_with("# ") || line.contains(" = ") || line.starts_with("# ["))
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
        .collect();
    let whole = machine.path("whole.toml");
    let uncommented = uncommented
        .join("\n")
        .replace("/etc/darner/hub-password", whole.to_str().unwrap());
    fs::write(&whole, &uncommented).unwrap();
    let said = machine.run(["proxy", "--check", "--config", whole.to_str().unwrap()]);
    assert!(!said.err.contains("is not a setting"), "{}", said.text());
    for name in settings(&machine) {
        let key = if name == "registry" {
            "[registry]".to_owned()
        } else {
            format!("{name} = ")
        };
        assert!(uncommented.contains(&key), "{name} is not in the example");
    }
}

#[test]
fn every_setting_is_in_the_operators_page() {
    let machine = Machine::new();
    let page = text("docs/OPERATING.md");
    for name in settings(&machine) {
        let row = page.lines().filter_map(|line| line.strip_prefix("| "));
        let mut keys = row.filter_map(|row| row.split(" | ").next());
        assert!(
            keys.any(|keys| keys.contains(&format!("`{name}`"))),
            "{name}"
        );
    }
}

#[test]
fn every_metric_is_in_the_operators_page() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    let metrics = cli::get(&node.admin, "/metrics");
    let page = text("docs/OPERATING.md");
    let names = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 20, "{metrics}");
    for name in names {
        // A family of one beginning is written once, then by its ends.
        let end = name.rsplit_once('_').map(|(_, end)| format!("`_{end}"));
        let short =
            page.contains(&end.unwrap()) || page.contains(&name.replace("darner_store", "`"));
        assert!(page.contains(name) || short, "{name}");
    }
}

#[test]
fn the_first_page_fits_and_names_commands_that_exist() {
    let machine = Machine::new();
    let readme = text("README.md");
    assert!(readme.lines().count() < 120);
    assert!(readme.contains("cargo run --release -- up") && readme.contains("scripts/test"));
    for command in [
        "up",
        "proxy",
        "supernode",
        "pull",
        "preheat",
        "setup",
        "status",
    ] {
        assert_eq!(machine.run([command, "--help"]).code, 0, "{command}");
    }
    for link in readme.split("](").skip(1) {
        let link = link.split([')', '#']).next().unwrap();
        assert!(file(link).exists(), "{link}");
    }
}
