//! The autoscaler: how many replicas each revision has, and which.
//!
//! It observes the cluster and the gateways' demand, asks the pure policies of `autoscaler-policy` what follows, and does
//! that. The way from a held request to the write of a claim and the call that loads the model has no queue, no tick and
//! no other task in it; everything that can wait starts after it.

mod admin;
mod autoscaler;
mod demand;
mod effects;
mod explain;
mod leader;
mod metrics;
#[cfg(test)]
mod readme;
mod settings;
mod status;
mod translate;

pub use admin::ReplicaAdmin;
pub use autoscaler::Autoscaler;
pub use explain::{AlternativeExplanation, DeviceCounts, PlanExplanation, ScaleExplanation, VariantScale};
pub use settings::{EffectLimits, Settings};
pub use status::{
    ActivationStatus, AutoscalerStatus, ConditionStatus, GatewayStatus, PoolUse, ReplicaStatus, RevisionStatus,
};
