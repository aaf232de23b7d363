//! People with a name at the scripted origin.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Stage;
use crate::check::Stop;

/// Somebody who can log in.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The name.
    pub name: &'static str,
    /// The password.
    pub password: &'static str,
}

/// Who may read the private repository of a check.
pub(crate) const READER: User = User {
    name: "suite-reader",
    password: "reader-password-5e1f",
};
/// Who may read another one only.
pub(crate) const OTHER: User = User {
    name: "suite-other",
    password: "other-password-77ab",
};

impl User {
    /// The value of `Authorization` by which this user logs in.
    pub fn basic(self) -> String {
        let pair = format!("{}:{}", self.name, self.password);
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    /// Makes a repository of the scripted origin this user's, and no more everybody's.
    ///
    /// # Errors
    /// Skips the check where there is no scripted origin.
    pub fn owns(self, stage: &Stage, repository: &str) -> Result<(), Stop> {
        let origin = stage.origin()?;
        origin.private(repository, self.name, self.password);
        Ok(())
    }
}
