//! What can be scaled: one variant of one model, at one digest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_policy::Device;

use crate::ids::{Digest, ModelKey, RevisionKey};
use crate::resources::Resources;
use crate::scaling::Scaling;

/// One variant of one model at one digest: what replicas are claimed for.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// The model; its revisions on other devices share its demand.
    pub model: ModelKey,
    /// `NAMESPACE/REVISION`. Of several revisions of one model on one device the last by name gets the demand.
    pub key: RevisionKey,
    /// Uid of the revision object, for the Knative labels.
    pub uid: Arc<str>,
    /// Knative Service that the revision belongs to.
    pub service: Arc<str>,
    /// The device class it runs on.
    pub device: Device,
    /// Why this device cannot be had here, for people: it then has no replicas and the condition `device-unavailable`.
    pub unavailable: Option<Arc<str>>,
    /// Digest of the model.
    pub digest: Digest,
    /// Where the model is and what it is.
    pub source: Source,
    /// Requests at a time on one replica; 0 sets no limit.
    pub container_concurrency: u32,
    /// Replicas that always exist.
    pub min_replicas: u32,
    /// Replicas that may exist at most.
    pub max_replicas: u32,
    /// Where replicas come from.
    pub placement: Placement,
    /// Relative cost of one replica for one second.
    pub cost: f64,
    /// Latency per request that the plan aims at.
    pub objective: Option<Duration>,
    /// Longest that one request may take.
    pub timeout: Duration,
    /// Time without a request after which the last replica goes.
    pub scale_to_zero_after: Duration,
    /// How requests are batched.
    pub batching: Option<Batching>,
    /// How demand becomes a number of replicas.
    pub scaling: Scaling,
}

/// A model's source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Where it is, such as `file:///models/digits.onnx`.
    pub uri: Arc<str>,
    /// onnx, torchscript or python.
    pub format: Arc<str>,
    /// The name it is served under.
    pub name: Arc<str>,
    /// Runtime configuration by name.
    pub config: BTreeMap<String, String>,
}

/// What a replica must be like to serve a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Warm pool to claim from; none starts every replica cold.
    pub pool: Option<Arc<str>>,
    /// Service account it must run as.
    pub service_account: Arc<str>,
    /// Version of the contract between wrapper and autoscaler that it must speak.
    pub contract: Arc<str>,
    /// Resources it must have.
    pub resources: Resources,
}

/// Batching of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batching {
    /// Requests in a batch at most.
    pub max_batch_size: u32,
    /// Longest that a request waits for others.
    pub max_latency: Duration,
}
