//! A real Kubernetes cluster with Knative Serving on one machine, and the tests that need it.

pub mod cluster;
pub mod components;
pub mod conformance;
pub mod control_plane;
mod dynamic;
pub mod images;
pub mod knative;
pub mod kwok;
pub mod process;
pub mod stdout;
