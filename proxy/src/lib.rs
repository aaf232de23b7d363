//! The node: one front door for every registry, the rights of its readers, and where bytes come
//! from.

pub mod accept;
pub mod admin;
pub mod catalog;
pub mod coalesce;
pub mod http;
pub mod metrics;
pub mod place;
pub mod upstream;
