//! How far a pull is: a bar for each layer on a terminal, plain lines elsewhere, all on standard
//! error. Where the bytes came from is what the node says of its flights.
//!
//! Invariant: a source is shown only if the node told it. Deliberately not here: any fetching.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use proxy::flights::{Came, FlightShown};
use serde::Serialize;

use crate::ask;
use crate::pull::plan::{Part, PartKind};
use crate::status::short_size;

/// How often the node is asked for its flights.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR: &str =
    "{prefix:19} {bar:24} {bytes:>10} of {total_bytes:<10} {binary_bytes_per_sec:>12}  {msg}";

/// Bytes of one blob by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sources {
    /// The node held them.
    pub(crate) store: u64,
    /// Another node gave them.
    pub(crate) peer: u64,
    /// The supernode gave them.
    pub(crate) supernode: u64,
    /// The registry gave them.
    pub(crate) upstream: u64,
}

/// What became of a part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    /// Its size, once it is known.
    pub(crate) size: Option<u64>,
    began: Option<Instant>,
    /// How long it took, once it is whole.
    pub(crate) took: Option<Duration>,
    /// The node held it before it was asked: no flight is about it.
    held: bool,
    /// It was in the layout already and was not fetched.
    pub(crate) already: bool,
    /// Where its bytes came from, if the node told.
    pub(crate) sources: Option<Sources>,
}

struct Row {
    part: Part,
    done: AtomicU64,
    bar: ProgressBar,
    state: Mutex<State>,
}

/// The state of all parts of a pull.
pub(crate) struct Board {
    what: String,
    admin: String,
    /// Whether the node tells its flights, as far as is known.
    tells: AtomicBool,
    began: Instant,
    rows: Vec<Row>,
    bars: MultiProgress,
}

impl Board {
    /// For these parts of `what`; the node at `admin` is asked where bytes come from.
    pub(crate) fn new(what: String, admin: &str, parts: &[Part]) -> Self {
        let bars = MultiProgress::new();
        let style = ProgressStyle::with_template(BAR)
            .expect("the template is a constant and parses")
            .progress_chars("=> ");
        let row = |part: &Part| {
            let bar = match part.kind {
                PartKind::Config => ProgressBar::hidden(),
                PartKind::Layer | PartKind::Blob => bars.add(ProgressBar::no_length()),
            };
            bar.set_style(style.clone());
            bar.set_prefix(label(part));
            if let Some(size) = part.size {
                bar.set_length(size);
            }
            Row {
                part: part.clone(),
                done: AtomicU64::new(0),
                bar,
                state: Mutex::new(State {
                    size: part.size,
                    ..State::default()
                }),
            }
        };
        let rows = parts.iter().map(row).collect();
        Self {
            what,
            admin: admin.to_owned(),
            tells: AtomicBool::new(true),
            began: Instant::now(),
            rows,
            bars,
        }
    }

    /// The node has begun to send a part; `held`: from its store.
    pub(crate) fn begin(&self, index: usize, size: Option<u64>, held: bool) {
        let row = &self.rows[index];
        let mut state = row.state();
        state.size = state.size.or(size);
        state.began = Some(Instant::now());
        state.held = held;
        if let Some(size) = state.size {
            row.bar.set_length(size);
            if held {
                state.sources = Some(Sources {
                    store: size,
                    ..Sources::default()
                });
            }
        }
        row.bar.reset_eta();
        row.bar.set_message(state.words());
    }

    /// So many bytes more.
    pub(crate) fn add(&self, index: usize, bytes: u64) {
        let row = &self.rows[index];
        row.done.fetch_add(bytes, Ordering::Relaxed);
        row.bar.inc(bytes);
    }

    /// A part is whole and its digest fits.
    pub(crate) async fn end(&self, index: usize) {
        let row = &self.rows[index];
        let held = {
            let mut state = row.state();
            state.size = Some(row.done.load(Ordering::Relaxed));
            state.took = state.began.map(|began| began.elapsed());
            state.held
        };
        if !held {
            self.look().await;
        }
        let state = row.state();
        row.bar.set_message(state.words());
        row.bar.finish();
        drop(state);
        self.line_of(row);
    }

    /// A part lies in the layout already.
    pub(crate) fn already(&self, index: usize, size: u64) {
        let row = &self.rows[index];
        let mut state = row.state();
        state.size = Some(size);
        state.already = true;
        row.bar.set_length(size);
        row.bar.set_position(size);
        row.bar.finish_with_message("already there");
        drop(state);
        self.line_of(row);
    }

    /// The parts and what became of them.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Part, State)> {
        self.rows.iter().map(|row| (&row.part, *row.state()))
    }

    /// Time since the pull began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Asks the node where bytes come from, and writes lines where there is no terminal. Never
    /// ends; dropping it is safe.
    pub(crate) async fn watch(&self) -> std::convert::Infallible {
        let mut line_at = tokio::time::Instant::now() + LINE_EVERY;
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            self.look().await;
            if tokio::time::Instant::now() >= line_at {
                line_at += LINE_EVERY;
                self.line();
            }
        }
    }

    /// Asks the node once, unless it is known to tell nothing.
    async fn look(&self) {
        if !self.tells.load(Ordering::Relaxed) {
            return;
        }
        let Ok((status, body)) = ask::get(&self.admin, "/flights").await else {
            // It may be busy; it is asked again.
            return;
        };
        let flights: Option<Vec<FlightShown>> = status
            .is_success()
            .then(|| serde_json::from_slice(&body).ok())
            .flatten();
        match flights {
            Some(flights) => self.learn(&flights),
            None => self.tells.store(false, Ordering::Relaxed),
        }
    }

    fn learn(&self, flights: &[FlightShown]) {
        for row in &self.rows {
            let digest = row.part.digest.to_string();
            let Some(flight) = flights.iter().find(|flight| flight.digest == digest) else {
                continue;
            };
            let Came {
                upstream,
                supernode,
                peer,
            } = flight.from;
            let mut state = row.state();
            if state.held || state.began.is_none() {
                continue;
            }
            let total = flight.total.or(state.size).unwrap_or_default();
            let fetched = upstream.saturating_add(supernode).saturating_add(peer);
            state.sources = Some(Sources {
                // Left over from an earlier flight.
                store: if flight.over { total } else { flight.present }.saturating_sub(fetched),
                peer,
                supernode,
                upstream,
            });
            row.bar.set_message(state.words());
        }
    }

    /// Where there is no terminal the bars are hidden.
    fn line(&self) {
        if !self.bars.is_hidden() {
            return;
        }
        let done: u64 = self
            .rows
            .iter()
            .map(|r| r.done.load(Ordering::Relaxed))
            .sum();
        let sizes = self.rows.iter().filter_map(|row| row.state().size);
        let all: u64 = sizes.sum();
        let rate = done / self.began.elapsed().as_secs().max(1);
        eprintln!(
            "{}: {} of {}, {}/s",
            self.what,
            short_size(done),
            short_size(all),
            short_size(rate)
        );
    }

    fn line_of(&self, row: &Row) {
        if !self.bars.is_hidden() {
            return;
        }
        let state = row.state();
        let size = short_size(state.size.unwrap_or_default());
        let how = match state.took {
            Some(took) => format!("{size} in {:.1} s {}", took.as_secs_f64(), state.words()),
            None => format!("{size}, already there"),
        };
        eprintln!("{}: {}", label(&row.part), how.trim_end());
    }
}

impl Row {
    /// A thread that panicked has ended the pull already.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn words(&self) -> String {
        self.sources.map_or_else(String::new, |s| s.words())
    }
}

impl Sources {
    /// Adds another blob's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.store += other.store;
        self.peer += other.peer;
        self.supernode += other.supernode;
        self.upstream += other.upstream;
    }

    /// `from peer 61 %, upstream 39 %`; nothing of no bytes.
    pub(crate) fn words(&self) -> String {
        let named = [
            ("store", self.store),
            ("peer", self.peer),
            ("supernode", self.supernode),
            ("upstream", self.upstream),
        ];
        let all: u64 = named.iter().map(|(_, bytes)| bytes).sum();
        let used: Vec<&(&str, u64)> = named.iter().filter(|(_, bytes)| *bytes > 0).collect();
        match used.as_slice() {
            [] => String::new(),
            [(name, _)] => format!("from {name}"),
            several => {
                let share = |bytes: u64| u128::from(bytes) * 100 / u128::from(all);
                let shares: Vec<String> = several
                    .iter()
                    .map(|(name, bytes)| format!("{name} {} %", share(*bytes)))
                    .collect();
                format!("from {}", shares.join(", "))
            }
        }
    }
}

fn label(part: &Part) -> String {
    format!("{} {}", part.kind.name(), part.digest.short())
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    fn board() -> Board {
        let part = |kind, text: &str| Part {
            kind,
            digest: Digest::sha256(text.as_bytes()),
            size: Some(100),
        };
        let parts = [part(PartKind::Config, "c"), part(PartKind::Layer, "l")];
        Board::new("x".to_owned(), "127.0.0.1:1", &parts)
    }

    fn flights(text: &str) -> Vec<FlightShown> {
        let digest = Digest::sha256(b"l").to_string();
        serde_json::from_str(&text.replace("DIGEST", &digest)).unwrap()
    }

    #[tokio::test]
    async fn a_flight_tells_the_sources_of_its_part() {
        let board = board();
        let told = flights(
            r#"[{"digest": "DIGEST", "registry": "r", "total": 100, "present": 0, "over": true,
                "from": {"upstream": 10, "supernode": 0, "peer": 60}},
                {"digest": "x", "registry": "r"}]"#,
        );
        // Not begun: the flight is another client's.
        board.learn(&told);
        assert!(board.parts().all(|(_, state)| state.sources.is_none()));
        board.begin(1, None, false);
        board.learn(&told);
        board.add(1, 100);
        board.end(1).await;
        let (_, state) = board.parts().nth(1).unwrap();
        let sources = state.sources.unwrap();
        assert_eq!(sources.words(), "from store 30 %, peer 60 %, upstream 10 %");
        assert_eq!(state.size, Some(100));
    }

    #[test]
    fn what_the_node_held_is_from_its_store() {
        let board = board();
        board.begin(0, Some(100), true);
        let (_, state) = board.parts().next().unwrap();
        assert_eq!(state.words(), "from store");
        assert_eq!(Sources::default().words(), "");
    }
}
