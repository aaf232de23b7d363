//! The front door from outside: a real node, a small registry behind it, plain HTTP on both sides.

// Helpers outside of test functions may fail loudly too.
#![allow(clippy::unwrap_used)]

mod image;
#[allow(dead_code, reason = "shared with the tests of the peer port")]
mod node;
mod origin;

mod manifests;
mod offline;
mod pull;
mod ranges;
mod refusals;
mod rights;
mod rotten;
