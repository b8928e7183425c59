//! How many replicas each variant of each model should have, and how replicas come to serve it: as pure decisions.
//!
//! Nothing here does I/O or reads a clock. [`Scaler`] turns what gateways report into a number of replicas per revision;
//! [`claim::State`] turns that number, the replicas that exist and the replies to what was asked into what to do next.

pub mod claim;
mod demand;
pub mod desired;
#[cfg(feature = "example")]
pub mod example;
mod explain;
mod ids;
mod model_scaler;
pub mod plan;
mod resources;
mod revision;
mod scaler;
mod scaling;
pub mod service;
pub mod windows;

pub use demand::{FORGOTTEN_AFTER, ModelReport, SILENT_AFTER, VariantReport};
pub use explain::{DemandSeen, Explanation, VariantExplanation, Verdict, Why};
pub use ids::{ClaimId, Digest, GatewayId, ModelKey, RevisionKey, Uid};
pub use resources::{QuantityError, Resources};
pub use revision::{Batching, Placement, Revision, Source};
pub use scaler::{Desired, Scaler};
pub use scaling::{ANNOTATION_PREFIX, AnnotationError, Scaling};

/// What there is of a revision now: [`claim::State`] knows.
pub trait Fleet {
    /// Whether all that exists has been seen: before, nothing is decided.
    fn is_known(&self) -> bool;

    /// Replicas of `revision` that requests can be sent to.
    fn ready(&self, revision: &RevisionKey) -> u32;

    /// What keeps further replicas of `revision` from coming up: other devices have to take its load then.
    fn obstacle(&self, revision: &RevisionKey) -> Option<claim::ConditionReason>;
}
