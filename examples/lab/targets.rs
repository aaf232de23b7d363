//! What the project promises of the swarm, beside what a run gave.

use crate::options::{Mode, Scenario};
use crate::outcome::Outcome;

/// One promise: a figure and what it may be at most.
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) value: Option<f64>,
    pub(crate) most: f64,
}

impl Target {
    fn new(what: impl Into<String>, value: Option<f64>, most: f64) -> Self {
        Self {
            what: what.into(),
            value,
            most,
        }
    }

    /// Whether it is kept; what has no figure is not.
    pub(crate) fn is_met(&self) -> bool {
        self.value.is_some_and(|value| value <= self.most)
    }
}

/// The promises that bear on this run; faults are compared with an undisturbed one of the same session.
pub(crate) fn of(run: &Outcome, undisturbed: Option<&Outcome>) -> Vec<Target> {
    if run.mode != Mode::Swarm {
        return Vec::new();
    }
    let mut targets = vec![
        Target::new("errors of clients", Some(run.errors() as f64), 0.0),
        Target::new(
            "wrong bytes",
            Some(f64::from(u8::from(run.wrong_bytes()))),
            0.0,
        ),
    ];
    match run.scenario {
        Scenario::Crowd => targets.extend(crowd(run)),
        Scenario::Image => {
            targets.push(Target::new(
                "last node / T*",
                ratio(run, run.last_seconds()),
                1.2,
            ));
            targets.extend(sources(run));
        }
        Scenario::Late => targets.extend(late(run)),
        _ => targets.extend(fault(run, undisturbed)),
    }
    targets
}

fn crowd(run: &Outcome) -> Vec<Target> {
    let (last, first_byte) = match run.nodes {
        0..=8 => (1.08, 0.2),
        9..=16 => (1.15, 0.5),
        _ => (1.18, 0.5),
    };
    let mut targets = vec![
        Target::new("last node / T*", ratio(run, run.last_seconds()), last),
        Target::new("median / T*", ratio(run, run.median_seconds()), 1.1),
        Target::new(
            "first byte, median, s",
            run.first_byte_seconds(),
            first_byte,
        ),
    ];
    targets.extend(sources(run));
    targets
}

fn sources(run: &Outcome) -> Vec<Target> {
    let origin = run.share(run.traffic.origin_served.bytes);
    let supernode = run.share(run.traffic.supernode_sent);
    let cpu = run.effort.cpu_seconds_per_gib;
    vec![
        // The configuration comes with the layers, so a hair more than S is right.
        Target::new("origin served / S", Some(origin), 1.001),
        Target::new("supernode sent / S", Some(supernode), 1.2),
        Target::new("CPU-s per GiB", Some(cpu), 1.5),
    ]
}

fn late(run: &Outcome) -> Vec<Target> {
    let Some(late) = run.clients.last() else {
        return Vec::new();
    };
    let line = late.end_seconds.map(|end| end / run.line_seconds);
    vec![
        Target::new("late: first byte, s", late.first_byte_seconds, 0.1),
        Target::new("late: time / (S/B)", line, 1.1),
    ]
}

fn fault(run: &Outcome, undisturbed: Option<&Outcome>) -> Vec<Target> {
    let usual = undisturbed.and_then(Outcome::last_seconds);
    let slower = run.last_seconds().zip(usual).map(|(it, usual)| it / usual);
    let gap = Some(run.longest_gap_seconds());
    let origin = Some(run.share(run.traffic.origin_sent));
    let mut targets = vec![
        Target::new("last node / undisturbed", slower, 1.3),
        Target::new("longest gap, s", gap, 2.0),
        Target::new("origin sent / S", origin, 1.6),
    ];
    if let Some(lies) = run.fault.as_ref().and_then(|fault| fault.lies.as_ref()) {
        let unnamed = f64::from(u8::from(lies.log_lines.is_empty()));
        // Those that were under way when it was found out, from all nodes.
        let under_way = 4.0 * run.nodes as f64;
        targets.push(Target::new("liar not named in a log", Some(unnamed), 0.0));
        targets.push(Target::new("lies", Some(lies.count as f64), under_way));
        targets.push(Target::new(
            "first to last lie, s",
            Some(lies.span_seconds),
            2.0,
        ));
    }
    targets
}

fn ratio(run: &Outcome, seconds: Option<f64>) -> Option<f64> {
    seconds.map(|seconds| seconds / run.ideal_seconds)
}
