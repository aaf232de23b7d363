//! The bounded memory that stands in for the store when it cannot take bytes.
//!
//! Invariant: holds at most [`WINDOW_MAX`] bytes and one frame; bytes that a reader of the window
//! still needs are not dropped. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Most bytes kept.
pub(super) const WINDOW_MAX: u64 = 8 << 20;

#[derive(Debug, Default)]
pub(super) struct Window {
    frames: BTreeMap<u64, Bytes>,
    bytes: u64,
}

impl Window {
    /// Takes in the next bytes.
    pub(super) fn put(&mut self, offset: u64, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        if let Some(old) = self.frames.insert(offset, bytes) {
            self.bytes -= old.len() as u64;
        }
    }

    /// The bytes from `at` to the end of the frame that holds it.
    pub(super) fn get(&self, at: u64) -> Option<Bytes> {
        let (&start, frame) = self.frames.range(..=at).next_back()?;
        let skip = usize::try_from(at - start).ok()?;
        (skip < frame.len()).then(|| frame.slice(skip..))
    }

    /// The first byte kept.
    pub(super) fn start(&self) -> Option<u64> {
        self.frames.keys().next().copied()
    }

    /// Makes room without touching what a reader at `slowest` or later needs; false while the window
    /// is full all the same.
    pub(super) fn make_room(&mut self, slowest: u64) -> bool {
        while self.bytes >= WINDOW_MAX {
            let Some(first) = self.frames.first_entry() else {
                return true;
            };
            if first.key() + first.get().len() as u64 > slowest {
                return false;
            }
            self.bytes -= first.remove().len() as u64;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_the_slowest_reader_needs() {
        let frame = || Bytes::from(vec![7; 1 << 20]);
        let mut window = Window::default();
        for index in 0..8 {
            assert!(window.make_room(0), "{index} frames");
            window.put(index << 20, frame());
        }
        assert!(!window.make_room((1 << 20) - 1));
        assert!(window.make_room(1 << 20));
        assert_eq!(window.start(), Some(1 << 20));
        assert_eq!(window.get((2 << 20) - 1).map(|b| b.len()), Some(1));
        assert_eq!(window.get(0), None);
        assert_eq!(window.get(8 << 20), None);
    }
}
