//! A set of byte offsets, kept as maximal ranges: what of a blob is there.
//!
//! Invariant: ranges are non-empty, ascending and do not touch. Pure; the wire form is a list of
//! LEB128 numbers, gap and length in turn, so that a contiguous prefix takes a few bytes.

use std::collections::BTreeMap;
use std::ops::Range;

/// Offsets as maximal, disjoint, ascending ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteSet {
    /// Start of each range to its end.
    ranges: BTreeMap<u64, u64>,
}

/// The bytes are not the wire form of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a byte set")]
pub struct ByteSetError;

impl ByteSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of these offsets.
    pub fn of(range: Range<u64>) -> Self {
        let mut set = Self::new();
        set.insert(range);
        set
    }

    /// Adds all offsets of `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        // The range that holds or touches `start` from below, then all that begin inside or touch.
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..=end).next() {
            end = end.max(next_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(start, end);
    }

    /// Whether every offset of `range` is in the set; true for an empty range.
    pub fn contains(&self, range: Range<u64>) -> bool {
        range.start >= range.end || self.first_gap_after(range.start) >= range.end
    }

    /// The first offset at or after `offset` that is not in the set.
    pub fn first_gap_after(&self, offset: u64) -> u64 {
        match self.ranges.range(..=offset).next_back() {
            Some((_, &end)) => end.max(offset),
            None => offset,
        }
    }

    /// The parts of `range` that are not in the set, ascending.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = self.first_gap_after(range.start);
        while at < range.end {
            let next = self.ranges.range(at..).next();
            let end = next.map_or(range.end, |(&start, _)| start.min(range.end));
            gaps.push(at..end);
            at = self.first_gap_after(end);
        }
        gaps
    }

    /// Count of offsets in the set.
    pub fn covered_len(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The maximal ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }

    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0;
        for range in self.iter() {
            put_number(&mut out, range.start - at);
            put_number(&mut out, range.end - range.start);
            at = range.end;
        }
        out
    }

    /// Reads the wire form; a set has exactly one.
    ///
    /// # Errors
    /// [`ByteSetError`] for anything that `encode` does not write.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, ByteSetError> {
        let mut ranges = BTreeMap::new();
        let mut at: u64 = 0;
        while !bytes.is_empty() {
            let gap = take_number(&mut bytes)?;
            let length = take_number(&mut bytes)?;
            if length == 0 || (gap == 0 && !ranges.is_empty()) {
                return Err(ByteSetError);
            }
            let start = at.checked_add(gap).ok_or(ByteSetError)?;
            at = start.checked_add(length).ok_or(ByteSetError)?;
            ranges.insert(start, at);
        }
        Ok(Self { ranges })
    }
}

impl FromIterator<Range<u64>> for ByteSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, ByteSetError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(ByteSetError)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(ByteSetError);
        }
        number |= bits << shift;
        if byte < 0x80 {
            // A last byte of zero is a longer way to write a shorter number.
            return if byte == 0 && shift > 0 {
                Err(ByteSetError)
            } else {
                Ok(number)
            };
        }
    }
    Err(ByteSetError)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set_of_offsets(
            parts in prop::collection::vec((0u64..60, 0u64..12), 0..24),
            probe in (0u64..70, 0u64..20),
        ) {
            let set: ByteSet = parts.iter().map(|&(start, len)| start..start + len).collect();
            let model: BTreeSet<u64> =
                parts.iter().flat_map(|&(start, len)| start..start + len).collect();
            let range = probe.0..probe.0 + probe.1;

            prop_assert_eq!(set.covered_len(), model.len() as u64);
            prop_assert_eq!(set.contains(range.clone()), range.clone().all(|at| model.contains(&at)));
            let gap = (probe.0..).find(|at| !model.contains(at)).unwrap();
            prop_assert_eq!(set.first_gap_after(probe.0), gap);
            let missing: Vec<u64> = set.gaps(range.clone()).into_iter().flatten().collect();
            let wanted: Vec<u64> = range.filter(|at| !model.contains(at)).collect();
            prop_assert_eq!(missing, wanted);
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|two| two[0].end < two[1].start));
        }

        #[test]
        fn reads_what_it_wrote(parts in prop::collection::vec((any::<u64>(), 0u64..1 << 40), 0..24)) {
            let set: ByteSet =
                parts.into_iter().map(|(start, len)| start..start.saturating_add(len)).collect();
            prop_assert_eq!(ByteSet::decode(&set.encode()), Ok(set));
        }

        #[test]
        fn reads_only_what_it_would_write(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(set) = ByteSet::decode(&bytes) {
                prop_assert_eq!(set.encode(), bytes);
            }
        }
    }
}
