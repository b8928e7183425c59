//! How many replicas each variant of each model should have, and how replicas come to serve it: as pure decisions.
//!
//! Nothing here does I/O or reads a clock. [`Scaler`] turns what gateways report into a number of replicas per revision;
//! [`claim::State`] turns that number, the replicas that exist and the replies to what was asked into what to do next.

pub mod claim;
mod ids;
mod resources;
mod revision;
mod scaling;

pub use ids::{ClaimId, Digest, GatewayId, ModelKey, RevisionKey, Uid};
pub use resources::{QuantityError, Resources};
pub use revision::{Batching, Placement, Revision, Source};
pub use scaling::{ANNOTATION_PREFIX, AnnotationError, Scaling};

/// How many replicas serve a revision now.
pub trait Fleet {
    /// Replicas of `revision` that requests can be sent to.
    fn ready(&self, revision: &RevisionKey) -> u32;
}
