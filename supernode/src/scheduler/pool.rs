//! A set of small numbers from which any can be drawn at once: in, out and draw cost the same
//! however many there are.

const OUT: u32 = u32::MAX;

/// Invariant: `place[items[i]] == i` for all `i`, and all other places are `OUT`.
#[derive(Debug, Default)]
pub(super) struct Pool {
    items: Vec<u32>,
    place: Vec<u32>,
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn has(&self, item: u32) -> bool {
        self.place
            .get(item as usize)
            .is_some_and(|&place| place != OUT)
    }

    /// The one at a place below [`Pool::len`]; places change with every `set`.
    pub(super) fn at(&self, place: usize) -> Option<u32> {
        self.items.get(place).copied()
    }

    /// Makes it a member or not.
    pub(super) fn set(&mut self, item: u32, member: bool) {
        if member == self.has(item) {
            return;
        }
        let slot = item as usize;
        if member {
            if self.place.len() <= slot {
                self.place.resize(slot + 1, OUT);
            }
            self.place[slot] = self.items.len() as u32;
            self.items.push(item);
        } else {
            let place = self.place[slot] as usize;
            self.items.swap_remove(place);
            if let Some(&moved) = self.items.get(place) {
                self.place[moved as usize] = place as u32;
            }
            self.place[slot] = OUT;
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        (self.items.capacity() + self.place.capacity()) * 4
    }
}
