//! Black-box checks of registries and mirrors, with an origin of their own.
//!
//! Shares no code with what it tests: digests, request heads and ranges are read here a second
//! time, so that a mistake in one reading is seen by the other. [`checks`] has the rows, each with
//! the clause it stands on; [`runner`] runs them against a [`stage::Scene`]; the scripted
//! [`origin`] serves what a check gives it and misbehaves as told.
//!
//! This is not the certification programme of the Open Container Initiative, whose repository has
//! the same name, and not its conformance suite.

mod check;
pub mod checks;
pub mod client;
pub mod origin;
pub mod raw;
pub mod report;
pub mod runner;
pub mod setup;
pub mod stage;

pub use check::{Category, Check, Finding, Level, Stop};
pub use origin::{Ask, Fault, Gate, Image, Origin, Seen};
