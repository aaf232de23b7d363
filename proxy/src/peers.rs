//! Bytes between nodes: the port at which a node gives pieces of shared blobs, and how it gets them
//! from others.
//!
//! Both sides speak registry GET with Range over kept-alive HTTP/1.1, because that is what a store
//! can answer by `sendfile` and what costs the least. Three things are ours: the repository is called
//! `swarm`, whatever registry the blob came from; `hold` says how many milliseconds a request may
//! wait for a piece that has not come yet; `order` says which request goes first when not all can.
//!
//! Invariants: nothing is given but what the engine offers, so nothing private; a request never makes
//! a node fetch; no credential is read, sent or logged, and no forward proxy is used.
//! Deliberately not here: who fetches what from whom (`swarm`, the supernode), and TLS. TLS between
//! nodes wraps the socket in `link` and `http::serve`; a ticket becomes a line of the request in
//! `http_peer` and a check in `serve`, before the offer is looked up.

mod buffer;
mod head;
mod http_peer;
mod link;
mod net;
mod port;
mod serve;
mod turns;

pub use http_peer::Peers;
pub use port::PEER_PORT;
pub(crate) use port::listen_at;
pub use serve::{GiveOptions, Giver};

/// Where pieces of a blob are had: the digest follows.
const BLOBS: &str = "/v2/swarm/blobs/";
/// Where it is told which bytes of a blob are there: the digest follows.
const PRESENT: &str = "/v2/swarm/present/";
/// The header of that answer that names the blob's length in bytes.
const TOTAL: &str = "darner-total";
