//! One run: start the darners, let the clients pull, watch, break what the scenario breaks, count.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::process::Signal;

use crate::account::Account;
use crate::client::{self, Progress, Pull, Pulled};
use crate::cluster::{self, Cluster, Setup};
use crate::content::{Chance, Image};
use crate::counters::{Cores, Counters};
use crate::memory::{self, Ballast};
use crate::options::{Mode, Options, Rate, Scenario};
use crate::origin::Origin;
use crate::outcome::{Client, Fault, From, Lies, Outcome, Sample, Second};
use crate::place::{PEER_PORT, Place};
use crate::say;

/// Clients' threads are there before they begin.
const LEAD: Duration = Duration::from_millis(300);
/// Between looks at the clients.
const ROUND: Duration = Duration::from_millis(50);
/// Nodes go on for a moment after their clients: what they do then counts too.
const AFTER: Duration = Duration::from_millis(500);

/// What one run is about.
pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) origin: &'a Origin,
    pub(crate) counters: &'a Counters,
    pub(crate) setup: Setup<'a>,
    pub(crate) scenario: Scenario,
    pub(crate) image: Arc<Image>,
    /// What is pulled afterwards by [`Scenario::AllGone`].
    pub(crate) second: Arc<Image>,
    /// Where this run's chance begins.
    pub(crate) chance: u64,
    /// What gives the same session again.
    pub(crate) seed: u64,
}

/// A fault that is to come.
struct Plan {
    at: Duration,
    place: Place,
    signal: Option<Signal>,
}

impl Plan {
    fn node(&self) -> Option<usize> {
        match self.place {
            Place::Node(index) => Some(index),
            _ => None,
        }
    }

    /// The node whose client cannot be expected to get everything.
    fn struck(&self) -> Option<usize> {
        self.signal.and_then(|_| self.node())
    }

    fn spares(&self, place: Place) -> bool {
        self.signal.is_none() || self.place != place
    }

    fn told(&self, cluster: &Cluster) -> Fault {
        let lies = cluster.liar.as_ref().map(|liar| {
            let lies = liar.lies();
            let span = lies.first().zip(lies.last()).map(|(a, b)| *b - *a);
            let address = self.place.port(PEER_PORT).to_string();
            Lies {
                count: lies.len(),
                span_seconds: span.unwrap_or_default().as_secs_f64(),
                log_lines: cluster.log_lines(&["WARN", &address]),
            }
        });
        Fault {
            at_seconds: self.at.as_secs_f64(),
            victim: self.place.name(),
            lies,
        }
    }
}

struct Worker {
    progress: Arc<Progress>,
    began: Duration,
    thread: Option<JoinHandle<Result<Pulled>>>,
}

/// What is looked after while clients pull.
struct Watch<'a> {
    cluster: &'a mut Cluster,
    ballast: &'a Ballast,
    /// Until it has happened.
    plan: Option<&'a Plan>,
}

impl Watch<'_> {
    /// Has memory free for what the nodes will write next, and for the supernode's copy.
    fn free(&self, workers: &[Worker]) {
        let received: u64 = workers.iter().map(|it| it.progress.received()).sum();
        let nodes = workers.len() as u64;
        self.ballast.free(received / nodes * (nodes + 1));
    }
}

impl Worker {
    fn is_done(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn join(self) -> Result<Pulled> {
        let thread = self.thread.ok_or_else(|| anyhow!("a client never began"))?;
        thread.join().map_err(|_| anyhow!("a client panicked"))?
    }
}

impl Run<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// When the lab does not work; what clients saw is no error here.
    pub(crate) fn go(mut self) -> Result<Outcome> {
        let plan = self.plan();
        if self.scenario == Scenario::Liar {
            self.setup.liar = plan.as_ref().and_then(Plan::node);
        }
        let mut cluster = self.setup.start()?;
        // Every node's copy and the supernode's.
        let copies = self.setup.nodes as u64 + 1;
        let ballast = Ballast::take(self.image.size() * copies)?;
        self.counters.wait_until_idle()?;
        if memory::is_memory(&self.setup.folder)? {
            ballast.free_all();
        }
        let before = self.account(&mut cluster)?;
        let start = Instant::now() + LEAD;
        let mut workers = self.workers(start);
        let cores = Cores::read()?;
        let mut watch = Watch {
            cluster: &mut cluster,
            ballast: &ballast,
            plan: plan.as_ref(),
        };
        let samples = self.watch(start, &mut workers, &mut watch);
        let busy = Cores::read()?.busy_since(cores);
        std::thread::sleep(AFTER);
        let after = self.account(&mut cluster)?;
        let delivered = workers.iter().map(|it| it.progress.received()).sum();
        let mut clients = Vec::new();
        for (index, worker) in workers.into_iter().enumerate() {
            let place = Place::Node(index);
            let mut client = self.client(place, worker)?;
            client.sent_bytes = after.links.sent_since(&before.links, place);
            client.healthy = plan.as_ref().is_none_or(|plan| plan.spares(place));
            clients.push(client);
        }
        let second = self.second_pull()?;
        let fault = plan.map(|plan| plan.told(&cluster));
        let ended = cluster.ended().into_iter().map(Place::name);
        let told = fault.as_ref().map(|fault| fault.victim.clone());
        let ended = ended.filter(|name| Some(name) != told.as_ref()).collect();
        if let Some(folder) = &self.options.logs {
            let name = self.setup.folder.file_name().unwrap_or_default();
            cluster.copy_logs(&folder.join(name))?;
        }
        let (bytes, nodes) = (self.image.size(), self.setup.nodes);
        Ok(Outcome {
            scenario: self.scenario,
            mode: self.setup.mode,
            nodes,
            rate_bits: self.rate().0,
            bytes,
            seed: self.seed,
            line_seconds: self.rate().time_of(bytes).as_secs_f64(),
            ideal_seconds: self.rate().ideal(bytes, nodes).as_secs_f64(),
            clients,
            traffic: after.traffic_since(&before),
            effort: after.effort_since(&before, delivered, busy),
            fault,
            second,
            ended,
            samples,
        })
    }

    fn account(&self, cluster: &mut Cluster) -> Result<Account> {
        Account::take(self.counters, self.origin, cluster, self.setup.nodes)
    }

    fn plan(&self) -> Option<Plan> {
        let mut chance = Chance::new(self.chance);
        let line = self.rate().time_of(self.image.size());
        let node = Place::Node(chance.below(self.setup.nodes));
        let any_time = line.mul_f64(chance.between(0.1, 0.9));
        let at = line.mul_f64(self.options.at);
        let (at, place, signal) = match self.scenario {
            Scenario::Crowd | Scenario::Image | Scenario::Late => return None,
            Scenario::Liar => (Duration::ZERO, node, None),
            Scenario::FrozenPeer => (at, node, Some(Signal::STOP)),
            Scenario::KilledPeer => (any_time, node, Some(Signal::KILL)),
            Scenario::FrozenSupernode => (at, Place::Supernode, Some(Signal::STOP)),
            Scenario::KilledSupernode | Scenario::AllGone => {
                (at, Place::Supernode, Some(Signal::KILL))
            }
        };
        Some(Plan { at, place, signal })
    }

    fn rate(&self) -> Rate {
        self.options.rate
    }

    fn pull(&self, image: &Arc<Image>, start: Instant) -> Pull {
        Pull {
            image: Arc::clone(image),
            door: self.setup.door(),
            layers_at_once: self.options.layers_at_once,
            start,
        }
    }

    fn workers(&self, start: Instant) -> Vec<Worker> {
        let nodes = self.setup.nodes;
        let late = |index| self.scenario == Scenario::Late && index + 1 == nodes;
        (0..nodes)
            .map(|index| {
                let progress = Arc::<Progress>::default();
                let begin = || {
                    let pull = self.pull(&self.image, start);
                    client::start(Place::Node(index), pull, Arc::clone(&progress))
                };
                Worker {
                    began: Duration::ZERO,
                    thread: (!late(index)).then(begin),
                    progress,
                }
            })
            .collect()
    }

    /// Until everybody is done who can be.
    fn watch(&self, start: Instant, workers: &mut [Worker], watch: &mut Watch<'_>) -> Vec<Sample> {
        let victim = watch.plan.and_then(Plan::struck);
        let mut samples = Vec::new();
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        for round in 1.. {
            let next = start + ROUND * round;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            samples.push(Sample {
                seconds: start.elapsed().as_secs_f64(),
                received: workers.iter().map(|it| it.progress.received()).collect(),
            });
            watch.free(workers);
            if let Some(due) = watch.plan.take_if(|plan| start.elapsed() >= plan.at)
                && let Some(signal) = due.signal
            {
                say(format!(
                    "{} gets signal {}",
                    due.place.name(),
                    signal.as_raw()
                ));
                watch.cluster.signal(due.place, signal);
            }
            self.begin_late(start, workers);
            if round % 20 == 0 {
                watch.cluster.look();
            }
            let mut others = workers.iter().enumerate();
            if others.all(|(index, worker)| Some(index) == victim || worker.is_done()) {
                break;
            }
        }
        if let Some(victim) = victim {
            workers[victim].progress.give_up();
        }
        samples
    }

    /// Lets the late one begin when the others have half.
    fn begin_late(&self, start: Instant, workers: &mut [Worker]) {
        let half = self.image.size() * (workers.len() as u64 - 1) / 2;
        let received: u64 = workers.iter().map(|it| it.progress.received()).sum();
        for (index, worker) in workers.iter_mut().enumerate() {
            if worker.thread.is_none() && received >= half {
                worker.began = start.elapsed();
                let pull = self.pull(&self.image, Instant::now());
                let progress = Arc::clone(&worker.progress);
                worker.thread = Some(client::start(Place::Node(index), pull, progress));
            }
        }
    }

    /// Whether new pulls work when all supernodes are gone.
    fn second_pull(&self) -> Result<Option<Second>> {
        if self.scenario != Scenario::AllGone {
            return Ok(None);
        }
        let mut second = Second {
            bytes: self.second.size(),
            last_seconds: Some(0.0),
            errors: Vec::new(),
        };
        let start = Instant::now() + LEAD;
        let clients: Vec<_> = (0..self.setup.nodes)
            .map(|node| {
                let pull = self.pull(&self.second, start);
                client::start(Place::Node(node), pull, Arc::default())
            })
            .collect();
        for client in clients {
            let pulled = client.join().map_err(|_| anyhow!("a client panicked"))??;
            let end = pulled.end.map(|it| it.as_secs_f64());
            second.last_seconds = second.last_seconds.zip(end).map(|(a, b)| a.max(b));
            second.errors.extend(pulled.errors);
        }
        Ok(Some(second))
    }

    fn client(&self, place: Place, worker: Worker) -> Result<Client> {
        let began = worker.began;
        let pulled = worker.join()?;
        let swarm = self.setup.mode == Mode::Swarm;
        let status = if swarm { cluster::status(place) } else { None };
        let from = status.map(|status| {
            let of = |source: &str| status["fetched_bytes"][source].as_u64().unwrap_or(0);
            From {
                upstream: of("upstream"),
                supernode: of("supernode"),
                peer: of("peer"),
            }
        });
        Ok(Client {
            node: place.name(),
            healthy: true,
            began_seconds: began.as_secs_f64(),
            first_byte_seconds: pulled.first_byte.map(|it| it.as_secs_f64()),
            end_seconds: pulled.end.map(|it| it.as_secs_f64()),
            longest_gap_seconds: pulled.longest_gap.as_secs_f64(),
            errors: pulled.errors,
            wrong_bytes: pulled.wrong_bytes,
            sent_bytes: 0,
            from,
        })
    }
}
