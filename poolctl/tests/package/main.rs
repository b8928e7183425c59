//! `poolctl package`: the real program, its images really run and really pushed.

#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod container;
mod registry;
mod support;
#[path = "../tree/mod.rs"]
mod tree;

mod contents;
mod interruption;
mod push;
mod refusals;
mod serving;
