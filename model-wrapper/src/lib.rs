//! The model server: one process, at most one model, the Open Inference Protocol.
//!
//! A pooled wrapper is born idle with its runtime loaded, is specialized once through its admin port and serves that model
//! until it is drained. What decides (the claim lock, the batch, the window, the pace) is pure; threads, sockets and files are
//! at the edge.

pub mod admin;
pub mod cli;
mod end;
pub mod executor;
pub mod front;
pub mod inspect;
pub mod knative;
mod listen;
pub mod metrics;
pub mod serving;

#[cfg(test)]
mod test_runtime;
