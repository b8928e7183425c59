//! `poolctl up` and the commands beside it: the real binaries, real models, real sockets.

#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod stack;
#[path = "../tree/mod.rs"]
mod tree;

mod commands;
mod failed_runs;
mod lifecycle;
mod predictions;
mod refusals;
