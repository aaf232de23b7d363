//! The HTTP server on real sockets: what leaves by sendfile, how connections end, what is refused.
#![expect(clippy::unwrap_used, reason = "a failed test says where")]

mod http {
    mod bytes;
    mod endings;
    mod limits;
    mod rig;
}
