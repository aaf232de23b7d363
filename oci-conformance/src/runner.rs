//! Runs checks one after the other and keeps how each ended.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use crate::check::{Category, Check, Stop};
use crate::client::Exchange;
use crate::stage::{Scene, Stage};

/// Longest time for one check. None needs it; a registry that hangs must not hang the suite.
const CHECK_MAX: Duration = Duration::from_secs(180);

/// Which checks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// Those of a category.
    Category(Category),
    /// One, by its id in capitals.
    Check(String),
}

impl Only {
    /// Reads a category's name (`pull`), its letters (`PUL`) or a check's id (`PUL-07`).
    ///
    /// # Errors
    /// If it is none of them; says what there is.
    pub fn parse(text: &str, checks: &[Check]) -> Result<Self, String> {
        let found = Category::ALL.into_iter().find(|category| {
            text.eq_ignore_ascii_case(category.code()) || text.eq_ignore_ascii_case(category.name())
        });
        if let Some(category) = found {
            return Ok(Self::Category(category));
        }
        let id = text.to_ascii_uppercase();
        if checks.iter().any(|check| check.id() == id) {
            return Ok(Self::Check(id));
        }
        let names = Category::ALL.map(Category::name).join(", ");
        Err(format!(
            "`{text}` is neither a category ({names}) nor a check such as PUL-07"
        ))
    }

    /// Whether this check is one of those.
    pub fn means(&self, check: &Check) -> bool {
        match self {
            Self::Category(category) => check.category == *category,
            Self::Check(id) => check.id() == *id,
        }
    }
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it must.
    Pass,
    /// Not as it must: what was wanted and what came.
    Fail(String),
    /// Not tried; why.
    Skip(String),
}

impl Outcome {
    /// The word in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "FAIL",
            Self::Skip(_) => "skip",
        }
    }

    /// The reason, empty for a pass.
    pub fn reason(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Fail(reason) | Self::Skip(reason) => reason,
        }
    }
}

/// One row of a report.
#[derive(Clone)]
pub struct Row {
    /// The check.
    pub check: Check,
    /// How it ended.
    pub outcome: Outcome,
    /// What was said for it, oldest first.
    pub exchanges: Vec<Exchange>,
    /// How long it took.
    pub took: Duration,
}

/// Runs the chosen checks (all, if none is named) and tells each row as it ends.
pub async fn run(
    scene: &Arc<Scene>,
    checks: &[Check],
    only: &[Only],
    mut told: impl FnMut(&Row),
) -> Vec<Row> {
    let mut rows = Vec::new();
    for check in checks {
        if !only.is_empty() && !only.iter().any(|only| only.means(check)) {
            continue;
        }
        let row = one(scene, check).await;
        told(&row);
        rows.push(row);
    }
    rows
}

async fn one(scene: &Arc<Scene>, check: &Check) -> Row {
    let begun = Instant::now();
    let stage = Stage::new(scene, check);
    // The scripted origin panics when a request it waits for never comes; that is a failed check.
    let trial = AssertUnwindSafe((check.run)(&stage)).catch_unwind();
    let outcome = match tokio::time::timeout(CHECK_MAX, trial).await {
        Ok(Ok(Ok(()))) => Outcome::Pass,
        Ok(Ok(Err(Stop::Fail(reason)))) => Outcome::Fail(reason),
        Ok(Ok(Err(Stop::Skip(reason)))) => Outcome::Skip(reason),
        Ok(Err(panic)) => Outcome::Fail(words_of(panic.as_ref())),
        Err(_) => Outcome::Fail(format!("did not end within {CHECK_MAX:?}")),
    };
    Row {
        check: *check,
        outcome,
        exchanges: stage.log().all(),
        took: begun.elapsed(),
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "the check itself broke".to_owned())
}
