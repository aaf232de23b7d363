//! The seed's old headline: the average time of a pull stays flat while the number of clients grows.

use anyhow::Result;
use serde::Serialize;

use crate::options::{Mode, Scenario};
use crate::session::Session;
use crate::table::number;

/// One number of nodes.
#[derive(Debug, Serialize)]
struct Row {
    nodes: usize,
    swarm_average_seconds: Option<f64>,
    swarm_last_seconds: Option<f64>,
    ideal_seconds: f64,
    direct_average_seconds: Option<f64>,
    /// By N S/B instead of the clock: it would have taken too long.
    direct_is_computed: bool,
}

/// Runs and prints it, and returns it as JSON; whether everybody got the right bytes.
pub(crate) fn run(session: &mut Session<'_>) -> Result<(serde_json::Value, bool)> {
    let options = session.options;
    let size = options.size.0;
    println!(
        "\n{} MiB at {} on every link; average (and last) time of a client in seconds",
        size >> 20,
        options.rate
    );
    println!(
        "{:>6} {:>10} {:>10} {:>10} {:>12}",
        "nodes", "swarm", "last", "T*", "direct"
    );
    let mut rows = Vec::new();
    let mut right = true;
    let counts = (0..8).map(|power| 1 << power);
    for nodes in counts.filter(|nodes| *nodes <= options.nodes) {
        let swarm = session.once(Scenario::Crowd, Mode::Swarm, nodes)?;
        let alone = options.rate.time_of(size * nodes as u64);
        let computed = alone.as_secs() > options.direct_max;
        let direct = if computed {
            Some(alone.as_secs_f64())
        } else {
            let direct = session.once(Scenario::Crowd, Mode::Direct, nodes)?;
            right &= direct.errors() == 0 && !direct.wrong_bytes();
            direct.average_seconds()
        };
        right &= swarm.errors() == 0 && !swarm.wrong_bytes();
        let row = Row {
            nodes,
            swarm_average_seconds: swarm.average_seconds(),
            swarm_last_seconds: swarm.last_seconds(),
            ideal_seconds: swarm.ideal_seconds,
            direct_average_seconds: direct,
            direct_is_computed: computed,
        };
        let mark = if computed { " (computed)" } else { "" };
        println!(
            "{nodes:>6} {:>10} {:>10} {:>10} {:>12}{mark}",
            number(row.swarm_average_seconds),
            number(row.swarm_last_seconds),
            number(Some(row.ideal_seconds)),
            number(row.direct_average_seconds),
        );
        rows.push(row);
    }
    Ok((serde_json::to_value(rows)?, right))
}
