//! Which source is asked next, and when: the flight's list of sources and what each has done.
//!
//! Invariant: a source is asked at most [`FAILURES_MAX`] times in a row without progress, and never
//! before its wait is over.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Now, SourceId};
use crate::source::{Fault, SourceError};

/// A source that fails so often in a row is not asked again by this flight.
const FAILURES_MAX: u32 = 5;
/// Wait before the third try of a source; four times as long before each next one. The second try,
/// after a cut, is at once.
const BACKOFF: Duration = Duration::from_millis(200);
/// A source that asks us to wait longer than this, in the middle of a blob, is given up.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Waited when a source limits us without saying for how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Sources {
    known: BTreeMap<SourceId, Source>,
    last_error: Option<SourceError>,
}

#[derive(Debug)]
struct Source {
    /// It has answered with the blob.
    proven: bool,
    /// It answers ranges as asked.
    ranged: bool,
    /// Never asked again.
    gone: bool,
    failures: u32,
    not_before: Now,
    error: Option<SourceError>,
}

/// What was tried when a source failed.
pub(super) struct Attempt {
    /// Part of the blob was asked for.
    pub(super) ranged: bool,
    /// It brought a good piece before it failed.
    pub(super) progress: bool,
    /// Nobody has seen the blob yet.
    pub(super) first: bool,
}

/// Answer to "whom to ask".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Ask { source: SourceId, ranged: bool },
    Wait,
    Nobody,
}

impl Sources {
    pub(super) fn add(&mut self, id: SourceId) {
        self.known.entry(id).or_insert(Source {
            proven: false,
            ranged: true,
            gone: false,
            failures: 0,
            not_before: Duration::ZERO,
            error: None,
        });
    }

    /// Forgets sources that nobody stands for, but for one that the fill can go on with.
    pub(super) fn prune(&mut self, in_use: &dyn Fn(SourceId) -> bool) -> Vec<SourceId> {
        let idle =
            |(id, source): (&SourceId, &Source)| (!in_use(*id)).then_some((source.gone, *id));
        let mut idle: Vec<_> = self.known.iter().filter_map(idle).collect();
        idle.sort_unstable();
        let all_idle = idle.len() == self.known.len();
        idle.into_iter()
            .skip(usize::from(all_idle))
            .filter_map(|(_, id)| self.known.remove(&id).map(|_| id))
            .collect()
    }

    pub(super) fn prove(&mut self, id: SourceId) {
        if let Some(source) = self.known.get_mut(&id) {
            source.proven = true;
        }
    }

    pub(super) fn is_proven(&self, id: SourceId) -> bool {
        self.known.get(&id).is_some_and(|source| source.proven)
    }

    pub(super) fn fail(&mut self, id: SourceId, error: SourceError, attempt: Attempt, now: Now) {
        self.last_error = Some(error.clone());
        let Some(source) = self.known.get_mut(&id) else {
            return;
        };
        if matches!(error.fault, Fault::Wrong(_)) && attempt.ranged && source.ranged {
            // It may be one that only ever gives the whole blob: worth asking for just that.
            source.ranged = false;
            source.error = Some(error);
            return;
        }
        source.failures = if attempt.progress {
            1
        } else {
            source.failures + 1
        };
        source.not_before = now + backoff(source.failures);
        match &error.fault {
            Fault::NotFound | Fault::Denied | Fault::Unsatisfiable { .. } => source.gone = true,
            Fault::Wrong(_) => source.gone = true,
            Fault::Limited { retry_after } => {
                let wait = retry_after.unwrap_or(RETRY_AFTER_DEFAULT);
                source.gone |= wait > RETRY_AFTER_MAX;
                source.not_before = source.not_before.max(now + wait.min(RETRY_AFTER_MAX));
            }
            Fault::Unavailable(_) => {}
        }
        let once_more = matches!(error.fault, Fault::Unavailable(_)) && source.failures < 2;
        source.gone |= source.failures >= FAILURES_MAX || attempt.first && !once_more;
        source.error = Some(error);
    }

    /// Whom to ask now: `own` first, and each source twice before the next.
    pub(super) fn choose(&self, own: Option<SourceId>, now: Now) -> Choice {
        let mut usable = self.known.iter().filter(|(_, s)| !s.gone).peekable();
        if usable.peek().is_none() {
            return Choice::Nobody;
        }
        usable
            .filter(|(_, source)| source.not_before <= now)
            .min_by_key(|&(&id, s)| (s.failures / 2, Some(id) != own, id))
            .map_or(Choice::Wait, |(&source, state)| Choice::Ask {
                source,
                ranged: state.ranged,
            })
    }

    /// Whether any source that may still be asked answers ranges.
    pub(super) fn any_ranged(&self) -> bool {
        self.known.values().any(|s| !s.gone && s.ranged)
    }

    pub(super) fn error_of(&self, id: SourceId) -> Option<SourceError> {
        let own = self.known.get(&id).and_then(|s| s.error.clone());
        own.or_else(|| self.last_error.clone())
    }

    pub(super) fn last_error(&self) -> Option<SourceError> {
        self.last_error.clone()
    }

    /// The earliest end of a wait that is not over at `now`.
    pub(super) fn next_retry(&self, now: Now) -> Option<Now> {
        let waiting = |s: &&Source| !s.gone && s.not_before > now;
        self.known
            .values()
            .filter(waiting)
            .map(|s| s.not_before)
            .min()
    }
}

fn backoff(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => BACKOFF * 4u32.saturating_pow(n - 2),
    }
}
