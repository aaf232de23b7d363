//! After a 429: nothing is sent until the time is over that upstream asked for.
//!
//! Kept apart per identity (an account has its own quota) and for manifest GETs, which Docker Hub
//! counts while it goes on to answer HEAD and blobs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::credential::CredentialKey;

/// Without a `Retry-After`: the first pause, doubled each time up to the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);
/// Longest `Retry-After` that is believed; clocks and servers err.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(15 * 60);
/// Identities remembered; more than one node's clients have.
const ENTRIES_MAX: usize = 1024;

/// What a gate closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// GET of a manifest only.
    ManifestGet,
    /// Everything.
    Any,
}

struct Closed {
    until: Instant,
    pause: Duration,
}

#[derive(Default)]
pub(super) struct Gate {
    closed: Mutex<HashMap<(CredentialKey, Kind), Closed>>,
}

impl Gate {
    /// How long a request of this kind must still wait.
    pub(super) fn wait(&self, who: CredentialKey, kind: Kind, now: Instant) -> Option<Duration> {
        let closed = self.lock();
        let left = |kind| {
            let until = closed.get(&(who, kind))?.until;
            until.checked_duration_since(now).filter(|d| !d.is_zero())
        };
        left(kind).max(left(Kind::Any))
    }

    /// Notes a 429; how long the gate is closed for.
    pub(super) fn close(
        &self,
        who: CredentialKey,
        kind: Kind,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        let mut closed = self.lock();
        if closed.len() >= ENTRIES_MAX {
            closed.retain(|_, entry| entry.until > now);
        }
        if closed.len() >= ENTRIES_MAX {
            // Invented credentials must not open the gate of those who have none.
            closed.retain(|(who, _), _| *who == CredentialKey::ANONYMOUS);
        }
        let before = closed.get(&(who, kind)).map(|entry| entry.pause);
        let pause = before.map_or(PAUSE_FIRST, |pause| (pause * 2).min(PAUSE_LONGEST));
        let wait = retry_after.map_or(pause, |wait| wait.min(RETRY_AFTER_MAX));
        let until = now + wait;
        closed.insert((who, kind), Closed { until, pause });
        wait
    }

    /// Notes an answer that was no 429, so that the next pause is short again.
    pub(super) fn open(&self, who: CredentialKey, kind: Kind) {
        self.lock().remove(&(who, kind));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(CredentialKey, Kind), Closed>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that a `Retry-After` asks for: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: CredentialKey = CredentialKey::ANONYMOUS;

    #[test]
    fn pauses_double_until_an_answer_comes() {
        let gate = Gate::default();
        let now = Instant::now();
        let pauses: Vec<_> = (0..8)
            .map(|_| gate.close(WHO, Kind::Any, None, now).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        gate.open(WHO, Kind::Any);
        assert_eq!(gate.wait(WHO, Kind::Any, now), None);
        assert_eq!(gate.close(WHO, Kind::Any, None, now).as_secs(), 1);
    }

    #[test]
    fn counted_manifests_do_not_stop_blobs() {
        let gate = Gate::default();
        let now = Instant::now();
        let hour = Some(Duration::from_secs(3600));
        gate.close(WHO, Kind::ManifestGet, hour, now);
        assert_eq!(
            gate.wait(WHO, Kind::ManifestGet, now),
            Some(RETRY_AFTER_MAX)
        );
        assert_eq!(gate.wait(WHO, Kind::Any, now), None);
        assert_eq!(
            gate.wait(CredentialKey::of("x"), Kind::ManifestGet, now),
            None
        );
        assert_eq!(
            gate.wait(WHO, Kind::ManifestGet, now + RETRY_AFTER_MAX),
            None
        );
        gate.close(WHO, Kind::Any, hour, now);
        assert!(
            gate.wait(WHO, Kind::ManifestGet, now + Duration::from_secs(1))
                .is_some()
        );
    }

    #[test]
    fn seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("soon", now), None);
    }
}
