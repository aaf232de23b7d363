//! The Open Container Initiative's own conformance suite through Darner, beside the same registry asked directly.
//!
//! It pushes, pulls, lists and deletes; through Darner it runs eight times at once, each on repositories of its own. Whatever
//! passes directly must pass through Darner; what a registry itself does not do, Darner does not do for it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::support::darner::Darner;
use crate::support::origin::{Access, Origin, Writable};
use crate::support::process::{Daemon, run_to_end};
use crate::support::{Lab, fetched, free_port, http, in_lab, wait_for};

/// One run takes some ten seconds alone.
const LIMIT: Duration = Duration::from_secs(600);
/// Which text of the specification is asked for: the released one, and what stands on its main branch.
const VERSIONS: [&str; 2] = ["1.1", "dev"];
const AT_ONCE: usize = 8;

/// What a run found: how often each case passed, and the suite's own counts.
#[derive(Debug, Default)]
struct Found {
    passed: BTreeMap<String, usize>,
    tests: usize,
    failures: usize,
    skipped: usize,
    disabled: usize,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.failures + self.skipped + self.disabled;
        write!(
            f,
            "{} of {} pass, {} fail, {} skipped",
            self.tests.saturating_sub(left),
            self.tests,
            self.failures,
            self.skipped
        )
    }
}

impl Found {
    /// Reads the suite's report.
    fn read(file: &Path) -> Result<Self> {
        let mut reader = Reader::from_file(file).with_context(|| file.display().to_string())?;
        let (mut found, mut buffer) = (Self::default(), Vec::new());
        loop {
            match reader.read_event_into(&mut buffer)? {
                Event::Start(tag) | Event::Empty(tag) => found.learn(&tag)?,
                Event::Eof => break,
                _ => {}
            }
            buffer.clear();
        }
        ensure!(!found.passed.is_empty(), "{} has no cases", file.display());
        Ok(found)
    }

    fn learn(&mut self, tag: &BytesStart<'_>) -> Result<()> {
        let value = |name: &str| -> Result<String> {
            let value = tag.try_get_attribute(name)?.context(name.to_owned())?;
            Ok(value.unescape_value()?.into_owned())
        };
        match tag.name().as_ref() {
            b"testsuites" => {
                self.tests = value("tests")?.parse()?;
                self.failures = value("failures")?.parse()?;
                self.skipped = value("skipped")?.parse()?;
                // Left out where it is none.
                let disabled = value("disabled").unwrap_or_else(|_| "0".to_owned());
                self.disabled = disabled.parse()?;
            }
            b"testcase" if value("status")? == "passed" => {
                *self.passed.entry(value("name")?).or_default() += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Cases that passed more often in `other`.
    fn lost(&self, other: &Self) -> Vec<String> {
        let lost = other
            .passed
            .iter()
            .filter(|(name, times)| self.passed.get(*name).copied().unwrap_or_default() < **times);
        lost.map(|(name, _)| name.clone()).collect()
    }
}

/// Runs the suite against what listens at `addr`, on two repositories below `name`.
fn suite(folder: &Path, addr: SocketAddr, name: &str, version: &str) -> Result<Found> {
    let out = folder.join(name.replace('/', "-"));
    std::fs::create_dir_all(&out)?;
    let mut command = Command::new(fetched().join("go/bin/conformance"));
    command
        .current_dir(&out)
        .env("OCI_REGISTRY", addr.to_string())
        .env("OCI_TLS", "disabled")
        .env("OCI_REPO1", format!("{name}/one"))
        .env("OCI_REPO2", format!("{name}/two"))
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", &out);
    // It ends with 1 when anything failed; the report tells what.
    run_to_end(&command, LIMIT)?;
    Found::read(&out.join("junit.xml"))
}

/// Runs it directly, then eight times at once through Darner, and compares.
#[allow(clippy::print_stderr, reason = "the counts are what one runs this for")]
fn passes_as_directly(lab: &Lab, upstream: SocketAddr) -> Result<()> {
    let folder = lab.folder("official")?;
    let darner = Darner::start(lab, &[("docker.io", &format!("http://{upstream}"))])?;
    let mut direct = Vec::new();
    for version in VERSIONS {
        let found = suite(&folder, upstream, &format!("direct/v{version}"), version)?;
        eprintln!("directly, OCI_VERSION={version}: {found}");
        direct.push(found);
    }
    let (folder, darner) = (&folder, &darner);
    let runs = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..AT_ONCE)
            .map(|run| {
                let version = run % VERSIONS.len();
                let name = format!("through/run{run}");
                let addr = darner.addr;
                let work = move || suite(folder, addr, &name, VERSIONS[version]);
                (version, scope.spawn(work))
            })
            .collect();
        let ended = runs.into_iter();
        let ended = ended.map(|(version, run)| (version, run.join().expect("no run panics")));
        ended.collect::<Vec<_>>()
    });
    for (version, found) in runs {
        let found = found?;
        eprintln!("through Darner, OCI_VERSION={}: {found}", VERSIONS[version]);
        let lost = found.lost(&direct[version]);
        ensure!(
            lost.is_empty(),
            "OCI_VERSION={}: {} cases pass directly and not through Darner:\n{}",
            VERSIONS[version],
            lost.len(),
            lost.join("\n")
        );
    }
    Ok(())
}

#[test]
fn docker_registry() {
    in_lab(|lab| {
        let storage = lab.folder("storage")?;
        let origin = Origin::serve(lab, &storage, &Access::Open, Writable::Yes)?;
        passes_as_directly(lab, origin.addr)
    });
}

#[test]
fn distribution() {
    in_lab(|lab| {
        let folder = lab.folder("distribution")?;
        let (addr, config) = (free_port()?, folder.join("config.yml"));
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    \
             enabled: true\nhttp:\n  addr: {addr}\n  secret: test\n",
            folder.join("storage").display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(fetched().join("go/bin/registry"));
        command
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none");
        let _daemon = Daemon::start("distribution", &command, &folder)?;
        wait_for("distribution to answer", Duration::from_secs(20), || {
            let answer = http::get(addr, "/", &[]).ok()?;
            (answer.status == 200).then_some(())
        })?;
        passes_as_directly(lab, addr)
    });
}
