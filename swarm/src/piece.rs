//! Pieces: how a blob is cut, and what tells that a piece is right.
//!
//! Invariant: only a [`Layout`] makes a [`PieceIndex`], so an index always lies within its blob.

use std::fmt;
use std::ops::Range;

/// Smallest piece in bytes; a blob that is no longer is one piece.
pub const PIECE_MIN: u64 = 256 << 10;
/// Largest piece in bytes.
pub const PIECE_MAX: u64 = 4 << 20;
/// A blob has at least so many pieces where its size allows: the bound for N nodes and k pieces is
/// `S/B (1 + floor(log2 N)/k)`, so this leaves 4 % at 1,000 nodes (Bar-Noy, Kipnis 1994).
const PIECES_WANTED: u64 = 256;

/// How a blob is cut into pieces, all of one size but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    total: u64,
    piece_size: u64,
}

/// The place of a piece in its blob, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The number on the wire.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Layout {
    /// The cut of a blob of `total` bytes: pieces of a power of two, [`PIECE_MIN`] to [`PIECE_MAX`].
    pub fn of(total: u64) -> Self {
        let even = (total / PIECES_WANTED).max(1);
        let piece_size = (1 << even.ilog2()).clamp(PIECE_MIN, PIECE_MAX);
        Self { total, piece_size }
    }

    /// A cut that was told by someone else; `None` if it cannot be one.
    pub fn told(total: u64, piece_size: u64) -> Option<Self> {
        let fits = piece_size.is_power_of_two() && (PIECE_MIN..=PIECE_MAX).contains(&piece_size);
        let counted = total.div_ceil(piece_size.max(1)) <= u64::from(u32::MAX);
        (fits && counted).then_some(Self { total, piece_size })
    }

    /// Length of the blob in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Length in bytes of every piece but the last.
    pub fn piece_size(&self) -> u64 {
        self.piece_size
    }

    /// How many pieces there are; none in an empty blob.
    pub fn count(&self) -> u32 {
        u32::try_from(self.total.div_ceil(self.piece_size)).unwrap_or(u32::MAX)
    }

    /// The piece of that number.
    pub fn piece(&self, number: u32) -> Option<PieceIndex> {
        (number < self.count()).then_some(PieceIndex(number))
    }

    /// The piece that the byte at `offset` lies in.
    pub fn piece_at(&self, offset: u64) -> Option<PieceIndex> {
        let number = u32::try_from(offset / self.piece_size).ok()?;
        (offset < self.total).then_some(PieceIndex(number))
    }

    /// The bytes of a piece.
    pub fn range(&self, piece: PieceIndex) -> Range<u64> {
        let start = u64::from(piece.0) * self.piece_size;
        start..(start + self.piece_size).min(self.total)
    }

    /// All pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = PieceIndex> + use<> {
        (0..self.count()).map(PieceIndex)
    }

    /// All pieces from `first` on, in order.
    pub fn pieces_from(&self, first: PieceIndex) -> impl Iterator<Item = PieceIndex> + use<> {
        (first.0..self.count()).map(PieceIndex)
    }
}

/// BLAKE3 of a piece's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PieceDigest([u8; 32]);

impl PieceDigest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of these bytes, one part after the other.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// A digest from the wire.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PieceDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex()[..12])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_256_pieces_where_its_size_allows() {
        let size = |total| Layout::of(total).piece_size();
        assert_eq!(size(0), PIECE_MIN);
        assert_eq!(size(64 << 20), PIECE_MIN);
        assert_eq!(size((128 << 20) - 1), PIECE_MIN);
        assert_eq!(size(128 << 20), 512 << 10);
        assert_eq!(size(200 << 20), 512 << 10);
        assert_eq!(size(1 << 40), PIECE_MAX);
    }

    #[test]
    fn pieces_cover_the_blob_without_overlap() {
        for total in [0, 1, PIECE_MIN, PIECE_MIN + 1, 200 << 20, (200 << 20) + 7] {
            let layout = Layout::of(total);
            assert_eq!(Layout::told(total, layout.piece_size()), Some(layout));
            let mut at = 0;
            for piece in layout.pieces() {
                let range = layout.range(piece);
                assert_eq!(range.start, at);
                assert_eq!(layout.piece_at(range.start), Some(piece));
                assert_eq!(layout.piece_at(range.end - 1), Some(piece));
                at = range.end;
            }
            assert_eq!(at, total);
            assert_eq!(layout.piece_at(total), None);
            assert_eq!(layout.piece(layout.count()), None);
        }
        assert_eq!(Layout::told(1, 3), None);
        assert_eq!(Layout::told(u64::MAX, PIECE_MAX), None);
    }
}
