//! How rare each piece is within a zone: copies held there or on their way there.
//!
//! Pieces are kept by classes of their count's magnitude, so that the rarest piece that one node
//! has and another lacks is found by a few words of bits, whatever the number of nodes.

use std::mem::size_of;

use super::bits::Bits;

/// Classes: none, 1, 2-3, 4-7, ...; the last takes all that is beyond.
const CLASSES: usize = 18;

/// Copies of a blob's pieces in one zone.
#[derive(Debug)]
pub(super) struct Rarity {
    counts: Vec<u32>,
    classes: Vec<Bits>,
    /// How many pieces are in each class.
    members: [u32; CLASSES],
    /// Members who came with all pieces; they are in no class.
    whole: u32,
}

fn class_of(count: u32) -> usize {
    ((32 - count.leading_zeros()) as usize).min(CLASSES - 1)
}

impl Rarity {
    pub(super) fn new(pieces: u32) -> Self {
        let mut classes = vec![Bits::none(pieces); CLASSES];
        classes[0] = Bits::all(pieces);
        let mut members = [0; CLASSES];
        members[0] = pieces;
        Self {
            counts: vec![0; pieces as usize],
            classes,
            members,
            whole: 0,
        }
    }

    pub(super) fn add_whole(&mut self) {
        self.whole += 1;
    }

    pub(super) fn remove_whole(&mut self) {
        self.whole = self.whole.saturating_sub(1);
    }

    pub(super) fn add(&mut self, piece: u32) {
        self.change(piece, |count| count + 1);
    }

    pub(super) fn remove(&mut self, piece: u32) {
        self.change(piece, |count| count.saturating_sub(1));
    }

    fn change(&mut self, piece: u32, to: impl Fn(u32) -> u32) {
        let count = &mut self.counts[piece as usize];
        let (before, after) = (class_of(*count), class_of(to(*count)));
        *count = to(*count);
        if before != after {
            self.classes[before].clear(piece);
            self.classes[after].set(piece);
            self.members[before] -= 1;
            self.members[after] += 1;
        }
    }

    /// The rarest piece of `have` that is not in `taken`, with its class, if that is below `end`.
    /// Among equally rare ones the first.
    pub(super) fn rarest(&self, have: &Bits, taken: &Bits, end: u8) -> Option<(u8, u32)> {
        if !have.exceeds(taken) {
            return None;
        }
        let classes = self.classes.iter().zip(self.members).zip(0..end);
        for ((bits, members), class) in classes {
            if members > 0
                && let Some(piece) = first_of(have, taken, bits)
            {
                return Some((class, piece));
            }
        }
        None
    }

    /// The first piece of `have` that is not in `taken` and of which the zone has no copy.
    pub(super) fn absent(&self, have: &Bits, taken: &Bits) -> Option<u32> {
        if self.whole > 0 {
            return None;
        }
        first_of(have, taken, &self.classes[0])
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let classes: usize = self
            .classes
            .iter()
            .map(|bits| size_of::<Bits>() + bits.memory_bytes())
            .sum();
        self.counts.capacity() * 4 + classes
    }
}

fn first_of(have: &Bits, taken: &Bits, among: &Bits) -> Option<u32> {
    let words = have.words().iter().zip(taken.words()).zip(among.words());
    for (at, ((have, taken), among)) in words.enumerate() {
        let found = have & !taken & among;
        if found != 0 {
            return Some(at as u32 * 64 + found.trailing_zeros());
        }
    }
    None
}
