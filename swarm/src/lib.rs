//! One blob, many sources: where bytes come from, where they are kept, and how readers follow them.
//!
//! The way of the bytes is one direction: source, store, reader. Nothing here serves HTTP.

pub mod source;

pub use source::{Cause, Fault, FetchRange, Fetched, Origin, PieceSource, SourceError};
