//! Everything between making the network and the last line: images, origin, runs, reports.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::cluster::Setup;
use crate::content::{Chance, Image};
use crate::counters::Counters;
use crate::options::{Mode, Options, Scenario};
use crate::origin::Origin;
use crate::outcome::Outcome;
use crate::place::PREFIX;
use crate::run::Run;
use crate::{headline, memory, net, ring, say, supervise, svg, table};

/// What all runs of one call share.
pub(crate) struct Session<'a> {
    pub(crate) options: &'a Options,
    program: PathBuf,
    folder: PathBuf,
    origin: Origin,
    counters: Counters,
    images: Images,
    chance: Chance,
    seed: u64,
    runs: usize,
}

struct Images {
    /// One layer.
    layer: Arc<Image>,
    /// Several; only made for the scenario that pulls it.
    several: Option<Arc<Image>>,
    /// For the pull after the first.
    second: Arc<Image>,
}

/// Does what the command line says; in the worker.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut session = Session::open(options)?;
    if options.check {
        ring::check(options.nodes, options.rate)?;
    }
    let (json, right) = if options.headline {
        headline::run(&mut session)?
    } else {
        session.scenarios()?
    };
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&json)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(if right {
        ExitCode::SUCCESS
    } else {
        say("clients saw errors or wrong bytes");
        ExitCode::FAILURE
    })
}

impl<'a> Session<'a> {
    fn open(options: &'a Options) -> Result<Self> {
        let program = options.program()?;
        let seed = options.seed.unwrap_or_else(Chance::seed);
        say(format!(
            "{} nodes at {}, seed {seed}",
            options.nodes, options.rate
        ));
        net::make(options.nodes, options.rate).context("making the network")?;
        let folder = folder(options)?;
        let mut chance = Chance::new(seed);
        let size = options.size.0;
        let several = options.scenario.contains(&Scenario::Image).then(|| {
            let sizes: Vec<u64> = options.image_layers.iter().map(|mib| mib << 20).collect();
            Arc::new(Image::make("lab/several", &sizes, &mut chance))
        });
        let images = Images {
            layer: Arc::new(Image::make("lab/layer", &[size], &mut chance)),
            second: Arc::new(Image::make("lab/second", &[size.div_ceil(4)], &mut chance)),
            several,
        };
        let origin = Origin::start(&folder)?;
        let all = [
            Some(&images.layer),
            Some(&images.second),
            images.several.as_ref(),
        ];
        for image in all.into_iter().flatten() {
            origin.push(image)?;
        }
        Ok(Self {
            options,
            program,
            folder,
            origin,
            counters: Counters::open()?,
            images,
            chance,
            seed,
            runs: 0,
        })
    }

    /// All scenarios in turn; the runs as JSON, and whether everybody got the right bytes.
    fn scenarios(&mut self) -> Result<(serde_json::Value, bool)> {
        let options = self.options;
        let mut all = Vec::new();
        let mut undisturbed: Option<Outcome> = None;
        let mut scenarios = options.scenario.clone();
        let needs_usual = scenarios.iter().any(|it| it.is_fault());
        if needs_usual && !scenarios.contains(&Scenario::Crowd) {
            scenarios.insert(0, Scenario::Crowd);
        }
        let several = scenarios.len() > 1;
        for scenario in scenarios {
            let mut runs = Vec::new();
            for number in 1..=options.runs {
                let run = self.once(scenario, options.mode, options.nodes)?;
                if options.runs > 1 {
                    let (last, busy) = (run.last_seconds(), run.effort.machine_busy * 100.0);
                    let ratio = last.map(|last| last / run.ideal_seconds);
                    let (last, ratio) = (table::number(last), table::number(ratio));
                    say(format!(
                        "run {number}: last {last} s = {ratio} T*, {busy:.0} % busy"
                    ));
                }
                runs.push(run);
            }
            // A run that somebody did not finish is the worst.
            let key = |run: &Outcome| run.last_seconds().unwrap_or(f64::INFINITY);
            runs.sort_by(|a, b| key(a).total_cmp(&key(b)));
            let median = runs[(runs.len() - 1) / 2].clone();
            table::print(&median, undisturbed.as_ref());
            if scenario == Scenario::Crowd && undisturbed.is_none() {
                undisturbed = Some(median.clone());
            }
            if let Some(file) = &options.svg {
                let file = if several {
                    named(file, scenario)
                } else {
                    file.clone()
                };
                std::fs::write(&file, svg::draw(&median))
                    .with_context(|| format!("writing {}", file.display()))?;
            }
            all.extend(runs);
        }
        let right = all
            .iter()
            .all(|run| run.errors() == 0 && !run.wrong_bytes());
        Ok((serde_json::to_value(all)?, right))
    }

    /// One run on empty folders.
    pub(crate) fn once(&mut self, scenario: Scenario, mode: Mode, nodes: usize) -> Result<Outcome> {
        self.runs += 1;
        let folder = self.folder.join(format!("run-{}", self.runs));
        let image = match (scenario, &self.images.several) {
            (Scenario::Image, Some(several)) => several,
            _ => &self.images.layer,
        };
        let run = Run {
            options: self.options,
            origin: &self.origin,
            counters: &self.counters,
            setup: Setup {
                options: self.options,
                program: &self.program,
                mode,
                nodes,
                folder: folder.clone(),
                liar: None,
            },
            scenario,
            image: Arc::clone(image),
            second: Arc::clone(&self.images.second),
            chance: self.chance.next(),
            seed: self.seed,
        };
        let outcome = run.go();
        std::fs::remove_dir_all(&folder)?;
        outcome
    }
}

/// `lab.svg` as `lab-liar.svg`.
fn named(file: &Path, scenario: Scenario) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-{}.svg", scenario.name()))
}

/// A new folder for data, noted for the supervisor to remove.
fn folder(options: &Options) -> Result<PathBuf> {
    memory::mount()?;
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let parent = parent
        .canonicalize()
        .with_context(|| format!("{} is not there", parent.display()))?;
    let folder = parent.join(format!("{PREFIX}data"));
    supervise::note_folder(&folder)?;
    std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}
