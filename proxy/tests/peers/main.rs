//! Bytes between nodes over real sockets: what is given and to whom, and what is taken from whom.

// Helpers outside of test functions may fail loudly too.
#![allow(clippy::unwrap_used)]

mod attending;
mod doors;
mod giving;
mod rig;
mod taking;

#[path = "../front/image.rs"]
#[allow(dead_code, reason = "shared with the tests of the front door")]
mod image;
#[path = "../front/node.rs"]
#[allow(dead_code, reason = "shared with the tests of the front door")]
mod node;
#[path = "../front/origin.rs"]
#[allow(dead_code, reason = "shared with the tests of the front door")]
mod origin;
#[path = "../../../swarm/tests/attend/rig.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the tests of the tracker"
)]
mod supernode;
