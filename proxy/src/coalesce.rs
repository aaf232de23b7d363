//! Many who want the same answer at the same time cost one question.
//!
//! The first asks, the others wait for its answer. The question lives in the first one's future, so
//! nothing runs without an owner: when the first leaves, the next in line asks anew. Not a cache:
//! an answer reaches only those who were waiting for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Questions being asked, by what they ask.
pub struct Coalesce<K, V> {
    asking: Mutex<HashMap<K, watch::Receiver<Option<V>>>>,
}

impl<K, V> Default for Coalesce<K, V> {
    fn default() -> Self {
        Self {
            asking: Mutex::default(),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Coalesce<K, V> {
    /// The answer of `ask`, or of somebody else's that was being asked when this came.
    ///
    /// Dropping the future lets another waiter ask. The number of waiters is bounded by the number
    /// of requests; the time by the deadlines inside `ask`.
    pub async fn run(&self, key: K, ask: impl AsyncFnOnce() -> V) -> V {
        loop {
            let mut others = match self.join(&key) {
                Join::Lead(answer) => {
                    let turn = Turn { asking: self, key };
                    let value = ask().await;
                    // The entry goes first: who comes after this asks anew.
                    drop(turn);
                    answer.send_replace(Some(value.clone()));
                    return value;
                }
                Join::Follow(others) => others,
            };
            let answered = others.wait_for(Option::is_some).await;
            if let Ok(Some(value)) = answered.as_deref().cloned() {
                return value;
            }
        }
    }

    fn join(&self, key: &K) -> Join<V> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = asking.get(key) {
            return Join::Follow(others.clone());
        }
        let (answer, others) = watch::channel(None);
        asking.insert(key.clone(), others);
        Join::Lead(answer)
    }
}

enum Join<V> {
    Lead(watch::Sender<Option<V>>),
    Follow(watch::Receiver<Option<V>>),
}

/// The right to ask; gone when its holder is.
struct Turn<'a, K: Eq + Hash, V> {
    asking: &'a Coalesce<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Turn<'_, K, V> {
    fn drop(&mut self) {
        let mut asking = self
            .asking
            .asking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        asking.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn many_cost_one() {
        let (coalesce, asked) = (Arc::new(Coalesce::default()), Arc::new(AtomicUsize::new(0)));
        let go = Arc::new(Notify::new());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (coalesce, asked, go) = (coalesce.clone(), asked.clone(), go.clone());
            tasks.spawn(async move {
                let ask = async || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    go.notified().await;
                    7
                };
                coalesce.run("key", ask).await
            });
        }
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        assert!(tasks.join_all().await.iter().all(|answer| *answer == 7));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(coalesce.asking.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn when_the_first_leaves_the_next_asks() {
        let coalesce = Arc::new(Coalesce::default());
        let (started, first) = (Arc::new(Notify::new()), coalesce.clone());
        let begun = started.clone();
        let leader = tokio::spawn(async move {
            let ask = async || {
                begun.notify_one();
                std::future::pending::<u8>().await
            };
            first.run("key", ask).await
        });
        started.notified().await;
        let second = coalesce.clone();
        let follower = tokio::spawn(async move { second.run("key", async || 8).await });
        tokio::task::yield_now().await;
        leader.abort();
        assert_eq!(follower.await.unwrap(), 8);
    }
}
