//! Writes through a node, against the scripted registry that keeps to the specification: each way
//! of pushing and deleting, what is believed after it, and what must not work.

// Helpers outside of test functions may fail loudly too.
#![allow(clippy::unwrap_used)]

#[path = "../bad_input/rig.rs"]
#[allow(dead_code, reason = "shared with the tests of bad input")]
mod rig;

mod bodies;
mod client;
mod lists;
mod locations;
mod manifests;
mod rights;
mod uploads;
