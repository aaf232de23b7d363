//! A run as a person reads it.

use crate::options::Rate;
use crate::outcome::{Client, Outcome};
use crate::targets;

const MIB: f64 = (1_u64 << 20) as f64;

/// Prints a run: its nodes, its totals, the promises that bear on it.
pub(crate) fn print(run: &Outcome, undisturbed: Option<&Outcome>) {
    let mode = format!("{:?}", run.mode).to_lowercase();
    println!(
        "\n{} of {} nodes, {mode}: {:.0} MiB at {}; S/B = {:.3} s, T* = {:.3} s; seed {}",
        run.scenario.name(),
        run.nodes,
        run.bytes as f64 / MIB,
        Rate(run.rate_bits),
        run.line_seconds,
        run.ideal_seconds,
        run.seed,
    );
    println!(
        "{:>5} {:>8} {:>8} {:>6} {:>7} | {:>8} {:>9} {:>8} | {:>8}",
        "node", "first s", "end s", "/T*", "gap s", "upstream", "supernode", "peers", "sent MiB"
    );
    for client in &run.clients {
        row(run, client);
    }
    totals(run);
    for (target, mark) in targets::of(run, undisturbed)
        .iter()
        .map(|target| (target, if target.is_met() { "met" } else { "MISSED" }))
    {
        let (what, value, most) = (&target.what, number(target.value), target.most);
        println!("  {what:<28} {value:>8}  at most {most:<6} {mark}");
    }
}

fn row(run: &Outcome, client: &Client) {
    let of_ideal = client.end_seconds.map(|end| end / run.ideal_seconds);
    let mib = |bytes: Option<u64>| {
        bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / MIB))
    };
    let mut notes = String::new();
    if !client.healthy {
        notes.push_str("  (struck)");
    }
    if client.began_seconds > 0.0 {
        notes.push_str(&format!("  (began at {:.3} s)", client.began_seconds));
    }
    if client.healthy
        && let Some(error) = client.errors.first()
    {
        notes.push_str(&format!("  {error}"));
    }
    println!(
        "{:>5} {:>8} {:>8} {:>6} {:>7} | {:>8} {:>9} {:>8} | {:>8}{notes}",
        client.node,
        number(client.first_byte_seconds),
        number(client.end_seconds),
        number(of_ideal),
        number(Some(client.longest_gap_seconds)),
        mib(client.from.map(|from| from.upstream)),
        mib(client.from.map(|from| from.supernode)),
        mib(client.from.map(|from| from.peer)),
        mib(Some(client.sent_bytes)),
    );
}

fn totals(run: &Outcome) {
    let of_ideal = |seconds: Option<f64>| number(seconds.map(|it| it / run.ideal_seconds));
    println!(
        "  time: last {} s = {} T*, median {} T*, average {} s; first byte {} s; longest gap {:.3} s",
        number(run.last_seconds()),
        of_ideal(run.last_seconds()),
        of_ideal(run.median_seconds()),
        number(run.average_seconds()),
        number(run.first_byte_seconds()),
        run.longest_gap_seconds(),
    );
    let (traffic, effort) = (&run.traffic, &run.effort);
    println!(
        "  sent: origin {:.3} S ({} blob GETs, {:.3} S by its log), supernode {:.3} S",
        run.share(traffic.origin_sent),
        traffic.origin_served.gets,
        run.share(traffic.origin_served.bytes),
        run.share(traffic.supernode_sent),
    );
    println!(
        "  CPU-s: nodes {:.2}, supernode {:.2} = {:.3} per GiB; registry {:.2}, clients {:.2}, others {:.2}; machine \
         {:.0} % busy; peak memory: a node {:.0} MiB, supernode {:.0} MiB",
        effort.nodes_cpu_seconds,
        effort.supernode_cpu_seconds,
        effort.cpu_seconds_per_gib,
        effort.registry_cpu_seconds,
        effort.lab_cpu_seconds,
        effort.other_cpu_seconds,
        effort.machine_busy * 100.0,
        effort.node_peak_bytes as f64 / MIB,
        effort.supernode_peak_bytes as f64 / MIB,
    );
    if effort.machine_busy > 0.85 {
        println!("  the machine was too busy: this run measures its cores, not the swarm");
    }
    if let Some(fault) = &run.fault {
        println!("  fault: {} at {:.3} s", fault.victim, fault.at_seconds);
        if let Some(lies) = &fault.lies {
            println!(
                "  lies: {} within {:.3} s; named by",
                lies.count, lies.span_seconds
            );
            for line in lies.log_lines.iter().take(5) {
                println!("    {line}");
            }
        }
    }
    if let Some(second) = &run.second {
        println!(
            "  afterwards: another image of {:.0} MiB, last node {} s, errors {:?}",
            second.bytes as f64 / MIB,
            number(second.last_seconds),
            second.errors
        );
    }
    if !run.ended.is_empty() {
        println!("  ENDED BY THEMSELVES: {}", run.ended.join(", "));
    }
}

/// Three decimals, fewer for large numbers, and a dash for none.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) if value >= 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}
