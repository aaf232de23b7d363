//! A blob that only passes through: a bounded window of it in memory, when nothing can be stored.
//!
//! One writer pushes the blob in order from some offset; readers follow within the window.
//! Invariant: beyond `window_bytes` nothing is kept that every reader has passed, and the writer is
//! told to wait before the window outgrows the slowest reader. Pure of time: a writer that must not
//! wait for a dead reader puts a deadline on [`WindowBlob::wait_room`] and drops the reader.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// The window of a blob that one writer fills and its readers empty.
#[derive(Debug)]
pub struct WindowBlob {
    window_bytes: u64,
    state: Mutex<State>,
    room: Notify,
    grown: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What is kept, ascending and without gaps, from `start` to `end`.
    chunks: VecDeque<Bytes>,
    start: u64,
    end: u64,
    closed: bool,
    readers: BTreeMap<u64, u64>,
    next_reader: u64,
}

impl WindowBlob {
    /// An empty window whose first byte will be the blob's byte `start`.
    pub fn new(start: u64, window_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            window_bytes,
            state: Mutex::new(State {
                start,
                end: start,
                ..State::default()
            }),
            room: Notify::new(),
            grown: Notify::new(),
        })
    }

    /// The offset after the last byte pushed.
    pub fn end(&self) -> u64 {
        self.state().end
    }

    /// How many bytes may be pushed now without outgrowing the window.
    pub fn room(&self) -> u64 {
        let state = self.state();
        self.window_bytes
            .saturating_sub(state.end - state.slowest())
    }

    /// Waits until there is room. Dropping the future is safe.
    pub async fn wait_room(&self) {
        loop {
            let notified = self.room.notified();
            if self.room() > 0 {
                return;
            }
            notified.await;
        }
    }

    /// Appends bytes without copying them. Never refuses: the window outgrows its bound by at most
    /// one push when the writer has waited for room before it.
    pub fn push(&self, bytes: Bytes) {
        let mut state = self.state();
        state.end += bytes.len() as u64;
        state.chunks.push_back(bytes);
        state.trim(self.window_bytes);
        drop(state);
        self.grown.notify_waiters();
    }

    /// Says that nothing more will come, be it the end or a failure; the writer knows which.
    pub fn close(&self) {
        self.state().closed = true;
        self.grown.notify_waiters();
    }

    /// A reader from `offset` on; `None` when the window has moved past it.
    pub fn reader(self: &Arc<Self>, offset: u64) -> Option<WindowReader> {
        let mut state = self.state();
        if offset < state.start {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, offset);
        drop(state);
        Some(WindowReader {
            blob: Arc::clone(self),
            id,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where the slowest reader is; a reader ahead of the writer holds nothing back.
    fn slowest(&self) -> u64 {
        let slowest = self.readers.values().min().copied();
        slowest.unwrap_or(self.end).min(self.end)
    }

    fn trim(&mut self, window_bytes: u64) {
        let slowest = self.slowest();
        while self.end - self.start > window_bytes
            && let Some(first) = self.chunks.front()
            && self.start + first.len() as u64 <= slowest
        {
            self.start += first.len() as u64;
            self.chunks.pop_front();
        }
    }

    /// The next bytes at `offset`, at most to `until` and never across a push.
    fn read(&self, offset: u64, until: u64) -> Option<Bytes> {
        let until = until.min(self.end);
        if offset >= until {
            return None;
        }
        let mut start = self.start;
        for chunk in &self.chunks {
            let end = start + chunk.len() as u64;
            if offset < end {
                let from = (offset - start) as usize;
                return Some(chunk.slice(from..(until.min(end) - start) as usize));
            }
            start = end;
        }
        None
    }
}

/// One reader of a [`WindowBlob`]; dropping it lets the window move on.
#[derive(Debug)]
pub struct WindowReader {
    blob: Arc<WindowBlob>,
    id: u64,
}

impl WindowReader {
    /// Where this reader is.
    pub fn position(&self) -> u64 {
        self.blob.state().position(self.id)
    }

    /// The next bytes before `until`, if there are any now.
    pub fn take(&mut self, until: u64) -> Option<Bytes> {
        let mut state = self.blob.state();
        let position = state.position(self.id);
        let bytes = state.read(position, until)?;
        state.readers.insert(self.id, position + bytes.len() as u64);
        state.trim(self.blob.window_bytes);
        drop(state);
        self.blob.room.notify_waiters();
        Some(bytes)
    }

    /// Waits for the next bytes before `until`; `None` when the window is closed and has no more.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self, until: u64) -> Option<Bytes> {
        let blob = Arc::clone(&self.blob);
        loop {
            let grown = blob.grown.notified();
            let closed = blob.state().closed;
            if let Some(bytes) = self.take(until) {
                return Some(bytes);
            }
            if closed || self.position() >= until {
                return None;
            }
            grown.await;
        }
    }
}

impl State {
    fn position(&self, id: u64) -> u64 {
        self.readers.get(&id).copied().unwrap_or(self.end)
    }
}

impl Drop for WindowReader {
    fn drop(&mut self) {
        self.blob.state().readers.remove(&self.id);
        self.blob.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_waits_for_the_slowest_reader() {
        let blob = WindowBlob::new(0, 100);
        let (mut fast, mut slow) = (blob.reader(0).unwrap(), blob.reader(0).unwrap());
        blob.push(Bytes::from(vec![1; 60]));
        blob.push(Bytes::from(vec![2; 60]));
        assert_eq!(blob.room(), 0);
        assert_eq!(fast.take(200).unwrap(), vec![1; 60]);
        assert_eq!(fast.take(70).unwrap(), vec![2; 10]);
        assert_eq!(fast.take(70), None);
        assert_eq!(blob.room(), 0);
        assert_eq!(slow.take(30).unwrap(), vec![1; 30]);
        assert_eq!(blob.room(), 10);
        drop(slow);
        assert_eq!(blob.room(), 50);
    }

    #[test]
    fn a_reader_behind_the_window_is_refused() {
        let blob = WindowBlob::new(10, 100);
        assert!(blob.reader(9).is_none());
        for _ in 0..3 {
            blob.push(Bytes::from(vec![0; 60]));
        }
        assert!(blob.reader(10).is_none(), "nobody was there to keep it");
        let mut late = blob.reader(130).unwrap();
        assert_eq!(late.take(u64::MAX).unwrap().len(), 60);
        let ahead = blob.reader(1_000).unwrap();
        assert_eq!(blob.room(), 100, "a reader ahead holds nothing back");
        assert_eq!(ahead.position(), 1_000);
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_through_a_small_window() {
        let blob = WindowBlob::new(0, 10);
        let mut reader = blob.reader(0).unwrap();
        let writer = Arc::clone(&blob);
        let writing = tokio::spawn(async move {
            for number in 0..200u8 {
                writer.wait_room().await;
                writer.push(Bytes::from(vec![number; 7]));
            }
            writer.close();
        });
        let mut seen = Vec::new();
        while let Some(bytes) = reader.next(1_399).await {
            seen.extend_from_slice(&bytes);
        }
        let sent: Vec<u8> = (0..200)
            .flat_map(|number| [number; 7])
            .take(1_399)
            .collect();
        assert_eq!(seen, sent);
        drop(reader);
        writing.await.unwrap();
    }
}
