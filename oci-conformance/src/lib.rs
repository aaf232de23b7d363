//! Black-box checks of registries and mirrors, with an origin of their own.
//!
//! Shares no code with what it tests: digests, request heads and ranges are read here a second
//! time, so that a mistake in one reading is seen by the other. It begins with the scripted
//! [`origin`], which serves what a test gives it and misbehaves as told; the runner comes later.

pub mod origin;
pub mod raw;

pub use origin::{Ask, Fault, Gate, Image, Origin, Seen};
