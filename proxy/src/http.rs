//! The HTTP/1.1 server that clients talk to: accept loop, limits, and the way out of the bytes.
//!
//! Invariants:
//! - Bytes of a blob file leave by `sendfile`; no page of a mapping is read here. [`Traffic`] counts
//!   both ways, so a test can tell.
//! - A connection ends with FIN, never RST, as long as the client lets it: what was promised under
//!   Content-Length and cannot be given is cut after everything before it was flushed.
//! - Every connection has a place among a bounded number, an owner ([`serve`]) and deadlines.
//!
//! Deliberately not here: what is answered (the service), TLS and HTTP/2 (not spoken to local
//! clients), bandwidth limits.

mod body;
mod connection;
mod io;
mod listen;
mod server;
mod service;
mod wire;

pub use body::{BodyError, BoxError, ResponseBody, Slices};
pub use listen::bind;
pub use server::{ConnInfo, Limits, serve};
pub use wire::Traffic;
