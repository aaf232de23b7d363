//! Secrets, and whose rights a request carries.
//!
//! Invariant: nothing here prints a secret.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};

use http::HeaderValue;
use oci::Digest;
use serde::{Deserialize, Deserializer};

/// A text that cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret as a header value that hyper and debug output treat as sensitive. `None` if it
    /// holds bytes that no header may.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.0).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// What a client sent to show who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    Anonymous,
    /// Nothing, and no account of the operator may stand in: what is read so is public.
    Nobody,
    /// The value of its `Authorization` header, Bearer or Basic.
    Client(Secret),
}

impl Credential {
    /// What a request's `Authorization` header says; one that is not ASCII is as good as none.
    pub fn from_header(value: Option<&HeaderValue>) -> Self {
        match value.and_then(|value| value.to_str().ok()) {
            Some(text) if !text.is_empty() => Self::Client(Secret::new(text)),
            _ => Self::Anonymous,
        }
    }

    /// A key for grants and caches.
    pub fn key(&self) -> CredentialKey {
        match self {
            Self::Anonymous => CredentialKey::ANONYMOUS,
            Self::Nobody => CredentialKey::NOBODY,
            Self::Client(secret) => CredentialKey::of(secret.expose()),
        }
    }
}

/// Stands for a credential where it is compared and kept; nothing can be learnt from it outside of
/// this process, since it is salted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialKey([u8; 32]);

impl CredentialKey {
    /// Of no credential.
    pub const ANONYMOUS: Self = Self([0; 32]);

    /// Of no credential, where no account of the operator may stand in either.
    pub const NOBODY: Self = Self([1; 32]);

    pub(super) fn of(secret: &str) -> Self {
        // The standard library's hash keys come from the system's random source.
        static SALT: LazyLock<[u64; 2]> = LazyLock::new(|| {
            [0, 1].map(|_: u8| RandomState::new().hash_one("salt of credential keys"))
        });
        let salt = SALT.map(u64::to_le_bytes).concat();
        let digest = Digest::sha256(&[&salt, secret.as_bytes()].concat());
        let mut key = [0; 32];
        key.copy_from_slice(digest.as_bytes());
        Self(key)
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ANONYMOUS => f.write_str("anonymous"),
            Self::NOBODY => f.write_str("nobody"),
            Self([a, b, c, ..]) => write!(f, "{a:02x}{b:02x}{c:02x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let credential = Credential::Client(Secret::new("Bearer hunter2"));
        assert!(!format!("{credential:?}").contains("hunter2"));
        let header = Secret::new("Basic hunter2").header().unwrap();
        assert!(!format!("{header:?}").contains("hunter2"));
    }

    #[test]
    fn keys_tell_credentials_apart() {
        let key = |text: &str| Credential::Client(Secret::new(text)).key();
        assert_eq!(key("Bearer a"), key("Bearer a"));
        assert_ne!(key("Bearer a"), key("Bearer b"));
        assert_ne!(key("Bearer a"), Credential::Anonymous.key());
    }
}
