//! What a cluster does to this machine, and what it survives. Run by `make e2e`, as root: not part of `cargo test`, because each
//! test starts a whole cluster or stops parts of one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cli;
mod leave_nothing;
mod ready;
mod survive;
mod traces;
