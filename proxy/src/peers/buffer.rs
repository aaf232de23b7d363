//! The memory that a peer's bytes arrive in: large, reused, and aligned to pages.
//!
//! Invariant: a buffer comes back when the last slice of it is dropped, and a bounded number is kept:
//! fresh ones cost a page fault for every 4 KiB. Alignment matters because the kernel copies with
//! `rep movsb`, which on some processors takes twice the time when the target lies a few bytes
//! further into its page than the source does, as it does in memory straight from the allocator.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes in one frame: the piece size of most layers, and what two reads at the low-water mark give.
pub(super) const FRAME_MAX: usize = 512 << 10;
/// Unused buffers kept.
const KEPT: usize = 16;
/// Less than this is copied when it is passed on, so that it does not keep a whole buffer.
const SMALL: usize = FRAME_MAX / 8;
const PAGE: usize = 4 << 10;

/// Buffers that are not in use.
#[derive(Default)]
pub(super) struct Buffers(Mutex<Vec<Memory>>);

struct Memory {
    bytes: Box<[u8]>,
    /// Where the first page begins.
    start: usize,
}

/// A buffer being filled.
pub(super) struct Buffer {
    memory: Memory,
    len: usize,
}

impl Buffers {
    pub(super) fn take(&self) -> Buffer {
        let memory = self.lock().pop().unwrap_or_else(Memory::new);
        Buffer { memory, len: 0 }
    }

    /// What is in the buffer, as bytes; the buffer comes back with the last of them.
    pub(super) fn bytes(self: &Arc<Self>, buffer: Buffer) -> Bytes {
        let lent = Lent {
            buffer: Some(buffer),
            buffers: self.clone(),
        };
        if lent.as_ref().len() < SMALL {
            return Bytes::copy_from_slice(lent.as_ref());
        }
        Bytes::from_owner(lent)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn new() -> Self {
        let bytes = vec![0; FRAME_MAX + PAGE].into_boxed_slice();
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Self { bytes, start }
    }
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends what fits of `bytes`, and takes it from them.
    pub(super) fn append(&mut self, bytes: &mut Vec<u8>) {
        let taken = bytes.len().min(FRAME_MAX - self.len);
        let room = self.room(taken);
        room.copy_from_slice(&bytes[..taken]);
        self.len += taken;
        bytes.drain(..taken);
    }

    /// Room for so many more bytes, or what is left.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let bytes = bytes.min(FRAME_MAX - self.len);
        let at = self.memory.start + self.len;
        &mut self.memory.bytes[at..at + bytes]
    }

    /// So many bytes of the room have been filled.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.len = (self.len + bytes).min(FRAME_MAX);
    }
}

struct Lent {
    /// Until it is dropped.
    buffer: Option<Buffer>,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        let filled = |buffer: &Buffer| {
            let start = buffer.memory.start;
            start..start + buffer.len
        };
        let buffer = self.buffer.as_ref();
        buffer.map_or(&[], |buffer| &buffer.memory.bytes[filled(buffer)])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.buffers.lock();
        if let Some(buffer) = self.buffer.take()
            && kept.len() < KEPT
        {
            kept.push(buffer.memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_slice_and_begins_at_a_page() {
        let buffers = Arc::<Buffers>::default();
        let mut buffer = buffers.take();
        buffer.append(&mut vec![1; 100]);
        buffer.room(SMALL).fill(2);
        buffer.grow(SMALL);
        let mut rest = vec![3; FRAME_MAX];
        buffer.append(&mut rest);
        assert_eq!((buffer.len(), rest.len()), (FRAME_MAX, 100 + SMALL));
        assert!(buffer.room(1).is_empty());
        let bytes = buffers.bytes(buffer);
        assert_eq!(bytes.as_ptr().align_offset(PAGE), 0);
        assert_eq!((bytes[99], bytes[100], bytes[100 + SMALL]), (1, 2, 3));
        let part = bytes.slice(7..9);
        drop(bytes);
        assert_eq!(buffers.lock().len(), 0);
        drop(part);
        assert_eq!(buffers.lock().len(), 1);
    }

    #[test]
    fn a_few_bytes_keep_no_buffer() {
        let buffers = Arc::<Buffers>::default();
        let mut buffer = buffers.take();
        buffer.append(&mut vec![1; 10]);
        let bytes = buffers.bytes(buffer);
        assert_eq!((bytes.len(), buffers.lock().len()), (10, 1));
    }
}
