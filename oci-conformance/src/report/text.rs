//! The report that a terminal shows.

use crate::check::{Category, Level};
use crate::runner::{Outcome, Row};

use super::Report;

/// One row: its line, and under a failure what was wanted, where it stands, and the exchange that
/// shows it.
pub fn row(row: &Row) -> String {
    let (word, level) = (row.outcome.name(), row.check.level.name());
    let mut text = format!("{word} {} {level:<6} {}\n", row.check.id(), row.check.title);
    match &row.outcome {
        Outcome::Pass => {}
        Outcome::Skip(reason) => text.push_str(&format!("     {reason}\n")),
        Outcome::Fail(reason) => {
            text.push_str(&format!("     {reason}\n     ({})\n", row.check.clause));
            if let Some(exchange) = row.exchanges.last() {
                for line in exchange.to_string().lines() {
                    text.push_str(&format!("     {line}\n"));
                }
            }
        }
    }
    text
}

/// The counts: a line for each category, and one for all.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    for category in Category::ALL {
        let counts = report.counts_of(category);
        if counts == super::Counts::default() {
            continue;
        }
        text.push_str(&format!(
            "{:<11} {:>3} pass {:>3} FAIL {:>3} skip\n",
            category.name(),
            counts.pass,
            counts.fail,
            counts.skip
        ));
    }
    let counts = report.counts();
    let failed = [Level::Must, Level::Should, Level::Rfc, Level::Own]
        .map(|level| (level, report.failed(level)))
        .iter()
        .filter(|(_, failed)| *failed > 0)
        .map(|(level, failed)| format!("{failed} {}", level.name()))
        .collect::<Vec<_>>();
    let failed = match failed.is_empty() {
        true => String::new(),
        false => format!(" ({})", failed.join(", ")),
    };
    text.push_str(&format!(
        "{}: {} checks, {} pass, {} FAIL{failed}, {} skip\n",
        report.subject,
        report.rows.len(),
        counts.pass,
        counts.fail,
        counts.skip
    ));
    text
}

/// Two runs side by side: the rows that ended differently or failed in both, and the counts.
pub fn beside(report: &Report, other: &Report) -> String {
    let mut text = format!("{:<7} {:<5} {:<5} check\n", "", "here", "there");
    for row in &report.rows {
        let id = row.check.id();
        let there = other.rows.iter().find(|row| row.check.id() == id);
        let there = there.map_or("-", |row| row.outcome.name());
        let here = row.outcome.name();
        if here == there && here == "pass" {
            continue;
        }
        text.push_str(&format!(
            "{id:<7} {here:<5} {there:<5} {}\n",
            row.check.title
        ));
    }
    for (side, report) in [("here", report), ("there", other)] {
        let counts = report.counts();
        text.push_str(&format!(
            "{side}: {}: {} pass, {} FAIL, {} skip\n",
            report.subject, counts.pass, counts.fail, counts.skip
        ));
    }
    let worse = report.worse_than(other);
    let ids: Vec<String> = worse.iter().map(|row| row.check.id()).collect();
    text.push_str(&match ids.is_empty() {
        true => "no check is worse here than there\n".to_owned(),
        false => format!("worse here than there: {}\n", ids.join(", ")),
    });
    text
}
