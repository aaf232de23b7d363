//! Whose turn it is: a bounded number of responses at a time, those of smaller order first.
//!
//! Invariant: as long as somebody waits, all turns are taken. Dropping the future of a turn, or the
//! turn itself, passes it on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// All turns.
pub(super) struct Turns {
    state: Mutex<State>,
}

struct State {
    free: usize,
    /// By order, then by arrival.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
    arrivals: u64,
}

/// One turn, until it is dropped.
pub(super) struct Turn {
    /// None if it was never given.
    turns: Option<Arc<Turns>>,
}

impl Turns {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: count,
                waiting: BTreeMap::new(),
                arrivals: 0,
            }),
        })
    }

    /// Waits for a turn. The caller has the deadline.
    pub(super) async fn turn(self: &Arc<Self>, order: u64) -> Turn {
        let given = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return self.given();
            }
            let (give, given) = oneshot::channel();
            state.arrivals += 1;
            let place = (order, state.arrivals);
            state.waiting.insert(place, give);
            given
        };
        given.await.unwrap_or(Turn { turns: None })
    }

    fn given(self: &Arc<Self>) -> Turn {
        Turn {
            turns: Some(self.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.take() else {
            return;
        };
        loop {
            let next = {
                let mut state = turns.lock();
                match state.waiting.pop_first() {
                    Some((_, next)) => next,
                    None => {
                        state.free += 1;
                        return;
                    }
                }
            };
            match next.send(turns.given()) {
                Ok(()) => return,
                // Whoever waited has left: the same turn is for the next one.
                Err(mut turn) => turn.turns = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn smaller_orders_go_first_and_those_who_left_are_passed_over() {
        let turns = Turns::new(1);
        let first = turns.turn(9).now_or_never().unwrap();
        let mut late = Box::pin(turns.turn(7));
        let mut same = Box::pin(turns.turn(7));
        let mut left = Box::pin(turns.turn(1));
        let mut soon = Box::pin(turns.turn(3));
        for waiting in [&mut late, &mut same, &mut left, &mut soon] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(left);
        drop(first);
        assert!((&mut late).now_or_never().is_none());
        let second = soon.now_or_never().unwrap();
        drop(second);
        assert!((&mut same).now_or_never().is_none());
        let third = late.now_or_never().unwrap();
        // Given while nobody looks, then dropped: it must not be lost.
        drop(third);
        drop(same);
        assert!(turns.turn(0).now_or_never().is_some());
    }
}
