//! What must not hurt: bad requests, and registries that are absent, slow, broken or lying.
//!
//! A real node stands in front of scripted registries; clients are plain sockets, because what
//! counts is also how a connection ends: containerd gives up a pull at an RST and comes back with a
//! Range after a FIN.
#![expect(clippy::unwrap_used, reason = "a failed test says where")]

mod rig;

mod blobs;
mod caching;
mod cuts;
mod lies;
mod manifests;
mod redirects;
mod requests;
mod rights;
mod tokens;
