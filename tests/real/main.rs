//! Darner between real clients and a real registry.
//!
//! Upstream is Debian's docker-registry, the clients are containerd, dockerd, podman and skopeo in the versions that
//! Debian's suites have; `scripts/test` brings them here. `docs/TESTING.md` tells how to run one test and how to
//! read a failure. Deliberately not here: anything that one crate can test alone, and bad upstreams that no real
//! registry is (see `oci-conformance`).

mod clients;
mod support;

mod accounts;
mod alone;
mod conformance;
mod crash;
mod full;
mod official;
mod private;
mod pulls;
mod ranges;
mod swarm;
mod switch;
mod tampered;
mod together;
mod view;
