//! Clusters: the behaviour that all adapters share, each adapter's own, and the fault layer.
#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod behaviour;
mod faults;
mod local;
