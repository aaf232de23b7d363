//! The way of a stream through a held blob.
//!
//! Invariant: as in a flight, no byte of the blob's last 64 KiB is given before the whole digest fits;
//! here that costs an `fstat` when the file is trusted, and one pass of hashing when it is not, which
//! runs beside the bytes before the tail. Ranges that end before the tail are provisional.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, FutureExt as _};

use crate::checks::Checks;
use crate::reader::{ReadError, SLICE_MAX, WITHHELD_TAIL};
use crate::store::{Examined, HeldBlob, Slice};

/// A file that changes again while it is checked is not waited for any longer.
const CHECKS_MAX: usize = 3;

/// A held blob, and who checks it.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) blob: HeldBlob,
    checks: Arc<Checks>,
}

impl Held {
    pub(crate) fn new(blob: HeldBlob, checks: Arc<Checks>) -> Self {
        Self { blob, checks }
    }

    pub(crate) fn way(&self) -> HeldWay {
        HeldWay {
            held: self.clone(),
            begun: false,
            check: None,
            checked: 0,
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.blob.fmt(f)
    }
}

/// One stream's way.
pub(crate) struct HeldWay {
    held: Held,
    begun: bool,
    check: Option<BoxFuture<'static, Examined>>,
    checked: usize,
}

impl HeldWay {
    /// The next bytes of `next`, as many as may be given.
    pub(crate) fn poll_slice(
        &mut self,
        next: &Range<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Slice, ReadError>> {
        if !self.begun {
            self.begun = true;
            let store = self.held.checks.store();
            store.read_again(self.held.blob.digest());
            self.check_unless_trusted()?;
        }
        let tail = self.held.blob.total().saturating_sub(WITHHELD_TAIL);
        let mut end = next.end.min(next.start + SLICE_MAX);
        loop {
            let Some(check) = &mut self.check else {
                if end > tail && self.check_unless_trusted()? {
                    continue;
                }
                break;
            };
            match check.poll_unpin(cx) {
                Poll::Ready(found) => {
                    self.check = None;
                    self.learn(found)?;
                }
                Poll::Pending if next.start < tail => {
                    end = end.min(tail);
                    break;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let missing = || ReadError::Storage("held blob is cut short".to_owned());
        Poll::Ready(self.held.blob.slice(next.start..end).ok_or_else(missing))
    }

    /// True when a check has begun.
    fn check_unless_trusted(&mut self) -> Result<bool, ReadError> {
        if self.held.blob.is_trusted() {
            return Ok(false);
        }
        if self.checked == CHECKS_MAX {
            return Err(self.unchecked());
        }
        self.checked += 1;
        self.check = Some(self.held.checks.join(&self.held.blob).boxed());
        Ok(true)
    }

    fn learn(&self, found: Examined) -> Result<(), ReadError> {
        match found {
            Examined::Sound => Ok(()),
            Examined::Rotten => Err(ReadError::WrongDigest),
            Examined::Undecided => Err(self.unchecked()),
        }
    }

    fn unchecked(&self) -> ReadError {
        match self.held.checks.is_ending() {
            true => ReadError::ShutDown,
            false => ReadError::Storage("a held blob's file could not be checked".to_owned()),
        }
    }
}
