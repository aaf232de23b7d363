//! Asking registries: tokens, accounts, endpoints in order, ranges and lies, against a scripted one.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod accounts;
mod blobs;
mod endpoints;
mod limits;
mod rig;
mod tokens;
