//! A gate holds bytes back until the test lets them pass.

use tokio::sync::watch;

/// Lets a head, or so many body bytes of each answer, pass. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<u64>);

impl Gate {
    /// A gate that lets nothing pass yet.
    pub fn closed() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Lets the body's first `bytes` pass, and the head. Never takes back.
    pub fn allow(&self, bytes: u64) {
        self.0.send_modify(|limit| *limit = (*limit).max(bytes));
    }

    /// Lets everything pass.
    pub fn open(&self) {
        self.allow(u64::MAX);
    }

    /// Waits until more than `passed` bytes may pass, and says how many.
    pub(super) async fn beyond(&self, passed: u64) -> u64 {
        let mut limit = self.0.subscribe();
        let limit = limit.wait_for(|limit| *limit > passed).await;
        limit.map_or(u64::MAX, |limit| *limit)
    }
}
