//! The `WarmPool` resource as the API server stores it.

// the schema derive copies each type into a function, where `pub` reaches nothing; printcolumns repeat their keys
#![allow(unreachable_pub, clippy::duplicated_attributes)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::model::Resources;
use crate::status::WarmPoolStatus;

/// A pool of idle replicas that any model of its namespace may claim.
#[derive(Clone, Debug, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "kferving.dev",
    version = "v1alpha1",
    kind = "WarmPool",
    namespaced,
    doc = "A pool of idle replicas that any model of its namespace may claim.",
    derive = "PartialEq",
    status = "WarmPoolStatus",
    shortname = "wpool",
    category = "kferving",
    scale(spec_replicas_path = ".spec.minSize", status_replicas_path = ".status.size"),
    printcolumn(name = "Device", type_ = "string", json_path = ".spec.device"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.size"),
    printcolumn(name = "Idle", type_ = "integer", json_path = ".status.idle"),
    printcolumn(name = "Claimed", type_ = "integer", json_path = ".status.claimed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.maxSize) || self.minSize <= self.maxSize")
        .message("minSize must not be above maxSize"),
)]
pub struct WarmPoolSpec {
    /// Device class of its replicas: cpu or gpu. Default cpu.
    #[serde(default = "default_device")]
    #[schemars(schema_with = "device_schema")]
    pub device: String,

    /// What one replica requests and may use: models that request more cannot claim it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Idle replicas that it keeps at least. Default 1.
    #[serde(default = "default_min_size")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_size: i32,

    /// Idle replicas that it keeps at most. Default 10, or minSize where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_size: Option<i32>,

    /// Service account that its replicas run as. Default: default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}

fn default_device() -> String {
    "cpu".to_owned()
}

const fn default_min_size() -> i32 {
    1
}

fn device_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "enum": ["cpu", "gpu"]})
}
