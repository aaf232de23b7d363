//! `darner status`: the node's state in one line, or all of it as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use proxy::admin::Status;
use proxy::attending::{Reach, SwarmStatus};
use proxy::metrics::{Bytes, Snapshot};

use crate::ask;
use crate::cli::StatusArgs;
use crate::failure::Failure;
use crate::speak::say;

/// Asks the node and prints what it says.
pub(crate) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let admin = &args.admin;
    let (code, body) = ask::get(admin, "/status").await.map_err(|error| {
        Failure::new(format!("no node answers on {admin}: {error}"))
            .hint("start one with `darner up`; if its admin port is another, name it with --admin")
    })?;
    let other = || {
        Failure::new(format!(
            "what answers on {admin} is not a darner's admin port"
        ))
        .hint("name the admin port with --admin; the node printed it when it started")
    };
    if !code.is_success() {
        return Err(other());
    }
    let status: Status = serde_json::from_slice(&body).map_err(|_| other())?;
    if args.json {
        // What the node said, as it said it, so that a newer node's fields are not lost.
        let value: serde_json::Value = serde_json::from_slice(&body).map_err(|_| other())?;
        say(format!("{value:#}"));
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        say(line(&status, now.unwrap_or_default().as_secs()));
        // A supernode says something else there, for its own page.
        let swarm = status.swarm.clone().map(serde_json::from_value);
        if let Some(Ok(swarm)) = swarm {
            say(swarm_lines(&swarm, &status.counts));
        }
    }
    Ok(())
}

fn line(status: &Status, now_seconds: u64) -> String {
    let counts = &status.counts;
    let begin = match (&counts.last_pull, status.ready) {
        (_, false) => "the node is not ready",
        (Some(_), true) => "pulls go through the node",
        (None, true) => "no pull has come through the node yet",
    };
    let hits = counts.hit_ratio.map_or_else(
        || "none asked".to_owned(),
        |ratio| format!("{:.0} %", ratio * 100.0),
    );
    let last = counts.last_pull.as_ref().map_or_else(
        || "never".to_owned(),
        |pull| {
            let ago = now_seconds.saturating_sub(pull.at_seconds);
            format!("{} {} ago", pull.image(), short_time(ago))
        },
    );
    format!(
        "{begin}: {} requests ({} failed), sent {}, hits {hits}, last pull {last}",
        counts.requests.total,
        counts.requests.failed,
        by_source(&counts.sent_bytes),
    )
}

/// The second line, and one for each thing that is wrong.
fn swarm_lines(swarm: &SwarmStatus, counts: &Snapshot) -> String {
    let all = swarm.supernodes.len();
    let live = swarm.supernodes.iter().filter(|one| one.live).count();
    let known = swarm.supernodes.iter().map(|one| one.nodes).max();
    let mut text = format!(
        "in a swarm: {live} of {all} supernodes lead, {} other nodes known, got {} from peers and \
         {} from supernodes, gave {} at {}",
        known.unwrap_or(0),
        short_size(counts.fetched_bytes.peer),
        short_size(counts.fetched_bytes.supernode),
        short_size(counts.given_bytes),
        swarm.peer_listen,
    );
    for supernode in &swarm.supernodes {
        let address = &supernode.address;
        if !supernode.live {
            let why = match supernode.why.as_str() {
                "" => "no answer yet",
                why => why,
            };
            text.push_str(&format!("\nsupernode {address} does not lead: {why}"));
        }
        let ours = supernode.ours.iter();
        for reach in ours.filter(|reach| !reach.reached) {
            let told = format!("supernode {address} cannot reach this node at");
            text.push_str(&unreached(&told, reach, "this node"));
        }
        let theirs = supernode.theirs.iter();
        for reach in theirs.filter(|reach| !reach.reached) {
            let told = format!("this node cannot reach supernode {address} for bytes at");
            text.push_str(&unreached(&told, reach, "it"));
        }
    }
    text
}

fn unreached(told: &str, reach: &Reach, whom: &str) -> String {
    let instead = match &reach.instead {
        Some(instead) => format!("{instead} is used instead"),
        None => "nothing else answers".to_owned(),
    };
    format!(
        "\n{told} {} ({}): {instead}; hint: start {whom} with --advertise and a name that others reach",
        reach.address, reach.error
    )
}

fn by_source(bytes: &Bytes) -> String {
    let total = bytes.store + bytes.peer + bytes.supernode + bytes.upstream;
    format!(
        "{} (store {}, peer {}, supernode {}, upstream {})",
        short_size(total),
        short_size(bytes.store),
        short_size(bytes.peer),
        short_size(bytes.supernode),
        short_size(bytes.upstream),
    )
}

/// A size for the eye: `1.2 GiB`.
pub(crate) fn short_size(bytes: u64) -> String {
    let mut unit = "B";
    // Precision beyond three digits is not shown.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" || value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

fn short_time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use proxy::admin::About;
    use proxy::attending::SupernodeView;
    use proxy::metrics::{LastPull, Requests};

    use super::*;

    fn status(counts: Snapshot) -> Status {
        Status {
            about: About {
                version: "0".into(),
                listen: Vec::new(),
                registries: Vec::new(),
            },
            ready: true,
            uptime_seconds: 1,
            counts,
            swarm: None,
        }
    }

    #[test]
    fn one_line_says_it_all() {
        assert_eq!(
            line(&status(Snapshot::default()), 0),
            "no pull has come through the node yet: 0 requests (0 failed), sent 0 B (store 0 B, \
             peer 0 B, supernode 0 B, upstream 0 B), hits none asked, last pull never"
        );
        let counts = Snapshot {
            requests: Requests {
                total: 42,
                failed: 1,
                ..Requests::default()
            },
            sent_bytes: Bytes {
                store: 1 << 30,
                upstream: 300 << 20,
                ..Bytes::default()
            },
            hit_ratio: Some(0.756),
            last_pull: Some(LastPull {
                registry: "docker.io".into(),
                repository: "library/alpine".into(),
                reference: "3".into(),
                at_seconds: 1_000,
            }),
            ..Snapshot::default()
        };
        assert_eq!(
            line(&status(counts), 1_300),
            "pulls go through the node: 42 requests (1 failed), sent 1.3 GiB (store 1.0 GiB, \
             peer 0 B, supernode 0 B, upstream 300 MiB), hits 76 %, last pull \
             docker.io/library/alpine:3 5 min ago"
        );
    }

    #[test]
    fn a_swarm_has_its_own_line_and_names_what_is_wrong() {
        let supernode = |address: &str, live| SupernodeView {
            address: address.into(),
            name: String::new(),
            live,
            why: String::new(),
            nodes: 7,
            ours: None,
            theirs: None,
        };
        let mut swarm = SwarmStatus {
            peer_listen: "10.0.0.7:65003".parse().unwrap(),
            supernodes: vec![supernode("a:8002", true)],
        };
        let counts = Snapshot {
            given_bytes: 3 << 20,
            ..Snapshot::default()
        };
        assert_eq!(
            swarm_lines(&swarm, &counts),
            "in a swarm: 1 of 1 supernodes lead, 7 other nodes known, got 0 B from peers and 0 B \
             from supernodes, gave 3.0 MiB at 10.0.0.7:65003"
        );
        let mut away = supernode("b:8002", false);
        away.why = "it is silent".into();
        swarm.supernodes.push(away);
        swarm.supernodes[0].ours = Some(Reach {
            address: "n7.lan:65003".into(),
            reached: false,
            instead: Some("10.0.0.7:65003".into()),
            error: "no such name".into(),
        });
        let lines = swarm_lines(&swarm, &counts);
        let lines: Vec<&str> = lines.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "supernode a:8002 cannot reach this node at n7.lan:65003 (no such name): \
                 10.0.0.7:65003 is used instead; hint: start this node with --advertise and a name \
                 that others reach",
                "supernode b:8002 does not lead: it is silent",
            ]
        );
    }

    #[test]
    fn sizes_and_times_are_for_the_eye() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(short_size(bytes), text);
        }
        for (seconds, text) in [
            (0, "0 s"),
            (120, "2 min"),
            (7_200, "2 h"),
            (200_000, "2 days"),
        ] {
            assert_eq!(short_time(seconds), text);
        }
    }
}
