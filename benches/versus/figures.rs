//! What is measured, and how.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::Options;
use crate::clock::{cpu_of, settled_cpu_of};
use crate::gate::Gate;
use crate::ground::{self, Ground, Server};
use crate::origin::{Blob, Content};
use crate::report::{Figure, Report, Sample};
use crate::sink;
use crate::systems::{System, file_server};

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;

/// How long one wrk run takes: long enough for tens of thousands of requests.
const WRK_SECONDS: u64 = 2;

/// The range that is asked of a cold blob: 1 MiB in its middle.
const MIDDLE: &str = "bytes=536870912-537919487";

pub(crate) fn run(options: &Options, ground: &Ground, content: &Content) -> Result<Report> {
    let mut report = Report::default();
    let wanted = |name: &str| name.contains(&options.only);
    let origin = file_server(ground, content, "origin")?;
    let bench = Bench {
        ground,
        content,
        origin: &origin,
        rounds: options.rounds,
    };
    if wanted("cold 256 MiB") {
        bench.cold(&mut report, Figure::Cold256, &content.quarter_gib)?;
    }
    if wanted("cold 1 GiB") {
        bench.cold(&mut report, Figure::Cold1024, &content.one_gib)?;
    }
    if wanted("warm") {
        bench.warm(&mut report)?;
    }
    if wanted("manifests") {
        bench.manifests(&mut report)?;
    }
    if wanted("first byte") {
        bench.first_byte(&mut report)?;
    }
    if wanted("middle") {
        bench.middle(&mut report)?;
    }
    Ok(report)
}

struct Bench<'a> {
    ground: &'a Ground,
    content: &'a Content,
    origin: &'a Server,
    rounds: usize,
}

impl Bench<'_> {
    /// The first round pays for memory that is new to this machine and does not count.
    fn rounds(&self) -> impl Iterator<Item = bool> + use<> {
        (0..=self.rounds).map(|round| round > 0)
    }

    /// A fresh cache that has done something already, so that nothing is measured that happens once.
    fn started(&self, system: System, origin: SocketAddr) -> Result<Server> {
        let server = system.start(self.ground, self.content, origin)?;
        sink::swallow(server.address, "/v2/").with_context(|| system.name())?;
        let small = &self.content.small;
        sink::verify(server.address, &small.path, &small.digest).with_context(|| system.name())?;
        Ok(server)
    }

    fn cold(&self, report: &mut Report, figure: Figure, blob: &Blob) -> Result<()> {
        for counts in self.rounds() {
            for system in System::ALL {
                let server = self.started(system, self.origin.address)?;
                blob.warm()?;
                let sample = measure(&server, 1, blob).with_context(|| system.name())?;
                report.add(figure, system, sample, counts);
            }
        }
        Ok(())
    }

    fn warm(&self, report: &mut Report) -> Result<()> {
        let blob = &self.content.one_gib;
        let mut servers = Vec::new();
        for system in System::ALL {
            let server = match system {
                System::Nginx => file_server(self.ground, self.content, "files-by-nginx")?,
                _ => self.started(system, self.origin.address)?,
            };
            sink::verify(server.address, &blob.path, &blob.digest)
                .with_context(|| system.name())?;
            // docker-registry goes on writing for a moment after the response.
            std::thread::sleep(Duration::from_millis(500));
            servers.push((system, server));
        }
        for counts in self.rounds() {
            for (figure, streams) in [(Figure::Warm1, 1), (Figure::Warm8, 8)] {
                for (system, server) in &servers {
                    sink::swallow(server.address, &blob.path)?;
                    let sample = measure(server, streams, blob).with_context(|| system.name())?;
                    report.add(figure, *system, sample, counts);
                }
            }
        }
        Ok(())
    }

    fn manifests(&self, report: &mut Report) -> Result<()> {
        let manifest = &self.content.manifest;
        let mut servers = Vec::new();
        for system in System::ALL {
            let server = match system {
                System::Nginx => file_server(self.ground, self.content, "files-by-nginx")?,
                _ => self.started(system, self.origin.address)?,
            };
            for _ in 0..2 {
                sink::verify(server.address, &manifest.path, &manifest.digest)
                    .with_context(|| system.name())?;
            }
            ground::pin(server.pid(), "0")?;
            servers.push((system, server));
        }
        for counts in self.rounds() {
            for (system, server) in &servers {
                let sample = wrk(server, &manifest.path).with_context(|| system.name())?;
                report.add(Figure::Manifests, *system, sample, counts);
            }
        }
        Ok(())
    }

    fn first_byte(&self, report: &mut Report) -> Result<()> {
        let blob = &self.content.one_gib;
        for counts in self.rounds() {
            for system in System::ALL {
                let gate = Gate::start(&self.ground.files())?;
                let server = self.started(system, gate.address)?;
                gate.opened();
                blob.warm()?;
                let answer = sink::swallow(server.address, &blob.path);
                let answer = answer.with_context(|| system.name())?;
                let opened = gate.opened().context("the origin was not asked")?;
                let late = answer.first_byte.saturating_duration_since(opened);
                let sample = Sample::of(late.as_secs_f64() * 1e3);
                report.add(Figure::FirstByte, system, sample, counts);
            }
        }
        Ok(())
    }

    fn middle(&self, report: &mut Report) -> Result<()> {
        let blob = &self.content.one_gib;
        for counts in self.rounds() {
            for system in System::ALL {
                let gate = Gate::start(&self.ground.files())?;
                let server = self.started(system, gate.address)?;
                blob.warm()?;
                let before = (Instant::now(), gate.sent());
                let answer = sink::get(server.address, &blob.path, Some(MIDDLE), |_| {});
                let answer = answer.with_context(|| system.name())?;
                let took = answer.last_byte.duration_since(before.0);
                report.status(Figure::Middle, system, answer.status);
                let fetched = (gate.sent() - before.1) as f64 / MIB;
                report.add(Figure::MiddleFetched, system, Sample::of(fetched), counts);
                report.add(
                    Figure::Middle,
                    system,
                    Sample::of(took.as_secs_f64() * 1e3),
                    counts,
                );
            }
        }
        Ok(())
    }
}

/// Wall and CPU of `streams` clients that each get the blob once.
fn measure(server: &Server, streams: usize, blob: &Blob) -> Result<Sample> {
    let cpu_before = cpu_of(server.pid());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..streams)
            .map(|_| scope.spawn(|| sink::swallow(server.address, &blob.path)))
            .collect();
        for client in clients {
            let answer = client
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
            ensure!(
                answer.bytes == blob.bytes,
                "{} of {} bytes",
                answer.bytes,
                blob.bytes
            );
        }
        Ok(())
    })?;
    let wall = start.elapsed().as_secs_f64();
    let cpu = settled_cpu_of(server.pid())
        .saturating_sub(cpu_before)
        .as_secs_f64();
    let bytes = (blob.bytes * streams as u64) as f64;
    Ok(Sample {
        value: bytes / MIB / wall,
        cpu: Some(cpu / (bytes / GIB)),
    })
}

/// Requests per second, and CPU per request in microseconds, with the client on the other core.
fn wrk(server: &Server, path: &str) -> Result<Sample> {
    let url = format!("http://{}{path}", server.address);
    let duration = format!("-d{WRK_SECONDS}s");
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let cpu_before = cpu_of(server.pid());
    let output = Command::new("taskset")
        .args([
            "-c", "1", "wrk", "-t1", "-c64", &duration, "-H", accept, &url,
        ])
        .output()
        .context("cannot run wrk")?;
    let cpu = cpu_of(server.pid())
        .saturating_sub(cpu_before)
        .as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "wrk: {said}");
    ensure!(!said.contains("Non-2xx"), "wrk: {said}");
    // "  123456 requests in 2.00s, 250MB read"
    let requests = said.lines().find(|line| line.contains(" requests in "));
    let requests: f64 = requests
        .and_then(|line| line.split_whitespace().next())
        .context("wrk counted nothing")?
        .parse()?;
    let rate = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    Ok(Sample {
        value: rate.context("wrk gave no rate")?.trim().parse()?,
        cpu: Some(cpu * 1e6 / requests),
    })
}
