//! JSON of the admin API, written by `poolctl up` and read by the commands. Extend, do not rename: scripts read it too.

use std::fmt;

use autoscaler_policy::Verdict;
use autoscaler_policy::service::Evidence;
use poolctl_api::{ColdStart, Condition};
use serde::{Deserialize, Serialize};

/// `GET /status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Every model, by namespace and name.
    pub models: Vec<ModelStatus>,
    /// Every pool, by namespace and name.
    pub pools: Vec<PoolStatus>,
}

/// One model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Base address of its V2 endpoint.
    pub url: String,
    /// Ready, and one for each variant.
    pub conditions: Vec<Condition>,
    /// Its variants.
    pub variants: Vec<VariantStatus>,
    /// Requests that wait for a replica.
    pub held: u32,
    /// Requests on replicas.
    pub in_flight: u32,
    /// Requests that were answered since the start, by latency.
    pub latency: LatencyHistogram,
    /// The last time that a replica was brought up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_cold_start: Option<ColdStart>,
}

/// Requests by latency, as a cumulative histogram: the difference of two is that of the time between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyHistogram {
    /// All requests.
    pub count: u64,
    /// By upper bound, ascending.
    pub buckets: Vec<LatencyBucket>,
}

/// Requests up to a latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyBucket {
    /// Upper bound, in milliseconds.
    pub le_ms: f64,
    /// Requests that took at most that.
    pub count: u64,
}

/// One variant of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantStatus {
    /// cpu or gpu.
    pub device: String,
    /// Name of its revision.
    pub revision: String,
    /// Digest of its source; absent where it has none that can be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Replicas that it should have.
    pub desired: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What keeps it from having them, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Replicas that it has.
    pub replicas: Vec<ReplicaStatus>,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// cpu or gpu.
    pub device: String,
    /// Idle replicas that are ready.
    pub idle: u32,
    /// Replicas that it lost to models and that still run.
    pub claimed: u32,
    /// Idle replicas that it should have.
    pub size: u32,
    /// Claims that it served.
    pub hits: u64,
    /// Claims that found it empty.
    pub misses: u64,
    /// Why its last start failed, while starts fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its replicas, those that models claimed left out: they are the models'.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// The name that responses carry as `kferving-replica`.
    pub id: String,
    /// Identity, never reused.
    pub uid: String,
    /// Process id, where it is a process of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What it is doing.
    pub state: ReplicaPhase,
    /// Where it takes predictions, once it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Requests on it.
    pub in_flight: u32,
    /// From its creation until it was ready, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_ms: Option<f64>,
    /// How long it exists, in seconds.
    pub age_seconds: f64,
}

/// What a replica is doing: its label, but for one that is not up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaPhase {
    /// Being started.
    #[default]
    Starting,
    /// Up, in its pool.
    Idle,
    /// Loading a model.
    Claimed,
    /// Takes requests for a model.
    Serving,
    /// Finishes the requests that it has.
    Draining,
    /// Leaves its pool.
    Retired,
    /// Its process has ended.
    Exited,
}

impl fmt::Display for ReplicaPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// `GET /explain/NAMESPACE/MODEL?bytes=N`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The model as `GET /status` has it.
    pub model: ModelStatus,
    /// Why it has these replicas; absent before the autoscaler's first look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanExplanation>,
    /// What the gateway would do with the next request.
    pub next_request: NextRequest,
}

/// What the autoscaler weighed: what gateways last reported, where [`ModelStatus`] has what is so now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanExplanation {
    /// How old the gateways' reports are, in seconds, the oldest counting; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_age_seconds: Option<f64>,
    /// Requests that waited for a replica then; the first one that waits is told at once.
    pub held: u32,
    /// Requests that were on replicas then.
    pub in_flight: u32,
    /// Seconds since the last request; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<f64>,
    /// Gateways that do not report now: while there is one, nothing is scaled down.
    pub silent_gateways: usize,
    /// Latency per request that is aimed at, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective_ms: Option<f64>,
    /// Average concurrency over the stable window.
    pub stable_concurrency: f64,
    /// Average concurrency over the panic window, with what held requests need now.
    pub panic_concurrency: f64,
    /// Whether a burst is under way: nothing is scaled down.
    pub panicking: bool,
    /// What can be said of the mix that was chosen and the objective.
    pub fit: Verdict,
    /// Every mix of replicas that was weighed.
    pub alternatives: Vec<Alternative>,
    /// The variants.
    pub variants: Vec<VariantPlan>,
}

/// A mix of replicas that was weighed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alternative {
    /// Replicas on cpu.
    pub cpu: u32,
    /// Replicas on gpu.
    pub gpu: u32,
    /// Cost per second.
    pub cost: f64,
    /// Whether they carry the load.
    pub carries: bool,
    /// Whether it is the one that was chosen.
    pub chosen: bool,
}

/// What is wanted of one variant, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantPlan {
    /// cpu or gpu.
    pub device: String,
    /// Name of its revision, as [`VariantStatus`] has it.
    pub revision: String,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas that it should have.
    pub desired: u32,
    /// Replicas at least.
    pub min: u32,
    /// Replicas at most.
    pub max: u32,
    /// Why that many, in one word.
    pub why: String,
    /// Mean service time, in milliseconds.
    pub service_ms: f64,
    /// Where that comes from.
    pub evidence: Evidence,
    /// Concurrency that one replica should have.
    pub target_concurrency: f64,
    /// Relative cost of one replica for one second.
    pub cost: f64,
    /// Why it cannot have replicas, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// What the gateway would do with the next request of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextRequest {
    /// Length of its body, in bytes.
    pub request_bytes: u64,
    /// Time within which it should be answered, in milliseconds.
    pub target_ms: f64,
    /// What would become of it.
    pub outcome: Outcome,
    /// Where it would go; absent when it would go nowhere at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Why: a `kferving-reason`, or `cold` where a replica would be brought up for it.
    pub reason: String,
    /// Why it would be refused, for people; absent when it would not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What would bring up a replica, where none is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<ColdPath>,
    /// What it would cost on each device.
    pub devices: Vec<DeviceCost>,
}

/// What would become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It would go to a replica at once.
    Sent,
    /// It would wait until a replica is up.
    ColdStart,
    /// It would wait until a replica has room.
    Held,
    /// It would be refused at once.
    Refused,
}

/// How a model at zero would get its first replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColdPath {
    /// The pool that it claims from.
    pub pool: String,
    /// Idle replicas there now: with none, a replica is started.
    pub idle: u32,
    /// What it took the last time, in milliseconds; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<f64>,
}

/// What a request would cost on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceCost {
    /// cpu or gpu.
    pub device: String,
    /// Whether a replica is up.
    pub active: bool,
    /// Time on the least busy replica, in milliseconds.
    pub predicted_ms: f64,
    /// Whether that is measured, or a guess until a request of about this size was answered.
    pub measured: bool,
    /// Time until a replica is up, in milliseconds, from the last time; absent on a device that is up or never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_ms: Option<f64>,
    /// Relative cost of one replica for one second.
    pub cost: f64,
    /// Requests on its replicas.
    pub in_flight: u32,
    /// Requests that its replicas take at a time.
    pub concurrency: u32,
}

/// An error of the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For people.
    pub error: String,
}
