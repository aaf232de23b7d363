//! House rules that a machine can check, over the whole workspace.
//!
//! It stands in the lowest crate so that `cargo test -p oci` finds a breach before the rest is
//! built. Each failure lists every place at once. Not here: what clippy and rustfmt already know.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows only test functions as tests"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// A file has one idea; beyond this it has two.
const LINES_MAX: usize = 500;

/// Our crates, and which of ours each may use: (crate, in builds, in its tests besides).
/// A new edge needs a page in `docs/decisions/`.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("oci", &[], &[]),
    ("swarm", &["oci"], &[]),
    ("proxy", &["oci", "swarm"], &["oci-conformance"]),
    (
        "supernode",
        &["oci", "swarm", "proxy"],
        &["oci-conformance"],
    ),
    ("oci-conformance", &[], &[]),
    (
        "darner",
        &["oci", "swarm", "proxy", "supernode", "oci-conformance"],
        &[],
    ),
];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

/// All files below `folder` that end in `suffix`, except what is built or hidden.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Runs `check` over the text of each file and fails with all its findings.
fn inspect(suffix: &str, check: impl Fn(&str) -> Vec<String>) {
    let root = root();
    let mut faults = String::new();
    for path in files(&root, suffix) {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&root).unwrap().display();
        for fault in check(&text) {
            faults.push_str(&format!("\n{name}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

fn fault(is: bool, words: &str) -> Vec<String> {
    if is {
        vec![words.to_owned()]
    } else {
        Vec::new()
    }
}

fn table_keys(manifest: &toml::Table, table: &str) -> Vec<String> {
    let table = manifest.get(table).and_then(toml::Value::as_table);
    table
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn crates_depend_one_way() {
    let ours: Vec<&str> = EDGES.iter().map(|(name, ..)| *name).collect();
    let mut faults = Vec::new();
    for path in files(&root(), "Cargo.toml") {
        let manifest: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let Some(name) = manifest
            .get("package")
            .and_then(|package| package["name"].as_str())
        else {
            continue;
        };
        let Some((_, builds, tests)) = EDGES.iter().find(|(known, ..)| *known == name) else {
            faults.push(format!("{name} is not in EDGES"));
            continue;
        };
        for table in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let used = table_keys(&manifest, table);
            for used in used.iter().filter(|used| ours.contains(&used.as_str())) {
                let in_tests = table == "dev-dependencies" && tests.contains(&used.as_str());
                if !builds.contains(&used.as_str()) && !in_tests {
                    faults.push(format!("{name} must not use {used} ({table})"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_source_file_says_what_it_is() {
    inspect(".rs", |text| {
        fault(!text.starts_with("//! "), "does not open with `//!`")
    });
}

#[test]
fn no_source_file_is_long() {
    inspect(".rs", |text| {
        let lines = text.lines().count();
        fault(
            lines > LINES_MAX,
            &format!("{lines} lines, at most {LINES_MAX}"),
        )
    });
}

/// The words are put together here so that this file does not break its own rule.
#[test]
fn nothing_is_left_undone_or_bound_to_a_machine() {
    let undone = [["to", "do!("].concat(), ["FIX", "ME"].concat()];
    let machine = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    for suffix in [".rs", ".toml", ".md", ".sh", ".yml", ".service"] {
        inspect(suffix, |text| {
            let held = |word: &&String| text.contains(word.as_str());
            let words = undone.iter().chain(&machine).filter(held);
            words.map(|word| format!("holds `{word}`")).collect()
        });
    }
}

#[test]
fn every_page_has_one_title() {
    inspect(".md", |text| {
        let mut in_code = false;
        let titles = text.lines().filter(|line| {
            in_code ^= line.trim_start().starts_with("```");
            !in_code && line.starts_with("# ")
        });
        let titles = titles.count();
        fault(titles != 1, &format!("{titles} titles, not one"))
    });
}
