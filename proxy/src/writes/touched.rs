//! What a write changes, forgotten when it ends, however it ends.
//!
//! Invariant: unless upstream has refused, the place's next generation begins and what is known of
//! the named things goes, also when the client left or the connection broke: upstream may have
//! taken the write.

use oci::{Digest, Reference};

use crate::catalog::Note;
use crate::front::Front;
use crate::place::Place;

/// What is forgotten on drop.
pub(super) struct Touched<'a> {
    front: &'a Front,
    place: &'a Place,
    notes: Vec<Note>,
    spared: bool,
}

impl<'a> Touched<'a> {
    pub(super) fn new(front: &'a Front, place: &'a Place) -> Self {
        Self {
            front,
            place,
            notes: Vec::new(),
            spared: false,
        }
    }

    /// What a tag means; of a digest only its being there, and only if it is deleted.
    pub(super) fn reference(&mut self, reference: &Reference, deleted: bool) {
        match reference {
            Reference::Tag(tag) => {
                let note = Note::TagGone(self.place.clone(), tag.clone());
                self.notes.push(note);
            }
            Reference::Digest(digest) if deleted => self.blob(digest),
            Reference::Digest(_) => {}
        }
    }

    /// That content belongs to the place. Other places are not concerned, nor are the bytes.
    pub(super) fn blob(&mut self, digest: &Digest) {
        self.notes.extend([
            Note::ManifestGone(self.place.clone(), *digest),
            Note::MemberGone(self.place.clone(), *digest),
        ]);
    }

    /// Nothing was changed.
    pub(super) fn spare(&mut self) {
        self.spared = true;
    }
}

impl Drop for Touched<'_> {
    fn drop(&mut self) {
        if self.spared {
            return;
        }
        // In this order: who notes something old meanwhile looks at the generation after it.
        self.front.generations.advance(self.place);
        self.front.catalog.note(std::mem::take(&mut self.notes));
    }
}
