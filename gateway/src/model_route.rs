//! What the gateway is told about models, by a configuration file or by the model controller.

use std::net::SocketAddr;
use std::time::Duration;

use gateway_policy::Device;

/// One model that the gateway routes to.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRoute {
    /// Namespace of the model.
    pub namespace: String,
    /// Name of the model, unique in its namespace.
    pub name: String,
    /// Grows with each change of the model.
    pub generation: u64,
    /// Deadline of requests that set none, and the longest that a request can ask for.
    pub timeout: Duration,
    /// Time within which a request should be answered: what scoring aims at.
    pub objective: Option<Duration>,
    /// What the control plane can run, one per device at most. Empty with static replicas.
    pub variants: Vec<VariantRoute>,
    /// The recorded answer to `GET /v2/models/NAME`.
    pub metadata: Option<serde_json::Value>,
    /// Set when the model cannot be served, whatever its replicas.
    pub unavailable: Option<Unavailable>,
    /// Replicas that are simply there, from a configuration file.
    pub replicas: Vec<StaticReplica>,
}

/// A variant of a model: what runs on one device class.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantRoute {
    /// The device class.
    pub device: Device,
    /// NAMESPACE/REVISION.
    pub revision: String,
    /// Digest of the model, `sha256:HEX`.
    pub digest: String,
    /// Relative cost per replica-second.
    pub cost: f64,
    /// Requests at a time per replica.
    pub concurrency: u32,
}

/// Why a model cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// A `kferving-reason`, such as `load-failed` or `device-unavailable`.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// A replica that nobody scales.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticReplica {
    /// `http://HOST:PORT`, as people wrote it; names the replica in headers.
    pub url: String,
    /// Where that is.
    pub addr: SocketAddr,
    /// The device class that it runs on.
    pub device: Device,
    /// Relative cost per replica-second.
    pub cost: f64,
    /// Requests at a time; 0 means no limit.
    pub concurrency: u32,
}
