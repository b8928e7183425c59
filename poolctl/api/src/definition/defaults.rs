//! What holds where a resource says nothing.

use std::time::Duration;

/// Deadline of a request: the gateway's own.
pub use gateway_policy::deadline::DEFAULT_TIMEOUT as TIMEOUT;

/// Time without requests after which the last replica goes: Knative's `scale-to-zero-grace-period`.
pub const SCALE_TO_ZERO_AFTER: Duration = Duration::from_secs(30);

/// Name of the pool that a model claims from.
pub const WARM_POOL: &str = "default";

/// Name of the service account that every Kubernetes namespace has.
pub const SERVICE_ACCOUNT: &str = "default";

/// Requests at a time: one runs, the others stand ready behind it, so that a runtime of one thread never waits for the
/// network.
pub const CONTAINER_CONCURRENCY: u32 = 4;

/// Nothing runs for a model that nobody asks.
pub const MIN_REPLICAS: u32 = 0;

/// A model that is asked a lot must not take a whole cluster unless its owner says so.
pub const MAX_REPLICAS: u32 = 10;

/// Rows in a batch: where the throughput of common models on common devices stops growing.
pub const MAX_BATCH_SIZE: u32 = 32;

/// What the first request of a batch waits: small beside the time of a batch that is worth it.
pub const MAX_BATCH_LATENCY: Duration = Duration::from_millis(2);

/// Most idle replicas of a pool.
pub const MAX_POOL_SIZE: u32 = 10;
