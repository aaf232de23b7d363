//! Each check must be able to fail: a mirror that is right passes, and one that is wrong in one way
//! is found by the check that is about it.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod flaw;
mod mirror;
mod wire;
mod writes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use oci_conformance::checks;
use oci_conformance::client::Site;
use oci_conformance::runner::{self, Only, Outcome, Row};
use oci_conformance::setup::{FIRST, Options, SECOND, Target, Upstream};

use flaw::Flaw;
use mirror::{Mirror, Setting};

/// The checks of these categories that cannot be tried without a process or an account.
const NOT_HERE: [&str; 2] = ["AUT-05", "AUT-17"];

async fn free() -> SocketAddr {
    oci_conformance::origin::nobody().await
}

/// Runs these checks against a mirror with this flaw.
async fn run(flaw: Option<Flaw>, read_only: bool, only: &[&str]) -> Vec<Row> {
    let (first, second) = (free().await, free().await);
    let setting = Setting {
        first,
        second,
        names: [FIRST, SECOND],
        read_only,
    };
    let mirror: Arc<Mirror> = Mirror::start(setting, flaw).await;
    let options = Options {
        target: Target::Url(Site::loopback(mirror.addr)),
        upstream: Upstream::Scripted(first, second),
        namespace: None,
        login: None,
        write: !read_only,
        ttl: Duration::ZERO,
        peer_port: None,
        swarm: None,
        repository: "suite".to_owned(),
        tag: "latest".to_owned(),
    };
    let scene = options.build().await.unwrap();
    let all = checks::all();
    let only: Vec<Only> = only
        .iter()
        .map(|id| Only::parse(id, &all).unwrap())
        .collect();
    runner::run(&scene, &all, &only, |_| {}).await
}

#[tokio::test]
async fn a_right_mirror_passes() {
    let all = ["auth", "proxying", "push", "management"];
    let (writable, read_only) = (run(None, false, &all), run(None, true, &all));
    let (writable, read_only) = tokio::join!(writable, read_only);
    let mut wrong = Vec::new();
    for (row, without_writes) in writable.iter().zip(&read_only) {
        let both = [&row.outcome, &without_writes.outcome];
        let failed = both.iter().any(|outcome| outcome.name() == "FAIL");
        let passed = both.iter().any(|outcome| outcome.name() == "pass");
        let id = row.check.id();
        if failed || !(passed || NOT_HERE.contains(&id.as_str())) {
            wrong.push(format!("{id}: {both:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_flaw_is_found() {
    let runs = [
        (Flaw::ChangesRealm, "AUT-01"),
        (Flaw::FirstChallengeOnly, "AUT-02"),
        (Flaw::AnyRealm, "AUT-03"),
        (Flaw::TokenRedirects, "AUT-04"),
        (Flaw::JoinsScopes, "AUT-05"),
        (Flaw::TokenFieldOnly, "AUT-06"),
        (Flaw::TokenEachTime, "AUT-07"),
        (Flaw::IgnoresScopeErrors, "AUT-08"),
        (Flaw::RetriesForbidden, "AUT-08"),
        (Flaw::DropsBasic, "AUT-09"),
        (Flaw::CredentialsFollow, "AUT-10"),
        (Flaw::UsesAnyToken, "AUT-11"),
        (Flaw::ServesUnasked, "AUT-12"),
        (Flaw::ServesUnasked, "AUT-13"),
        (Flaw::HeadIsOpen, "AUT-14"),
        (Flaw::AnyCredential, "AUT-15"),
        (Flaw::FailsOpen, "AUT-16"),
        (Flaw::NeverConfirms, "PRX-01"),
        (Flaw::DialsNs, "PRX-02"),
        (Flaw::LenientNs, "PRX-03"),
        (Flaw::OneHubName, "PRX-04"),
        (Flaw::MixesRegistries, "PRX-05"),
        (Flaw::PassesNs, "PRX-06"),
        (Flaw::BelievesHost, "PRX-07"),
        (Flaw::DecodesPath, "PRX-08"),
        (Flaw::NoVia, "PRX-09"),
        (Flaw::LibraryForManifests, "PRX-10"),
        (Flaw::LeavesLocation, "PSH-01"),
        (Flaw::LosesPostBody, "PSH-02"),
        (Flaw::NoRange, "PSH-03"),
        (Flaw::RangeErrorsAre400, "PSH-04"),
        (Flaw::CancelsForShow, "PSH-05"),
        (Flaw::RefusesMounts, "PSH-06"),
        (Flaw::MountsFromCache, "PSH-07"),
        (Flaw::TakesAnyDigest, "PSH-08"),
        (Flaw::NoDigest, "PSH-09"),
        (Flaw::DropsOciHeaders, "PSH-10"),
        (Flaw::SmallManifests, "PSH-11"),
        (Flaw::ServesUnasked, "PSH-12"),
        (Flaw::DeletesForShow, "MGT-01"),
        (Flaw::DeletesFromCacheFirst, "MGT-03"),
        (Flaw::ServesUnasked, "MGT-04"),
        (Flaw::KeepsRejectedTokens, "AUT-06"),
        (Flaw::LocationFromHost, "PRX-07"),
        (Flaw::DropsSubject, "PSH-10"),
        (Flaw::DropsTags, "PSH-10"),
        (Flaw::RemembersAbsence, "PSH-12"),
    ];
    let read_only = [
        (Flaw::ForbidsPuts, "PSH-13"),
        (Flaw::BreaksOnDeletes, "MGT-02"),
        (Flaw::ReadsWholeBody, "PSH-13"),
    ];
    let runs = runs.map(|(flaw, id)| (flaw, false, id));
    let read_only = read_only.map(|(flaw, id)| (flaw, true, id));
    let all = runs.into_iter().chain(read_only);
    let found = join_all(all.map(async |(flaw, read_only, id)| {
        let rows = run(Some(flaw), read_only, &[id]).await;
        let failed = matches!(rows[0].outcome, Outcome::Fail(_));
        (!failed).then(|| format!("{flaw:?} passes {id}: {:?}", rows[0].outcome))
    }))
    .await;
    let missed: Vec<String> = found.into_iter().flatten().collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
