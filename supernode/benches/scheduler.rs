//! `cargo bench -p supernode --bench scheduler`: what a decision costs from 1,000 to 100,000 nodes, and
//! how near the bound the same scheduler brings a flash crowd.
//!
//! Swarms are simulated as in the tests, with everything that the scheduler is told written down;
//! then that is told again to a new scheduler, whose CPU time is taken from the kernel's account of
//! the thread. `-- --quick` leaves out what takes minutes, `-- --json FILE` writes the figures there.
//! Deliberately not here: what the wire to the nodes costs.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench talks to a person"
)]

#[path = "../tests/model/mod.rs"]
mod model;

use std::fs;
use std::io;
use std::time::Duration;

use model::links::Links;
use model::{Outcome, RATE, World, run};
use serde_json::{Value, json};
use supernode::scheduler::{Options, Scheduler};

const MIB: u64 = 1 << 20;
/// The blob of the headline.
const HEADLINE: u64 = 200_000_000;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (mut quick, mut file) = (false, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--json" => file = args.next(),
            "--bench" => {}
            other => eprintln!("scheduler: `{other}` means nothing here"),
        }
    }
    let figures = json!({
        "cost": cost(quick),
        "ratio": ratio(quick),
        "headline": headline(quick),
    });
    match file {
        Some(file) => fs::write(file, format!("{figures:#}\n")),
        None => Ok(()),
    }
}

/// CPU time of this thread so far, as the kernel counts it.
fn cpu() -> io::Result<Duration> {
    let account = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = account.split_whitespace().next().unwrap_or_default();
    let nanos = first.parse().map_err(io::Error::other)?;
    Ok(Duration::from_nanos(nanos))
}

/// Tells a scheduler all of a run again: CPU microseconds for each instruction.
fn replay(world: &World, outcome: Outcome) -> io::Result<f64> {
    let mut scheduler = Scheduler::new(world.options.clone(), world.seed);
    let mut actions = Vec::new();
    let start = cpu()?;
    for (now, event) in outcome.events {
        actions.clear();
        scheduler.on(event, now, &mut actions);
    }
    let took = cpu()?.saturating_sub(start);
    Ok(took.as_secs_f64() * 1e6 / outcome.decisions as f64)
}

fn cost(quick: bool) -> Vec<Value> {
    println!("CPU for each piece decision, and memory (flash crowd, coarse links)\n");
    println!("| nodes | pieces | decisions | CPU each, us | memory for each node, bytes |");
    println!("|---|---|---|---|---|");
    let all = [
        (1_000, 8 * MIB),
        (10_000, 8 * MIB),
        (100_000, 8 * MIB),
        (1_000, 64 * MIB),
        (10_000, 64 * MIB),
    ];
    let small = |(nodes, total): &(usize, u64)| !quick || (*nodes as u64) * total <= 160_000 * MIB;
    let mut rows = Vec::new();
    for (nodes, total) in all.into_iter().filter(small) {
        let mut world = World::crowd(nodes, total);
        world.links = Links::Coarse;
        world.records = true;
        let outcome = run(&world);
        let memory = outcome.memory_bytes / nodes;
        let pieces = world.blobs[0].count();
        let decisions = outcome.decisions;
        let cpu = replay(&world, outcome).unwrap_or(f64::NAN);
        println!("| {nodes} | {pieces} | {decisions} | {cpu:.2} | {memory} |");
        rows.push(json!({
            "nodes": nodes, "pieces": pieces, "decisions": decisions,
            "cpu_us_per_decision": cpu, "memory_bytes_per_node": memory,
        }));
    }
    println!();
    rows
}

fn ratio(quick: bool) -> Vec<Value> {
    let slots = Options::prompt().up_slots;
    println!("Flash crowd to T* = S/B (1 + (floor(log2 N) + 1)/k), {slots} slots, shared links\n");
    println!(
        "| nodes | pieces | latency, piece times | last | median | first byte, s | seed sends |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for (nodes, total) in [(8, 200), (16, 200), (32, 200), (1_000, 64), (10_000, 64)] {
        if quick && nodes > 1_000 {
            continue;
        }
        for latency in if nodes > 1_000 {
            vec![0.15]
        } else {
            vec![0.05, 0.15, 0.3]
        } {
            let world = World::crowd(nodes, total * MIB).latency_in_pieces(latency);
            let outcome = run(&world);
            let pieces = world.blobs[0].count();
            let last = outcome.last_of_all() / world.bound();
            let median = outcome.median() / world.bound();
            let first = outcome.median_first_byte();
            let sends = outcome.seed_sends as f64 / f64::from(pieces);
            println!(
                "| {nodes} | {pieces} | {latency} | {last:.3} | {median:.3} | {first:.2} | {sends:.2} S |"
            );
            rows.push(json!({
                "nodes": nodes, "pieces": pieces, "latency_in_pieces": latency,
                "last": last, "median": median, "first_byte_s": first, "seed_sends": sends,
            }));
        }
    }
    println!();
    rows
}

fn headline(quick: bool) -> Vec<Value> {
    println!("200 MB to N clients at 100 Mbit/s, average seconds\n");
    println!("| clients | swarm | each from the origin |");
    println!("|---|---|---|");
    let mut rows = Vec::new();
    for nodes in [1, 10, 100, 500, 1_000, 2_000, 4_000, 7_000] {
        if quick && nodes > 500 {
            continue;
        }
        let mut world = World::crowd(nodes, HEADLINE);
        if nodes > 1_000 {
            world.links = Links::Coarse;
        }
        let swarm = run(&world).mean();
        // All share the origin's uplink from the first byte to the last.
        let direct = nodes as f64 * HEADLINE as f64 / RATE;
        println!("| {nodes} | {swarm:.1} | {direct:.1} |");
        rows.push(json!({ "clients": nodes, "swarm_s": swarm, "direct_s": direct }));
    }
    rows
}
