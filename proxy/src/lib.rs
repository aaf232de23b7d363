//! The node: one front door for every registry, the rights of its readers, and where bytes come
//! from.

pub mod accept;
mod access;
pub mod admin;
pub mod app;
pub mod attending;
mod blobs;
pub mod catalog;
pub mod coalesce;
pub mod config;
pub mod flights;
mod front;
mod generations;
pub mod grants;
mod handler;
pub mod http;
mod lists;
mod manifests;
pub mod metrics;
pub mod peers;
mod ping;
pub mod place;
mod ratelimit;
mod refusal;
pub mod seed;
pub mod upstream;
mod warnings;
mod writes;

pub use admin::Pages;
pub use app::{Addrs, App, Beside, BuildError, RunError};
pub use config::{Config, ConfigError};
pub use seed::{ImageParts, ImageRefusal, Part, Seed, SeedRefusal};
