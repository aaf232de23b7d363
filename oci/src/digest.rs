//! Content digests: parsed once, compared as bytes, printed as `algorithm:hex`.
//!
//! Only the two registered algorithms that registries serve (image-spec v1.1.1, "Digests") are
//! accepted: sha256 and sha512, lower-case hex of the exact length. A `Digest` is therefore safe as
//! part of a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 32 bytes; every registry must support it.
    Sha256,
    /// SHA-512, 64 bytes; a registry may support it.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the raw digest in bytes.
    pub fn len_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A checked content digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 64],
}

/// Why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No `algorithm:encoded` form.
    #[error("a digest is `algorithm:hex`")]
    Form,
    /// Well formed, but of an algorithm that we do not verify.
    #[error("digest algorithm is not sha256 or sha512")]
    Algorithm,
    /// Not exactly the algorithm's count of lower-case hex digits.
    #[error("digest needs {0} lower-case hex digits")]
    Encoded(usize),
}

impl Digest {
    /// The digest of `content` under `algorithm`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// The sha256 digest of `content`.
    pub fn sha256(content: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, content)
    }

    /// Whether it is the digest of no bytes at all: of nothing else may be said that it is empty.
    pub fn is_of_nothing(&self) -> bool {
        *self == Self::of(self.algorithm, b"")
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw digest, 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.len_bytes()]
    }

    /// The lower-case hex part, without the algorithm.
    pub fn hex(&self) -> String {
        self.hex_digits(&mut [0; 128]).to_owned()
    }

    /// The same, written into `room`: a digest is printed several times per request.
    fn hex_digits<'r>(&self, room: &'r mut [u8; 128]) -> &'r str {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let raw = self.as_bytes();
        for (pair, byte) in room.chunks_exact_mut(2).zip(raw) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        std::str::from_utf8(&room[..raw.len() * 2]).expect("hex digits are ASCII")
    }

    /// First twelve hex digits, for logs.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }

    fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..algorithm.len_bytes()].copy_from_slice(raw);
        Self { algorithm, bytes }
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, encoded) = text.split_once(':').ok_or(DigestError::Form)?;
        if name.is_empty() || encoded.is_empty() {
            return Err(DigestError::Form);
        }
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm),
        };
        let digits = algorithm.len_bytes() * 2;
        if encoded.len() != digits {
            return Err(DigestError::Encoded(digits));
        }
        let mut raw = [0u8; 64];
        for (slot, pair) in raw.iter_mut().zip(encoded.as_bytes().chunks_exact(2)) {
            let nibbles = lower_hex(pair[0]).zip(lower_hex(pair[1]));
            let (high, low) = nibbles.ok_or(DigestError::Encoded(digits))?;
            *slot = high << 4 | low;
        }
        Ok(Self::from_raw(algorithm, &raw[..algorithm.len_bytes()]))
    }
}

fn lower_hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        f.write_str(self.hex_digits(&mut [0; 128]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An incremental hash; cloning it forks the state.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A fresh state.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => Digest::from_raw(Algorithm::Sha256, &state.finalize()),
            State::Sha512(state) => Digest::from_raw(Algorithm::Sha512, &state.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"darner");
            assert_eq!(digest.to_string().parse(), Ok(digest));
        }
    }

    #[test]
    fn known_answer() {
        assert_eq!(
            Digest::sha256(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn refuses_what_is_not_exact() {
        let good = Digest::sha256(b"x").to_string();
        assert_eq!(
            good.to_uppercase().parse::<Digest>(),
            Err(DigestError::Algorithm)
        );
        assert_eq!(good[..70].parse::<Digest>(), Err(DigestError::Encoded(64)));
        assert_eq!("sha256:".parse::<Digest>(), Err(DigestError::Form));
        assert_eq!("md5:00".parse::<Digest>(), Err(DigestError::Algorithm));
        assert_eq!(
            good.replace("sha256:", "sha256:../").parse::<Digest>(),
            Err(DigestError::Encoded(64))
        );
    }
}
