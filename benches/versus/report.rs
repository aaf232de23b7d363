//! Medians, ratios and targets, as a table for people and as JSON with every sample.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::systems::System;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Cold256,
    Cold1024,
    Warm1,
    Warm8,
    Manifests,
    FirstByte,
    Middle,
    MiddleFetched,
}

/// One repetition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    /// CPU of the server: seconds per GiB, or microseconds per request.
    pub(crate) cpu: Option<f64>,
}

impl Sample {
    pub(crate) fn of(value: f64) -> Self {
        Self { value, cpu: None }
    }
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Self::Cold256 => "cold 256 MiB, MiB/s",
            Self::Cold1024 => "cold 1 GiB, MiB/s",
            Self::Warm1 => "warm 1 GiB, 1 stream, MiB/s",
            Self::Warm8 => "warm 1 GiB, 8 streams, MiB/s",
            Self::Manifests => "manifests 2 KiB, requests/s",
            Self::FirstByte => "first byte after upstream's, ms",
            Self::Middle => "1 MiB in the middle of a cold GiB, ms",
            Self::MiddleFetched => "... and what was fetched for it, MiB",
        }
    }

    fn cpu_name(self) -> &'static str {
        match self {
            Self::Manifests => "    CPU, us per request",
            _ => "    CPU-s/GiB",
        }
    }

    /// What is asked of Darner.
    fn target(self, value: f64, to_nginx: Option<f64>, cpu: Option<f64>) -> Option<(String, bool)> {
        let below = |bound: f64| {
            let name = format!("cpu <= {bound}");
            Some((name, cpu.is_some_and(|cpu| cpu <= bound)))
        };
        match self {
            Self::Cold256 | Self::Cold1024 => below(1.10),
            Self::Warm1 | Self::Warm8 => {
                let fast = to_nginx.is_some_and(|ratio| ratio >= 0.95);
                let (name, cheap) = below(0.07)?;
                Some((format!("0.95 x nginx, {name}"), fast && cheap))
            }
            Self::Manifests => {
                let fast = to_nginx.is_some_and(|ratio| ratio >= 1.0);
                let (name, cheap) = below(8.0)?;
                Some((format!("1.0 x nginx, {name}"), fast && cheap))
            }
            Self::FirstByte => Some(("<= 20".into(), value <= 20.0)),
            Self::Middle | Self::MiddleFetched => None,
        }
    }
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    samples: BTreeMap<(Figure, System), Vec<Sample>>,
    statuses: BTreeMap<(Figure, System), u16>,
}

impl Report {
    pub(crate) fn add(&mut self, figure: Figure, system: System, sample: Sample, counts: bool) {
        if counts {
            self.samples
                .entry((figure, system))
                .or_default()
                .push(sample);
        }
    }

    pub(crate) fn status(&mut self, figure: Figure, system: System, status: u16) {
        self.statuses.insert((figure, system), status);
    }

    fn value(&self, figure: Figure, system: System) -> Option<f64> {
        median(
            self.samples
                .get(&(figure, system))?
                .iter()
                .map(|sample| sample.value),
        )
    }

    fn cpu(&self, figure: Figure, system: System) -> Option<f64> {
        median(
            self.samples
                .get(&(figure, system))?
                .iter()
                .filter_map(|sample| sample.cpu),
        )
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<Figure> = self.samples.keys().map(|(figure, _)| *figure).collect();
        figures.dedup();
        figures
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:38} {:>10} {:>10} {:>10} {:>8} {:>10}  target of darner",
            "median", "nginx", "registry", "darner", "/nginx", "/registry"
        );
        for figure in self.figures() {
            let values = System::ALL.map(|system| self.value(figure, system));
            let cpus = System::ALL.map(|system| self.cpu(figure, system));
            let target = values[2].and_then(|value| {
                let to_nginx = values[0].map(|nginx| value / nginx);
                figure.target(value, to_nginx, cpus[2])
            });
            let verdict = target.map_or(String::new(), |(text, met)| {
                format!("{text}: {}", if met { "met" } else { "MISSED" })
            });
            line(figure.name(), values, &verdict);
            if cpus.iter().any(Option::is_some) {
                line(figure.cpu_name(), cpus, "");
            }
            let statuses = System::ALL.map(|system| self.statuses.get(&(figure, system)).copied());
            if let [Some(nginx), Some(registry), Some(darner)] = statuses {
                println!(
                    "{:38} {nginx:>10} {registry:>10} {darner:>10}",
                    "    status"
                );
            }
        }
    }

    pub(crate) fn write_json(&self) -> Result<PathBuf> {
        let rows = self.samples.iter().map(|((figure, system), samples)| {
            json!({
                "figure": figure.name(),
                "system": system.name(),
                "median": self.value(*figure, *system),
                "cpu_median": self.cpu(*figure, *system),
                "values": samples.iter().map(|sample| sample.value).collect::<Vec<_>>(),
                "cpus": samples.iter().filter_map(|sample| sample.cpu).collect::<Vec<_>>(),
            })
        });
        let rows: Vec<_> = rows.collect();
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("versus.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&rows)?)?;
        Ok(path)
    }
}

fn line(name: &str, [nginx, registry, darner]: [Option<f64>; 3], verdict: &str) {
    let ratio = |other: Option<f64>| match (darner, other) {
        (Some(darner), Some(other)) if other > 0.0 => format!("{:.2}", darner / other),
        _ => "-".into(),
    };
    let [a, b, c] = [nginx, registry, darner].map(number);
    let (to_nginx, to_registry) = (ratio(nginx), ratio(registry));
    println!("{name:38} {a:>10} {b:>10} {c:>10} {to_nginx:>8} {to_registry:>10}  {verdict}");
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
