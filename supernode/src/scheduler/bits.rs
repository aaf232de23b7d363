//! A fixed number of bits, one for each piece of a blob.

/// Words that are kept in place: up to 512 pieces, as nearly all blobs have. Whoever looks at a
/// member then finds its bits where it is, not elsewhere in memory.
const FEW: usize = 8;

/// As many bits as a blob has pieces, in whole words; bits beyond the last piece are never set.
#[derive(Clone, Debug)]
pub(super) enum Bits {
    Few([u64; FEW], u8),
    Many(Box<[u64]>),
}

impl Bits {
    /// None of `count` set.
    pub(super) fn none(count: u32) -> Self {
        match count.div_ceil(64) as usize {
            words @ 0..=FEW => Self::Few([0; FEW], words as u8),
            words => Self::Many(vec![0; words].into_boxed_slice()),
        }
    }

    /// All of `count` set.
    pub(super) fn all(count: u32) -> Self {
        let mut bits = Self::none(count);
        bits.words_mut().fill(u64::MAX);
        if let (Some(last), rest @ 1..) = (bits.words_mut().last_mut(), count % 64) {
            *last = (1 << rest) - 1;
        }
        bits
    }

    pub(super) fn words(&self) -> &[u64] {
        match self {
            Self::Few(words, count) => &words[..usize::from(*count).min(FEW)],
            Self::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(words, count) => &mut words[..usize::from(*count).min(FEW)],
            Self::Many(words) => words,
        }
    }

    pub(super) fn has(&self, at: u32) -> bool {
        self.words()
            .get((at / 64) as usize)
            .is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Sets a bit; whether it was not set before.
    pub(super) fn set(&mut self, at: u32) -> bool {
        let Some(word) = self.words_mut().get_mut((at / 64) as usize) else {
            return false;
        };
        let before = *word;
        *word |= 1 << (at % 64);
        *word != before
    }

    /// Clears a bit; whether it was set before.
    pub(super) fn clear(&mut self, at: u32) -> bool {
        let Some(word) = self.words_mut().get_mut((at / 64) as usize) else {
            return false;
        };
        let before = *word;
        *word &= !(1 << (at % 64));
        *word != before
    }

    /// Whether a bit is set that is not set in `other`.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        let words = self.words().iter().zip(other.words());
        words.fold(0, |all, (one, other)| all | (one & !other)) != 0
    }

    /// All set bits, ascending.
    pub(super) fn ones(&self) -> impl Iterator<Item = u32> + '_ {
        self.words().iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }

    /// The first bit at or after `from` that is not set; may be the count or beyond.
    pub(super) fn first_zero(&self, from: u32) -> u32 {
        let mut at = (from / 64) as usize;
        let mut mask = u64::MAX << (from % 64);
        while let Some(word) = self.words().get(at) {
            let zeros = !word & mask;
            if zeros != 0 {
                return at as u32 * 64 + zeros.trailing_zeros();
            }
            mask = u64::MAX;
            at += 1;
        }
        (at * 64) as u32
    }

    /// Beyond its own size.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Few(..) => 0,
            Self::Many(words) => words.len() * 8,
        }
    }
}
