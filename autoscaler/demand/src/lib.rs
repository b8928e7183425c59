//! The demand stream between gateways and the autoscaler: messages, client and server of one gRPC method.
//!
//! It is its own crate because both ends need it and neither may depend on the other. The embedded stack speaks it too,
//! over a Unix socket, so that one machine runs the code that a cluster runs.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    tonic::include_proto!("kferving.demand.v1");
}

pub use generated::*;
