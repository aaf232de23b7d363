//! Swarms in which nodes lie, freeze, die, crawl, come and go: the others finish, and soon.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy knows only test functions as tests"
)]

mod model;

use std::time::Duration;

use model::{Host, Manner, Outcome, RATE, World, run};
use swarm::Layout;

const MIB: u64 = 1 << 20;

/// The last honest node's time as a part of what it takes without the fault.
fn against_undisturbed(what: &str, world: &World) -> (f64, Outcome) {
    let mut calm = world.clone();
    for host in &mut calm.hosts {
        *host = Host::of(RATE);
    }
    let calm = run(&calm).last_of_all();
    let outcome = run(world);
    let honest = (0..world.hosts.len()).filter(|&at| world.hosts[at].manner == Manner::Honest);
    let ratio = outcome.last(honest) / calm;
    println!(
        "{what}: N {}: {ratio:.3} of the undisturbed run, seed sends {:.2} S, {} wrong, {} wasted, banned {:?}",
        world.hosts.len(),
        outcome.seed_sends as f64 / f64::from(world.blobs[0].count()),
        outcome.wrong,
        outcome.wasted,
        outcome.banned,
    );
    (ratio, outcome)
}

/// A part of what one copy takes on one link.
fn part(world: &World, part: f64) -> Duration {
    Duration::from_secs_f64(world.blobs[0].total() as f64 / RATE * part)
}

#[test]
fn a_liar_is_banned_and_costs_little() {
    for nodes in [8, 32] {
        let mut world = World::crowd(nodes, 100 * MIB);
        world.hosts[3].manner = Manner::Liar;
        let (ratio, outcome) = against_undisturbed("liar", &world);
        assert_eq!(outcome.banned, [3]);
        // What was on its way from it when it was found out.
        assert!(outcome.wrong <= u64::from(world.options.up_slots));
        assert!(ratio <= 1.2, "{ratio}");
    }
}

#[test]
fn a_frozen_node_holds_up_nobody() {
    for when in [0.02, 0.3, 0.5, 0.9] {
        let mut world = World::crowd(8, 200 * MIB);
        world.hosts[2].manner = Manner::FreezesAt(part(&world, when));
        let (ratio, outcome) = against_undisturbed("frozen", &world);
        assert!(ratio <= 1.2, "{ratio}");
        assert!(outcome.seed_sends as f64 <= 1.2 * f64::from(world.blobs[0].count()));
    }
}

#[test]
fn a_node_that_freezes_unnoticed_holds_up_nobody() {
    let mut world = World::crowd(8, 200 * MIB);
    world.silence = Duration::from_secs(1000);
    world.hosts[2].manner = Manner::FreezesAt(part(&world, 0.5));
    let (ratio, _) = against_undisturbed("frozen, but it speaks", &world);
    assert!(ratio <= 1.3, "{ratio}");
}

#[test]
fn dying_nodes_take_nothing_with_them() {
    for seed in 0..4 {
        let mut world = World::crowd(32, 100 * MIB);
        world.seed = seed;
        for (i, at) in [3, 9, 14, 25, 30].into_iter().enumerate() {
            let when = 0.1 + 0.17 * i as f64 + 0.05 * seed as f64;
            world.hosts[at].manner = Manner::DiesAt(part(&world, when));
        }
        let (ratio, outcome) = against_undisturbed("dying", &world);
        assert!(ratio <= 1.2, "{ratio}");
        assert!(outcome.seed_sends as f64 <= 1.2 * f64::from(world.blobs[0].count()));
    }
}

#[test]
fn a_crawling_uplink_is_found_out() {
    for nodes in [8, 32] {
        let mut world = World::crowd(nodes, 200 * MIB);
        world.hosts[5].up = RATE / 50.0;
        let (ratio, _) = against_undisturbed("crawling", &world);
        assert!(ratio <= 1.3, "{ratio}");
    }
}

#[test]
fn nodes_come_and_go() {
    for seed in 0..3 {
        let mut world = World::crowd(100, 50 * MIB);
        world.seed = seed;
        for (i, host) in world.hosts.iter_mut().enumerate() {
            let come = ((i as u64 * 7919 + seed * 104_729) % 1000) as f64 / 1000.0;
            host.asks_at = Duration::from_secs_f64(8.0 * come);
            if i % 3 == 0 {
                let stay = Duration::from_secs_f64(1.0 + 5.0 * come);
                host.manner = Manner::DiesAt(host.asks_at + stay);
            }
        }
        let outcome = run(&world);
        let honest = (0..100).filter(|i| i % 3 != 0);
        let alone = 50.0 * MIB as f64 / RATE;
        let slowest = outcome.last(honest) / alone;
        let sends = outcome.seed_sends as f64 / f64::from(world.blobs[0].count());
        println!("come and go: slowest {slowest:.3} S/B, seed sends {sends:.2} S");
        assert!(slowest <= 1.5, "{slowest}");
        assert!(sends <= 1.5, "{sends}");
    }
}

#[test]
fn everything_at_once() {
    for seed in 0..3 {
        let mut world = World::crowd(64, 100 * MIB);
        world.seed = seed;
        world.blobs.push(Layout::of(40 * MIB));
        for (i, host) in world.hosts.iter_mut().enumerate() {
            let rate = if i % 4 == 0 { RATE / 4.0 } else { RATE };
            *host = Host::of(rate);
            host.site.zone = ["a", "b"][i % 2].into();
            host.manner = match i {
                5 | 6 => Manner::Liar,
                17 => Manner::FreezesAt(Duration::from_secs(3)),
                21 | 34 | 43 => Manner::DiesAt(Duration::from_secs(i as u64 / 10)),
                _ => Manner::Honest,
            };
        }
        let outcome = run(&world);
        let honest = |at: &usize| world.hosts[*at].manner == Manner::Honest;
        let fast = (0..64).filter(honest).filter(|at| at % 4 != 0);
        let alone = 140.0 * MIB as f64 / RATE;
        let ratio = outcome.last(fast) / alone;
        println!(
            "everything at once: fast {ratio:.3} S/B, banned {:?}",
            outcome.banned
        );
        let mut banned = outcome.banned.clone();
        banned.sort_unstable();
        assert_eq!(banned, [5, 6]);
        assert!(ratio <= 1.5, "{ratio}");
        assert!((0..64).filter(honest).all(|at| outcome.done[at].is_some()));
    }
}
