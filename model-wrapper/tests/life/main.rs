//! A wrapper's life from outside: the real binary, real models, its ports, signals and the end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bounds;
mod claims;
mod command;
mod drain;
mod early_stop;
mod failures;
mod knative;
mod lifecycle;
mod optional_inputs;
mod wrapper;
