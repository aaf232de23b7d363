//! `darner setup` on a folder that stands for a machine, with a real node answering: what is
//! written, what is warned of, and that undo leaves no trace.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

mod cli;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use cli::{Machine, Node, Said};

const V2: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n";
const V3: &str = "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\n";
const CONFIG: &str = "etc/containerd/config.toml";
const GOOD: &str = "config_path = \"/etc/containerd/certs.d\"\n";

fn setup(machine: &Machine, node: &Node, arguments: &[&str]) -> Said {
    let root = machine.path("root");
    let state = machine.path("state");
    let root = [
        "--root",
        root.to_str().unwrap(),
        "--data-dir",
        state.to_str().unwrap(),
    ];
    let all = ["setup"].into_iter().chain(arguments.iter().copied());
    machine.run(all.chain(root).chain(node.flags()))
}

fn undo(machine: &Machine, client: &[&str]) -> Said {
    let root = machine.path("root");
    let state = machine.path("state");
    let all = [
        "setup",
        "--undo",
        "--root",
        root.to_str().unwrap(),
        "--data-dir",
    ];
    machine.run(all.iter().chain(&[state.to_str().unwrap()]).chain(client))
}

/// Sets up twice and undoes: the second run changes nothing, undo leaves no trace.
fn there_and_back(machine: &Machine, node: &Node, arguments: &[&str]) -> Said {
    let before = machine.tree();
    let first = setup(machine, node, arguments);
    assert_eq!(first.code, 0, "{}", first.text());
    let after = machine.tree();
    assert_ne!(before, after);
    let second = setup(machine, node, arguments);
    assert_eq!(second.code, 0, "{}", second.text());
    assert!(!second.out.contains("wrote"), "{}", second.out);
    assert_eq!(machine.tree(), after, "a second run changes nothing");
    let undone = undo(machine, &arguments[..1]);
    assert_eq!(undone.code, 0, "{}", undone.text());
    assert_eq!(machine.tree(), before, "byte for byte");
    first
}

#[test]
fn nothing_is_written_before_the_node_answers() {
    let machine = Machine::new();
    let root = machine.path("root");
    let root = root.to_str().unwrap();
    let nobody = ["--address", "127.0.0.1:1", "--admin", "127.0.0.1:2"];
    let said = machine.run(["setup", "docker", "--root", root].iter().chain(&nobody));
    insta::assert_snapshot!("no_node", said.text());
    assert!(machine.tree().is_empty());
    let said = machine.run(
        ["setup", "docker", "--dry-run", "--root", root]
            .iter()
            .chain(&nobody),
    );
    assert_eq!(said.code, 0, "{}", said.text());
    assert!(machine.tree().is_empty());
}

#[test]
fn wrong_arguments_are_said() {
    let machine = Machine::new();
    let mut text = String::new();
    for arguments in [
        vec!["setup"],
        vec!["setup", "dockerd"],
        vec!["setup", "containerd", "--address", "[::1]:65001"],
        vec!["setup", "containerd", "--address", "http://127.0.0.1:65001"],
        vec!["setup", "containerd", "--address", "127.0.0.1"],
        vec!["setup", "containerd", "--registry", "quay io"],
        vec!["setup", "containerd", "--registry", "r.lan=r.lan:5000"],
    ] {
        let said = machine.run(&arguments);
        assert_eq!(said.code, 2);
        text.push_str(&format!("$ darner {}\n{}\n", arguments.join(" "), said.err));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn containerd_for_every_registry() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    machine.put(CONFIG, &format!("{V2}{GOOD}"));
    let said = setup(&machine, &node, &["containerd", "--dry-run"]);
    insta::assert_snapshot!("containerd_dry_run", said.text_of(&node));
    let said = there_and_back(&machine, &node, &["containerd"]);
    insta::assert_snapshot!("containerd", said.text_of(&node));
}

#[test]
fn containerd_for_named_registries_keeps_what_the_operator_has() {
    let machine = Machine::new();
    let node = machine.up(&["--registry", "r.lan:5000=http://127.0.0.1:9"]);
    machine.put(CONFIG, &format!("{V3}{GOOD}"));
    let quay = "server = \"https://quay.io\"\n\n# ours since 2019\n[host.\"https://m.lan\"]\n  ca = \"m.pem\"\n";
    let quay = machine.put("etc/containerd/certs.d/quay.io/hosts.toml", quay);
    fs::set_permissions(&quay, fs::Permissions::from_mode(0o640)).unwrap();
    machine.put("etc/containerd/certs.d/r.lan_5000_/ca.crt", "pem");
    let said = setup(
        &machine,
        &node,
        &[
            "containerd",
            "--dry-run",
            "--registry",
            "docker.io",
            "--registry",
            "quay.io",
            "--registry",
            "r.lan:5000",
            "--registry",
            "other.lan=http://other.lan:5000",
        ],
    );
    insta::assert_snapshot!("containerd_named", said.text_of(&node));
    there_and_back(
        &machine,
        &node,
        &[
            "containerd",
            "--registry",
            "quay.io",
            "--registry",
            "docker.io",
        ],
    );
}

/// A machine with its fault: name, config.toml, and files of the usual folder.
type Faulty = (
    &'static str,
    Option<String>,
    Vec<(&'static str, &'static str)>,
);

fn faulty() -> Vec<Faulty> {
    let mirrors = "mirrors.\"docker.io\".endpoint = [\"https://m\"]\n";
    let list = "config_path = \"/etc/containerd/certs.d:/etc/docker/certs.d\"\n";
    let wrong = V2.replace("version = 2", "version = 3");
    let configs: [(&'static str, Option<String>); 8] = [
        ("no config.toml", None),
        ("no config_path, version 2", Some(V2.to_owned())),
        ("no config_path, version 3", Some(V3.to_owned())),
        ("a list of folders", Some(format!("{V3}{list}"))),
        (
            "mirrors beside config_path",
            Some(format!("{V2}{GOOD}{mirrors}")),
        ),
        ("mirrors alone", Some(format!("{V2}{mirrors}"))),
        (
            "tls beside config_path",
            Some(format!("{V2}{GOOD}configs.\"m:1\".tls.ca_file = \"x\"\n")),
        ),
        (
            "the section of version 2 in a file of version 3",
            Some(format!("{wrong}{GOOD}")),
        ),
    ];
    let mut all: Vec<Faulty> = configs
        .into_iter()
        .map(|(name, config)| (name, config, Vec::new()))
        .collect();
    let hidden = vec![
        ("a.lan", "server = \"https://m\"\n"),
        (
            "b.lan",
            "[host.\"https://m\"]\ncapabilities = [\"pull\", \"referrers\"]\n",
        ),
        (
            "c.lan_5000_",
            "[host.\"http://m:5000\"]\nskip_verify = true\n",
        ),
        ("d.lan", "[host.\"http://[::1]:5000\"]\n"),
        ("e.lan", "[host\n"),
    ];
    let name = "folders that hide _default, each with its own fault";
    all.push((name, Some(format!("{V2}{GOOD}")), hidden));
    all
}

#[test]
fn the_silent_traps_of_containerd_are_named() {
    let mut text = String::new();
    for (name, config, files) in faulty() {
        let machine = Machine::new();
        let node = machine.up(&[]);
        if let Some(config) = config {
            machine.put(CONFIG, &config);
        }
        for (folder, content) in files {
            machine.put(
                &format!("etc/containerd/certs.d/{folder}/hosts.toml"),
                content,
            );
        }
        let said = setup(&machine, &node, &["containerd"]);
        assert_eq!(said.code, 0, "{}", said.text());
        let warnings = said
            .out
            .lines()
            .filter(|line| line.starts_with("warning") || line.starts_with("   "));
        let warnings: Vec<&str> = warnings.collect();
        text.push_str(&format!("# {name}\n{}\n\n", warnings.join("\n")));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_hosts_file_that_cannot_be_read_or_extended_is_refused() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    machine.put(CONFIG, &format!("{V2}{GOOD}"));
    let mut text = String::new();
    for content in ["server = \n", "host = { \"https://m\" = {} }\n"] {
        machine.put("etc/containerd/certs.d/quay.io/hosts.toml", content);
        let before = machine.tree();
        let said = setup(
            &machine,
            &node,
            &[
                "containerd",
                "--registry",
                "docker.io",
                "--registry",
                "quay.io",
            ],
        );
        assert_eq!(said.code, 1);
        assert_eq!(machine.tree(), before, "nothing of it is written");
        text.push_str(&said.text_of(&node));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn docker() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    let daemon = "{\n  \"debug\": true,\n  \"registry-mirrors\": [\"https://m.lan\"],\n  \"features\": {\"containerd-snapshotter\": true}\n}\n";
    machine.put("etc/docker/daemon.json", daemon);
    let arguments = ["docker", "--registry", "docker.io", "--registry", "quay.io"];
    let said = setup(&machine, &node, &[&arguments[..], &["--dry-run"]].concat());
    insta::assert_snapshot!("docker_dry_run", said.text_of(&node));
    there_and_back(&machine, &node, &arguments);
    machine.put("etc/docker/daemon.json", "{}");
    let said = setup(&machine, &node, &["docker", "--registry", "quay.io"]);
    insta::assert_snapshot!("docker_without_its_image_store", said.text_of(&node));
}

#[test]
fn docker_from_nothing_and_through_a_link() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    let said = there_and_back(&machine, &node, &["docker"]);
    insta::assert_snapshot!("docker_from_nothing", said.text_of(&node));

    let target = machine.put("opt/daemon.json", "{}");
    fs::create_dir_all(machine.root("etc/docker")).unwrap();
    let link = machine.root("etc/docker/daemon.json");
    symlink(&target, &link).unwrap();
    there_and_back(&machine, &node, &["docker"]);
    setup(&machine, &node, &["docker"]);
    assert!(link.is_symlink(), "the link stays");
    assert!(fs::read_to_string(target).unwrap().contains(&node.listen));
}

#[test]
fn a_broken_daemon_json_is_not_touched() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    machine.put("etc/docker/daemon.json", "{\"debug\": true,}");
    let before = machine.tree();
    let said = setup(&machine, &node, &["docker"]);
    assert_eq!(machine.tree(), before);
    insta::assert_snapshot!(said.text_of(&node));
}

#[test]
fn podman() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    machine.put(
        "etc/containers/registries.conf.d/10-ours.conf",
        "[[registry]]\nprefix = \"quay.io\"\nlocation = \"quay.lan/proxy\"\nblocked = false\n\n\
         [[registry.mirror]]\nlocation = \"m.lan\"\n\n\
         [[registry]]\nprefix = \"quay.io/team\"\nlocation = \"quay.io/team\"\n",
    );
    let arguments = ["podman", "--registry", "docker.io", "--registry", "quay.io"];
    let said = setup(&machine, &node, &[&arguments[..], &["--dry-run"]].concat());
    insta::assert_snapshot!("podman_dry_run", said.text_of(&node));
    there_and_back(&machine, &node, &arguments);
    there_and_back(&machine, &node, &["podman"]);
}

#[test]
fn undo_takes_all_clients_back_and_leaves_foreign_changes_alone() {
    let machine = Machine::new();
    let node = machine.up(&[]);
    machine.put(CONFIG, &format!("{V2}{GOOD}"));
    let daemon = machine.put("etc/docker/daemon.json", "{\"debug\":true}");
    let before = machine.tree();
    for client in ["containerd", "docker", "podman"] {
        assert_eq!(setup(&machine, &node, &[client]).code, 0);
    }
    let ours = fs::read(&daemon).unwrap();
    fs::write(&daemon, "{\"debug\":false}").unwrap();
    let said = undo(&machine, &[]);
    insta::assert_snapshot!("undo_with_a_foreign_change", said.text_of(&node));
    fs::write(&daemon, ours).unwrap();
    assert_eq!(undo(&machine, &[]).code, 0);
    assert_eq!(machine.tree(), before);
    insta::assert_snapshot!("undo_of_nothing", undo(&machine, &[]).text());
}

#[test]
fn another_address_takes_the_place_of_the_first() {
    let machine = Machine::new();
    machine.put(CONFIG, &format!("{V2}{GOOD}"));
    let hosts = machine.put(
        "etc/containerd/certs.d/_default/hosts.toml",
        "[host.\"https://m\"]\n",
    );
    let before = machine.tree();
    let first = machine.up(&[]);
    assert_eq!(setup(&machine, &first, &["containerd"]).code, 0);
    let (old, admin) = (first.listen.clone(), first.admin.clone());
    drop(first);
    let second = machine.up(&[]);
    assert_ne!((&old, &admin), (&second.listen, &second.admin));
    assert_eq!(setup(&machine, &second, &["containerd"]).code, 0);
    let text = fs::read_to_string(&hosts).unwrap();
    assert!(
        text.contains(&second.listen) && !text.contains(&old),
        "{text}"
    );
    assert_eq!(undo(&machine, &["containerd"]).code, 0);
    assert_eq!(machine.tree(), before);
}

#[test]
fn a_registry_the_node_does_not_serve_is_warned_of() {
    let machine = Machine::new();
    let node = machine.up(&["--registry", "r.lan:5000=http://127.0.0.1:9"]);
    machine.put(CONFIG, &format!("{V2}{GOOD}"));
    let known = setup(&machine, &node, &["containerd", "--registry", "r.lan:5000"]);
    assert!(!known.out.contains("warning"), "{}", known.out);
    let unknown = setup(&machine, &node, &["containerd", "--registry", "x.lan"]);
    assert!(
        unknown.out.contains("the node does not serve x.lan"),
        "{}",
        unknown.out
    );
    assert!(
        unknown.out.contains("--registry x.lan=https://x.lan"),
        "{}",
        unknown.out
    );
}
