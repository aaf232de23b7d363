//! The report for programs.

use serde_json::{Value, json};

use super::Report;

/// `{subject, pass, fail, skip, checks: [{id, category, level, clause, title, outcome, reason, seconds,
/// exchanges: [{request, response, body, length}]}]}`; exchanges stand only with failed checks.
pub fn json(report: &Report) -> Value {
    let counts = report.counts();
    let checks = report.rows.iter().map(|row| {
        let failed = row.outcome.name() == "FAIL";
        let exchanges = row.exchanges.iter().filter(|_| failed).map(|exchange| {
            json!({
                "request": exchange.request,
                "response": exchange.response,
                "body": exchange.body,
                "length": exchange.length,
            })
        });
        json!({
            "id": row.check.id(),
            "category": row.check.category.name(),
            "level": row.check.level.name(),
            "clause": row.check.clause,
            "title": row.check.title,
            "outcome": row.outcome.name().to_ascii_lowercase(),
            "reason": row.outcome.reason(),
            "seconds": row.took.as_secs_f64(),
            "exchanges": exchanges.collect::<Vec<_>>(),
        })
    });
    json!({
        "subject": report.subject,
        "pass": counts.pass,
        "fail": counts.fail,
        "skip": counts.skip,
        "checks": checks.collect::<Vec<_>>(),
    })
}
