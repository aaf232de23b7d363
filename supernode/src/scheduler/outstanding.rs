//! Instructions that were given and have not ended.

use std::mem::size_of;

use super::{BlobKey, NodeKey, Now};

/// A piece on its way. It holds a slot at both ends until it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    pub(super) node: NodeKey,
    pub(super) blob: BlobKey,
    pub(super) piece: u32,
    pub(super) from: NodeKey,
    /// When it was given, or when the piece reached the seed if that was later.
    pub(super) since: Now,
    /// It holds a slot of the sender (not while the seed itself waits for the piece).
    pub(super) up: bool,
    /// It holds a slot of the receiver (not once it is late).
    pub(super) down: bool,
    /// It took too long; the piece may come from elsewhere.
    pub(super) late: bool,
    /// Tells this one from an earlier one in the same place.
    pub(super) order: u64,
}

/// All of them, by a small number.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    all: Vec<Option<Instruction>>,
    vacant: Vec<u32>,
}

impl Outstanding {
    pub(super) fn insert(&mut self, instruction: Instruction) -> u32 {
        match self.vacant.pop() {
            Some(at) => {
                self.all[at as usize] = Some(instruction);
                at
            }
            None => {
                self.all.push(Some(instruction));
                self.all.len() as u32 - 1
            }
        }
    }

    pub(super) fn get(&self, at: u32) -> Option<&Instruction> {
        self.all.get(at as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Instruction> {
        self.all.get_mut(at as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<Instruction> {
        let removed = self.all.get_mut(at as usize)?.take();
        if removed.is_some() {
            self.vacant.push(at);
        }
        removed
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Option<Instruction>>() + self.vacant.capacity() * 4
    }
}
