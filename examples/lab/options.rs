//! The command line, and the quantities in it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::place::NODES_MAX;

/// A swarm in network namespaces with shaped links, measured; as root
#[derive(Debug, Clone, Parser)]
#[command(name = "lab", max_term_width = 100)]
pub(crate) struct Options {
    /// Nodes, each with one client
    #[arg(long, default_value_t = 8)]
    pub(crate) nodes: usize,
    /// What every link carries, each way: 100mbit, 1gbit
    #[arg(long, default_value = "200mbit")]
    pub(crate) rate: Rate,
    /// Size of the one layer: 200MiB
    #[arg(long, default_value = "200MiB")]
    pub(crate) size: Size,
    /// Whom the clients ask
    #[arg(long, value_enum, default_value_t = Mode::Swarm)]
    pub(crate) mode: Mode,
    /// What happens; several, with a comma between, run one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_value = "crowd")]
    pub(crate) scenario: Vec<Scenario>,
    /// Runs of each scenario, each on empty folders; the median by the last node is shown
    #[arg(long, default_value_t = 1)]
    pub(crate) runs: usize,
    /// Layers of the scenario `image`, in MiB
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "600,300,200,100,50,30,15,5"
    )]
    pub(crate) image_layers: Vec<u64>,
    /// Layers that a client pulls at a time
    #[arg(long, default_value_t = 3)]
    pub(crate) layers_at_once: usize,
    /// When a fault happens, as a share of S/B
    #[arg(long, default_value_t = 0.5)]
    pub(crate) at: f64,
    /// Where chance begins: content, victims, moments [default: new each time, and printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// First see whether the links carry 95 % of their rate; fails if they do not
    #[arg(long)]
    pub(crate) check: bool,
    /// Average time of 1, 2, 4... nodes in the swarm beside direct downloads, and nothing else
    #[arg(long)]
    pub(crate) headline: bool,
    /// The longest direct download that --headline measures; longer ones are computed
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) direct_max: u64,
    /// The program [default: the release build next to this one]
    #[arg(long)]
    pub(crate) darner: Option<PathBuf>,
    /// Where data folders are made [default: the temporary folder]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Write every run as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw how much each node had when; of several scenarios each gets a file, named after it
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Keep the logs of all processes here
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,
    /// What the darners log
    #[arg(long, default_value = "info")]
    pub(crate) log: String,
    /// One more flag of every node, such as --node-flag=--upload-limit=10MiB; may be repeated
    #[arg(long)]
    pub(crate) node_flag: Vec<String>,
    /// One more flag of the supernode; may be repeated
    #[arg(long)]
    pub(crate) supernode_flag: Vec<String>,
}

impl Options {
    /// Finds what cannot work before anything is made.
    pub(crate) fn validate(&self) -> Result<()> {
        ensure!(
            (1..=NODES_MAX).contains(&self.nodes),
            "--nodes: 1 to {NODES_MAX}"
        );
        ensure!(self.runs > 0, "--runs: at least 1");
        ensure!(self.layers_at_once > 0, "--layers-at-once: at least 1");
        ensure!((0.0..1.0).contains(&self.at), "--at: from 0 to below 1");
        ensure!(
            self.size.0 > 0 && !self.image_layers.contains(&0),
            "no layer may be empty"
        );
        let alone = self.nodes < 2 && self.scenario.iter().any(|it| it.needs_two());
        ensure!(!alone, "that scenario needs two nodes at least");
        let other = self.mode != Mode::Swarm && self.scenario.iter().any(|it| it.is_fault());
        ensure!(!other, "faults of a swarm need --mode swarm");
        Ok(())
    }

    /// The program under test.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let path = match &self.darner {
            Some(path) => path.clone(),
            None => {
                let own = std::env::current_exe()?;
                let examples = own.parent().context("this program lies in a folder")?;
                examples
                    .parent()
                    .context("examples lie in one")?
                    .join("darner")
            }
        };
        path.canonicalize().with_context(|| {
            format!(
                "{} is not there; hint: cargo build --release, or --darner FILE",
                path.display()
            )
        })
    }
}

/// Whom the clients ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Each its own node; the nodes share
    Swarm,
    /// The supernode's front door, without nodes
    Relay,
    /// The origin, without Darner
    Direct,
}

/// What happens while the clients pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// All pull one layer at once
    Crowd,
    /// All pull an image of several layers at once
    Image,
    /// One node begins when the others have half
    Late,
    /// One peer sends wrong bytes
    Liar,
    /// One node is stopped (SIGSTOP)
    FrozenPeer,
    /// One node is killed, at a moment that chance takes
    KilledPeer,
    /// The supernode is killed
    KilledSupernode,
    /// The supernode is stopped (SIGSTOP)
    FrozenSupernode,
    /// The supernode is killed; afterwards everybody pulls another image
    AllGone,
}

impl Scenario {
    /// As on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Whether something breaks: it is compared with an undisturbed run.
    pub(crate) fn is_fault(self) -> bool {
        !matches!(self, Self::Crowd | Self::Image | Self::Late)
    }

    fn needs_two(self) -> bool {
        matches!(
            self,
            Self::Late | Self::Liar | Self::FrozenPeer | Self::KilledPeer
        )
    }
}

/// Bits per second of a link, headers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Rate(pub(crate) u64);

impl Rate {
    /// Body bytes per second: 1448 of the 1514 bytes of a full frame.
    pub(crate) fn body_bytes(self) -> f64 {
        self.0 as f64 / 8.0 * 1448.0 / 1514.0
    }

    /// How long the link takes for this many bytes.
    pub(crate) fn time_of(self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.body_bytes())
    }

    /// The best time in which `nodes` can all have `bytes` when one sender has them at first:
    /// `S/B (1 + floor(log2 N) / 256)` for 256 pieces.
    pub(crate) fn ideal(self, bytes: u64, nodes: usize) -> Duration {
        let steps = f64::from(nodes.max(1).ilog2());
        self.time_of(bytes).mul_f64(1.0 + steps / 256.0)
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let units = [
            ("gbit", 1_000_000_000),
            ("mbit", 1_000_000),
            ("kbit", 1_000),
        ];
        quantity(text, &units).map(Self)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} Mbit/s", self.0 as f64 / 1e6)
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        quantity(text, &units).map(Self)
    }
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Result<u64> {
    for (unit, factor) in units {
        if let Some(number) = text.strip_suffix(unit) {
            let number: u64 = number.trim().parse()?;
            return number.checked_mul(*factor).context("too large");
        }
    }
    let names: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
    bail!("a whole number and one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        assert_eq!("200mbit".parse::<Rate>().unwrap(), Rate(200_000_000));
        assert_eq!("3MiB".parse::<Size>().unwrap(), Size(3 << 20));
        for wrong in ["200", "mbit", "-1mbit", "20000000000000000000gbit", "1 MB"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_best_time_grows_by_a_piece_for_each_doubling() {
        let rate = Rate(8 * 1514);
        assert_eq!(rate.time_of(1448), Duration::from_secs(1));
        for (nodes, pieces) in [(1, 256), (2, 257), (3, 257), (8, 259), (32, 261)] {
            let ideal = rate.ideal(1448, nodes).as_secs_f64();
            assert!(
                (ideal - f64::from(pieces) / 256.0).abs() < 1e-6,
                "{nodes}: {ideal}"
            );
        }
    }
}
