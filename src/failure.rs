//! What went wrong, in one sentence, and what to do next.
//!
//! Invariant: `what` is one sentence without a full stop that names the thing it is about; `hint`
//! is something the reader can do. Deliberately not here: any printing (`main` does it once).

use std::fmt;

/// An error for a person, with the code the process ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// Something went wrong while doing what was asked: exit code 1.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: None,
            code: 1,
        }
    }

    /// What was asked makes no sense (flags, variables, the file): exit code 2, as clap's.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: None,
            code: 2,
        }
    }

    /// What the reader can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Another exit code.
    pub(crate) fn exit(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The exit code of the process.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
