//! What the controllers write back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Types of conditions.
pub mod condition_type {
    /// The model can answer, from zero too.
    pub const READY: &str = "Ready";
    /// The cpu variant can run.
    pub const CPU_READY: &str = "CpuReady";
    /// The gpu variant can run.
    pub const GPU_READY: &str = "GpuReady";
}

/// Reasons of conditions.
pub mod reason {
    /// All is well.
    pub const LOADABLE: &str = "Loadable";
    /// The model's source was not found, is refused, has another digest, or the runtime could not load it.
    pub const LOAD_FAILED: &str = "LoadFailed";
    /// Replicas end soon after they have begun to serve it.
    pub const CRASH_LOOPING: &str = "CrashLooping";
    /// The machine or cluster has no device of the variant's class.
    pub const DEVICE_UNAVAILABLE: &str = "DeviceUnavailable";
}

/// Status of a condition, as Kubernetes writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be told.
    Unknown,
}

impl ConditionStatus {
    /// The word that Kubernetes uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One aspect of a resource's state, in the form of `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect: Ready, CpuReady or GpuReady.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word: Loadable, LoadFailed, CrashLooping or DeviceUnavailable.
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: Time,
}

impl Condition {
    /// A condition that took this status at `since`.
    #[must_use]
    pub fn new(type_: &str, status: ConditionStatus, reason: &str, since: std::time::SystemTime) -> Self {
        Self {
            type_: type_.to_owned(),
            status,
            reason: reason.to_owned(),
            message: String::new(),
            // a clock before the year -9999 or after 9999 is no clock
            last_transition_time: Time(Timestamp::try_from(since).unwrap_or_default()),
        }
    }

    /// The same with a message for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }
}

/// `status` of a Model.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Base address of the model's endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Ready, and one for each variant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The variants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<VariantStatus>,
    /// The last time that a replica was brought up for a waiting request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_cold_start: Option<ColdStart>,
}

/// One variant of a model.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantStatus {
    /// cpu or gpu.
    pub device: String,
    /// Name of its newest revision.
    pub revision: String,
    /// Digest of the source that the revision was made from, `sha256:HEX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Replicas that it should have.
    pub desired: i32,
    /// Replicas that it has.
    #[serde(default)]
    pub replicas: ReplicaCounts,
}

/// Replicas of a variant by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaCounts {
    /// Owned by a claim, not serving yet.
    #[serde(default)]
    pub claimed: i32,
    /// Serving.
    #[serde(default)]
    pub serving: i32,
    /// Finishing its last requests.
    #[serde(default)]
    pub draining: i32,
}

/// Phases of one cold start, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdStart {
    /// The pause after an attempt that had failed, before another was made.
    #[serde(default)]
    pub backoff_ms: f64,
    /// Finding a replica and writing the claim; the whole start of a process or pod where the pool was empty.
    pub claim_ms: f64,
    /// Handing the model to the replica.
    pub specialize_ms: f64,
    /// Loading the model in the replica.
    pub load_ms: f64,
}

/// `status` of a WarmPool.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmPoolStatus {
    /// Idle replicas that it should have now.
    #[serde(default)]
    pub size: i32,
    /// Idle replicas that are ready.
    #[serde(default)]
    pub idle: i32,
    /// Replicas that it lost to models and that still run.
    #[serde(default)]
    pub claimed: i32,
    /// Claims that it served.
    #[serde(default)]
    pub hits: i64,
    /// Claims that found it empty.
    #[serde(default)]
    pub misses: i64,
    /// Conditions of the pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
