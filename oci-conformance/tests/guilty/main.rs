//! Each check can fail: a registry or mirror that is wrong in one way is found guilty of it.
//!
//! The plainest relay stands before the scripted origin. Honest, it fails what a relay alone cannot
//! do, and nothing else. Then it is made wrong, once for each check, and the check must say so in
//! words that show it has seen just that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod relay;
mod ways;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use oci_conformance::client::{Client, Site};
use oci_conformance::runner::{self, Only, Outcome, Row};
use oci_conformance::stage::{Behind, Scene, Scripted};
use oci_conformance::{Category, Check, Origin, checks, setup};

use relay::Wrong;

const HERE: [Category; 4] = [
    Category::Pull,
    Category::Range,
    Category::Errors,
    Category::Discovery,
];

/// What a relay does that neither verifies, nor rewrites, nor has words of its own.
const RELAY_FAILS: [&str; 9] = [
    "PUL-10", "PUL-18", "RNG-12", "ERR-05", "ERR-07", "ERR-08", "ERR-11", "DSC-04", "DSC-09",
];

fn here() -> Vec<Check> {
    let all = checks::all().into_iter();
    all.filter(|check| HERE.contains(&check.category)).collect()
}

async fn rows(wrong: &Wrong, only: &[Only]) -> Vec<Row> {
    let first = Origin::start().await;
    let mirror = Site::loopback(relay::start(first.addr(), wrong));
    let scene = Arc::new(Scene {
        mirror: Client::new(mirror).with_namespace(Some(setup::FIRST.to_owned())),
        behind: Behind::Scripted(Scripted {
            first: Arc::new(first),
            second: Arc::new(Origin::start().await),
            name: setup::FIRST.to_owned(),
            second_name: setup::SECOND.to_owned(),
        }),
        process: None,
        writable: false,
        ttl: Duration::ZERO,
        peer_port: None,
        swarm: None,
        prefix: "conformance".to_owned(),
    });
    runner::run(&scene, &here(), only, |_| {}).await
}

#[tokio::test]
async fn an_honest_relay_fails_what_it_cannot_do_and_nothing_else() {
    let mut failed = BTreeSet::new();
    for row in rows(&Wrong::nothing(), &[]).await {
        match &row.outcome {
            Outcome::Pass => {}
            Outcome::Fail(why) => {
                println!("{}: {why}", row.check.id());
                failed.insert(row.check.id());
            }
            Outcome::Skip(why) => panic!("{} is not tried: {why}", row.check.id()),
        }
    }
    let wanted: BTreeSet<String> = RELAY_FAILS.map(str::to_owned).into();
    assert_eq!(failed, wanted);
}

#[tokio::test]
async fn a_wrong_relay_is_found_guilty() {
    let checks = here();
    let mut spared = Vec::new();
    let mut tried: BTreeSet<String> = RELAY_FAILS.map(str::to_owned).into();
    for way in ways::all() {
        let only = Only::parse(way.check, &checks).unwrap();
        let row = rows(&way.wrong, &[only]).await.remove(0);
        let why = row.outcome.reason();
        println!("{} {} {why}", way.check, row.outcome.name());
        if row.outcome.name() != "FAIL" || !why.contains(way.words) {
            spared.push(format!("{} ({}): {why}", way.check, way.words));
        }
        tried.insert(way.check.to_owned());
    }
    assert!(spared.is_empty(), "not found guilty: {spared:#?}");
    let all: BTreeSet<String> = checks.iter().map(Check::id).collect();
    assert_eq!(tried, all, "a check that nothing here makes fail");
}
