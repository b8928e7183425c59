//! JSON bodies of the admin port. Field names are part of the contract: extend, do not rename.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /specialize`: load this model and serve it as this revision.
///
/// Idempotent per `claim_id`: repeated, it answers 200 again. With another claim id than the one held it answers 409.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecializeRequest {
    /// The claim.
    pub claim_id: String,
    /// Uid of the replica that is meant; another replica at this address refuses.
    pub pod_uid: String,
    /// NAMESPACE/REVISION
    pub revision: String,
    /// Digest of the model, `sha256:HEX`; checked before it is loaded.
    pub digest: String,
    /// Where the model is and what it is.
    pub model: ModelSource,
    /// Requests at a time; 0 means no limit of its own.
    pub container_concurrency: u32,
    /// Longest that a request may take, in milliseconds.
    pub timeout_ms: u64,
    /// Limits that the wrapper enforces, by name (`maxBodyBytes`, `memoryBytes`, `maxBatchSize`, `maxBatchLatencyUs`, `queueLength`,
    /// `intraThreads`).
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
}

/// A model's source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSource {
    /// Where it is: `file:///path/model.onnx`.
    pub uri: String,
    /// onnx, torchscript or python.
    pub format: String,
    /// The name it is served under.
    pub name: String,
    /// Runtime configuration by name.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// How long the parts of a specialize call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Phases {
    /// Getting the model's bytes and checking their digest.
    pub fetch_us: u64,
    /// Creating the runtime's session.
    pub load_us: u64,
    /// The whole call, as the wrapper saw it.
    pub total_us: u64,
}

/// 200 to `POST /specialize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecializeResponse {
    /// The claim it now holds.
    pub claim_id: String,
    /// Time by phase, of the call that loaded the model.
    pub phases: Phases,
    /// The model's metadata, as `GET /v2/models/NAME` answers it.
    pub metadata: serde_json::Value,
}

/// 409 to `POST /specialize`: another claim holds this wrapper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConflictResponse {
    /// For people.
    pub error: String,
    /// The claim that holds it.
    pub claim_id: String,
    /// The revision that it holds.
    pub revision: String,
}

/// What a wrapper is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WrapperState {
    /// No model, no claim.
    Idle,
    /// A claim holds it and its model is being loaded.
    Loading,
    /// It serves its model.
    Serving,
    /// Loading failed: it serves nothing and takes no other claim.
    Failed,
    /// It takes no new requests.
    Draining,
}

/// 200 to `GET /state`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateResponse {
    /// What it is doing.
    pub state: WrapperState,
    /// Uid that it was started with; absent where it was not told one.
    pub pod_uid: Option<String>,
    /// The claim that holds it.
    pub claim_id: Option<String>,
    /// NAMESPACE/REVISION that it holds.
    pub revision: Option<String>,
    /// Digest of the model that it holds.
    pub digest: Option<String>,
    /// Why loading failed.
    pub error: Option<String>,
    /// Time by phase, once loaded.
    pub phases: Option<Phases>,
    /// The model's metadata, once loaded.
    pub metadata: Option<serde_json::Value>,
    /// Requests running or queued now.
    pub in_flight: u32,
}

/// 200 to `GET /wait-for-drain`: no request is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainResponse {
    /// How long it took.
    pub drained_after_ms: u64,
}

/// Body of every error but 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// For people.
    pub error: String,
}
