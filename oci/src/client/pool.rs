//! Idle connections, kept for the next request to the same place under the same endpoint.
//!
//! Bounded per place and in all; the one used last is taken first, and one that was idle for long is
//! dropped when the pool is next touched.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::endpoint::UrlOrigin;

/// Registries and CDNs close idle connections after 60 s or more; well below that, reuse succeeds.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Idle connections kept per place: a client fetches a few layers at once.
const PER_PLACE_MAX: usize = 8;
/// Idle connections kept in all.
const TOTAL_MAX: usize = 256;

/// Where a connection leads, and under whose policy it was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) endpoint: u64,
    pub(super) origin: UrlOrigin,
}

#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Place, Vec<(Instant, Connection)>>>,
}

impl Pool {
    /// A live idle connection, if there is one.
    pub(super) fn take(&self, place: &Place) -> Option<Connection> {
        loop {
            // The lock is not held while the connection is looked at.
            let mut connection = self.pop(place, Instant::now())?;
            if connection.is_idle() {
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    /// Keeps a connection if it can be used again.
    pub(super) fn put(&self, place: Place, mut connection: Connection) {
        if !connection.is_idle() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.lock();
        sweep(&mut idle, now);
        if idle.values().map(Vec::len).sum::<usize>() >= TOTAL_MAX {
            return;
        }
        let there = idle.entry(place).or_default();
        if there.len() < PER_PLACE_MAX {
            there.push((now, connection));
        }
    }

    fn pop(&self, place: &Place, now: Instant) -> Option<Connection> {
        let mut idle = self.lock();
        sweep(&mut idle, now);
        let (_, connection) = idle.get_mut(place)?.pop()?;
        Some(connection)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Vec<(Instant, Connection)>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sweep(idle: &mut HashMap<Place, Vec<(Instant, Connection)>>, now: Instant) {
    idle.retain(|_, there| {
        there.retain(|(since, _)| now.duration_since(*since) < IDLE_MAX);
        !there.is_empty()
    });
}
