//! The `Model` resource as the API server stores it.

// the schema derive copies each type into a function, where `pub` reaches nothing; printcolumns repeat their keys
#![allow(unreachable_pub, clippy::duplicated_attributes)]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Quantity;
use crate::status::ModelStatus;

/// A model, served on the devices that it has a variant for.
#[derive(Clone, Debug, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "kferving.dev",
    version = "v1alpha1",
    kind = "Model",
    namespaced,
    doc = "A model, served on the devices that it has a variant for.",
    derive = "PartialEq",
    status = "ModelStatus",
    shortname = "kfm",
    category = "kferving",
    validation = Rule::new("size(self.metadata.name) <= 53")
        .message("a model's name has at most 53 characters, so that the names of its revisions fit into a label"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cpu) || has(self.gpu)")
        .message("at least one variant is required: cpu, gpu or both"),
    validation = Rule::new("has(self.storageUri) || ((!has(self.cpu) || has(self.cpu.storageUri)) && (!has(self.gpu) || has(self.gpu.storageUri)))")
        .message("storageUri is required, here or in every variant"),
)]
pub struct ModelSpec {
    /// Format of the model. Left out, it is taken from the ending of storageUri: .onnx is onnx; .pt, .ts and
    /// .torchscript are torchscript; .py is python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "format_schema")]
    pub model_format: Option<String>,

    /// Where the model is, as a URI: s3://, gs://, az://, https://, hf://, oci://, pvc:// or file://; in a models directory
    /// also a path relative to the YAML file. `poolctl up` loads file:// and such paths only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,

    /// SHA-256 of the model in hexadecimal digits; when given, a model with another digest is not loaded. A folder's is
    /// that of its sorted manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "sha256_schema")]
    pub sha256: Option<String>,

    /// The variant that runs on host processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuVariant>,

    /// The variant that runs on a GPU or a fraction of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuVariant>,

    /// What the choice of a replica aims at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,

    /// Deadline of a request whose caller sets none, and the longest that a caller may ask for. Default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("self > duration('0s')").message("expected a duration above zero"))]
    pub timeout: Option<String>,

    /// Relative cost of the variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostSpec>,

    /// How requests are put together into batches. Left out, they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batching: Option<BatchingSpec>,

    /// How long after the last request the last replica goes. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    pub scale_to_zero_after: Option<String>,

    /// Name of the WarmPool whose replicas it claims. Default: default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub warm_pool: Option<String>,
}

/// A variant on host processors.
#[derive(Clone, Debug, Default, PartialEq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas")
        .message("minReplicas must not be above maxReplicas"),
)]
pub struct CpuVariant {
    /// What one replica requests and may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Requests at a time on one replica. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub container_concurrency: Option<i32>,

    /// Replicas that stay without any request. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: Option<i32>,

    /// Most replicas. Default 10, or minReplicas where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<i32>,

    /// Source of this variant, where it differs from the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,

    /// SHA-256 of this variant's source, where it differs from the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "sha256_schema")]
    pub sha256: Option<String>,
}

/// A variant on a GPU.
#[derive(Clone, Debug, Default, PartialEq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas")
        .message("minReplicas must not be above maxReplicas"),
)]
pub struct GpuVariant {
    /// Part of one GPU, above 0 and up to 1; rounded up to slots of kferving.dev/gpu-share. Default "1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(0?\.[0-9]{1,3}|1(\.0{1,3})?)$"))]
    pub fraction: Option<String>,

    /// GPU memory of one replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,

    /// What one replica requests and may use besides the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Requests at a time on one replica. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub container_concurrency: Option<i32>,

    /// Replicas that stay without any request. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: Option<i32>,

    /// Most replicas. Default 10, or minReplicas where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<i32>,

    /// Source of this variant, where it differs from the model's: an fp16 export, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_uri: Option<String>,

    /// SHA-256 of this variant's source, where it differs from the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "sha256_schema")]
    pub sha256: Option<String>,
}

/// Resources of one replica, as in a container of a pod.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What it is given, by resource name. A warm replica is claimed only if it has at least this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,

    /// What it may use, by resource name. The runtime starts as many threads as cpu allows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
}

/// What the choice of a replica aims at.
#[derive(Clone, Debug, Default, PartialEq, KubeSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Time of one request. Of the replicas predicted to keep it the cheapest is chosen; if none is, the fastest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    #[x_kube(validation = Rule::new("self > duration('0s')").message("expected a duration above zero"))]
    pub latency: Option<String>,
}

/// Relative cost of one replica for one second.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CostSpec {
    /// Of the cpu variant. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub cpu: Option<f64>,

    /// Of the gpu variant. Default 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub gpu: Option<f64>,
}

/// How requests are put together into batches.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchingSpec {
    /// Most rows in one batch. Default 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_batch_size: Option<i32>,

    /// Longest that the first request of a batch waits for others. Default 2ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration_schema")]
    pub max_latency: Option<String>,
}

/// Format of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelFormat {
    /// ONNX.
    Onnx,
    /// TorchScript.
    TorchScript,
    /// A Python function.
    Python,
}

impl ModelFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Onnx, Self::TorchScript, Self::Python];

    /// The name as it stands in YAML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::TorchScript => "torchscript",
            Self::Python => "python",
        }
    }

    /// The format that the ending of `storage_uri` makes plain.
    #[must_use]
    pub fn of_uri(storage_uri: &str) -> Option<Self> {
        let (_, ending) = storage_uri.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "onnx" => Some(Self::Onnx),
            "pt" | "ts" | "torchscript" => Some(Self::TorchScript),
            "py" => Some(Self::Python),
            _ => None,
        }
    }
}

impl std::str::FromStr for ModelFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(())
    }
}

/// `modelFormat` is text on the wire, so that an object with a format of a later version does not stop a watch.
fn format_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "nullable": true, "enum": ModelFormat::ALL.map(ModelFormat::as_str)})
}

fn sha256_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "nullable": true, "pattern": "^[0-9a-fA-F]{64}$"})
}

/// The API server parses `format: duration` and compares it as a duration in CEL rules.
fn duration_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "nullable": true, "format": "duration"})
}
