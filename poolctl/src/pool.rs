//! Warm pools: idle replicas that wait to be claimed.
//!
//! [`placement`] turns WarmPool definitions and the models that claim from them into pools; [`state::PoolState`] decides,
//! as a pure state machine, what to create, retire and sweep; [`controller`] carries it out on a
//! [`poolctl_cluster::Cluster`].
//!
//! The controller makes its replicas itself. A set that counts and deletes by its own rules (a ReplicaSet, say) deletes
//! replicas that were claimed a moment ago when it shrinks.

pub mod controller;
mod metrics;
pub mod placement;
pub mod state;

pub use controller::{PoolController, PoolStatus};
pub use placement::{PoolKey, PoolSpec, Sizing};
