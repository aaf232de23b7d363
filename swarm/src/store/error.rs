//! Why the store cannot do what was asked, by what the caller does about it.

use std::io;

use rustix::io::Errno;

/// Whose fault and what next: the first three mean "pass the bytes through, storing nothing".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither cap nor disk has room, also after evicting all that may go.
    #[error("no room left in the store")]
    Full,
    /// The blob alone is larger than the cap.
    #[error("blob of {total} bytes is larger than the cap of {cap_bytes} bytes")]
    TooLarge {
        /// Length of the blob.
        total: u64,
        /// The store's cap.
        cap_bytes: u64,
    },
    /// The file system does not let us write.
    #[error("the store is read-only")]
    ReadOnly,
    /// The bytes do not have the digest that they were given with.
    #[error("content does not have its digest")]
    Mismatch,
    /// Anything else from the file system, and calls that break the contract.
    #[error("store i/o failed")]
    Io(#[source] io::Error),
}

impl StoreError {
    /// Whether the bytes should be passed through instead of stored.
    pub fn is_pass_through(&self) -> bool {
        matches!(self, Self::Full | Self::TooLarge { .. } | Self::ReadOnly)
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::Full,
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Self::ReadOnly,
            _ => Self::Io(error),
        }
    }
}

impl From<Errno> for StoreError {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

pub(super) fn out_of_range() -> StoreError {
    StoreError::Io(io::Error::new(
        io::ErrorKind::InvalidInput,
        "range is not within the blob, or not present",
    ))
}

pub(super) fn other_total() -> StoreError {
    StoreError::Io(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the blob is being filled with another total length",
    ))
}

pub(super) fn closed() -> StoreError {
    StoreError::Io(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the partial blob was published or discarded",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_decides_what_the_caller_does() {
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(matches!(StoreError::from(errno), StoreError::Full));
        }
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM] {
            assert!(matches!(StoreError::from(errno), StoreError::ReadOnly));
        }
        assert!(matches!(StoreError::from(Errno::IO), StoreError::Io(_)));
        assert!(!StoreError::from(Errno::IO).is_pass_through());
    }
}
