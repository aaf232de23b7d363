//! Content that nobody has asked for before, in this run or an earlier one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::Stage;
use crate::origin::content;

impl Stage {
    /// `length` bytes that no cache can hold: other ones each time, also in the next run.
    pub fn fresh(&self, length: usize) -> Bytes {
        static RUN: OnceLock<u64> = OnceLock::new();
        static MADE: AtomicU64 = AtomicU64::new(0);
        let run = RUN.get_or_init(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(0, |now| now.as_micros() as u64)
        });
        content(
            run.wrapping_add(MADE.fetch_add(1, Ordering::Relaxed) << 52),
            length,
        )
    }
}
