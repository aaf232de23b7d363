//! The words of the registry protocol, each checked once at its boundary, and a streaming client.
//!
//! Follows the OCI distribution-spec v1.1.1 and, for `ns`, the "Registry Proxying" section of its
//! main branch (not part of a release). Nothing here knows about peers, stores or configuration.

pub mod challenge;
pub mod client;
pub mod digest;
pub mod error;
pub mod image;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod query;
pub mod range;
pub mod reference;
pub mod route;

pub use digest::{Algorithm, Digest, Hasher};
pub use error::{ErrorCode, OciError};
pub use image::ImageName;
pub use platform::Platform;
pub use reference::{Reference, Registry, Repository, Tag};
pub use route::{Access, Route, Target};
