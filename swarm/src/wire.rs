//! The wire between node and supernode, as made from `proto/swarm.proto`, and nothing else.

#![allow(missing_docs, unreachable_pub, clippy::too_many_lines)]

tonic::include_proto!("darner.swarm.v1");
