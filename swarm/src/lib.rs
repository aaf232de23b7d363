//! One blob, many sources: where bytes come from, where they are kept, and how readers follow them.
//!
//! The way of the bytes is one direction: source, store, reader. Nothing here serves HTTP.

pub mod attend;
mod checks;
pub mod engine;
mod flight;
mod hashing;
mod held;
mod offer;
pub mod piece;
pub mod reader;
pub mod source;
pub mod store;
pub mod tracker;
mod transfer;
pub mod wire;

pub use attend::{AttendOptions, Attendance, Preheat, SupernodeStatus, Verdict};
pub use engine::{Engine, EngineOptions, EngineStats, FlightScope, FlightView, Want};
pub use offer::Offer;
pub use piece::{Layout, PieceDigest, PieceIndex};
pub use reader::{BlobReader, BlobStream, How, ReadError};
pub use source::{Cause, Fault, FetchRange, Fetched, Origin, PieceSource, SourceError};
pub use store::{
    BlobFile, BlobStore, ByteSet, DiskStore, HeldBlob, Limits, MemoryStore, PartialBlob, ScopeTag,
    Slice, StoreError, Usage,
};
pub use tracker::{Peer, PeerId, PeerMaker, Tracker};
