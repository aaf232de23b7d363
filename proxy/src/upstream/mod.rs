//! The registries that the node may ask, and how it asks them.
//!
//! A closed table: a name that is neither built in nor configured is unknown, and no name is ever
//! dialled as it stands. Behind a name there are endpoints in order, own accounts, tokens, caps.
//! Not here: caches, grants, and what a client is told (`handler`).

mod account;
mod ask;
mod auth;
mod blob;
mod body;
mod config;
mod credential;
mod docker_config;
mod error;
mod gate;
mod realm;
mod relay;
mod request;
mod site;
mod table;
mod token;
mod well_known;

pub use self::ask::{Answer, Ask, Identity, Upstream, What};
pub use self::body::Body;
pub use self::config::{AccountConfig, EndpointConfig, RegistryConfig, UpstreamsConfig};
pub use self::credential::{Credential, CredentialKey, Secret};
pub use self::error::{UpstreamConfigError, UpstreamError};
pub use self::relay::{Next, To, Write, Written};
pub use self::table::Upstreams;
