//! A run's rows for people and for machines: text, JSON, JUnit's XML, and a page.

mod html;
mod json;
mod junit;
mod text;

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use text::{beside, row, summary};

use crate::check::{Category, Level};
use crate::runner::{Outcome, Row};

/// A run of the suite.
pub struct Report {
    /// What was tested, as a person would name it.
    pub subject: String,
    /// How each check ended, in order.
    pub rows: Vec<Row>,
}

/// How many checks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As they must.
    pub pass: usize,
    /// Not.
    pub fail: usize,
    /// Not tried.
    pub skip: usize,
}

impl Report {
    /// How many checks ended how.
    pub fn counts(&self) -> Counts {
        count(self.rows.iter())
    }

    /// The same of one category.
    pub fn counts_of(&self, category: Category) -> Counts {
        count(
            self.rows
                .iter()
                .filter(|row| row.check.category == category),
        )
    }

    /// Failed checks of a level.
    pub fn failed(&self, level: Level) -> usize {
        let rows = self.rows.iter().filter(|row| row.check.level == level);
        count(rows).fail
    }

    /// Whether no check failed.
    pub fn passed(&self) -> bool {
        self.counts().fail == 0
    }

    /// Checks that passed there and do not pass here: what stands between makes them worse.
    pub fn worse_than<'r>(&'r self, other: &Report) -> Vec<&'r Row> {
        let rows = self.rows.iter().filter(|row| {
            let id = row.check.id();
            let there = other.rows.iter().find(|row| row.check.id() == id);
            let passed = there.is_some_and(|row| row.outcome == Outcome::Pass);
            passed && row.outcome != Outcome::Pass
        });
        rows.collect()
    }
}

fn count<'r>(rows: impl Iterator<Item = &'r Row>) -> Counts {
    let mut counts = Counts::default();
    for row in rows {
        match row.outcome {
            Outcome::Pass => counts.pass += 1,
            Outcome::Fail(_) => counts.fail += 1,
            Outcome::Skip(_) => counts.skip += 1,
        }
    }
    counts
}
