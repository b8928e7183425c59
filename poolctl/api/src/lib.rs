//! What people write and read: the `Model` and `WarmPool` resources, their labels, and the strict loader of YAML files.
//!
//! A resource exists in two forms. The *wire* types ([`Model`], [`WarmPool`] and their specs) are what the API server
//! stores and a watch decodes; they are lenient, because one odd object must not stop the watch of all the others. The
//! *definitions* ([`ModelDefinition`], [`PoolDefinition`]) are what the rest of the program works with: defaults filled
//! in, durations and quantities parsed, every rule checked. [`ModelDefinition::of`] goes from one to the other and names
//! the field of each problem, so that a file loader can add file and line to it and a controller can put it into a
//! condition.
//!
//! [`strict`] reads directories of files. There nothing is forgiven: the generated CRD schema is walked over the parsed
//! document, so that files and the API server's strict validation refuse the same things.

mod crds;
mod definition;
mod field;
pub mod labels;
mod model;
mod pool;
mod quantity;
pub mod source;
mod status;
pub mod strict;

pub use crds::{CrdFile, crd_files};
pub use definition::{
    Batching, GpuShare, ModelDefinition, PoolDefinition, VariantDefinition, check_namespace, defaults,
};
pub use field::{FieldError, FieldPath};
pub use gateway_policy::{DurationError, format_duration, parse_duration};
pub use model::{BatchingSpec, CostSpec, CpuVariant, GpuVariant, Model, ModelFormat, ModelSpec, Objective, Resources};
pub use pool::{WarmPool, WarmPoolSpec};
pub use quantity::{Amount, Quantity, QuantityError, parse_quantity};
pub use status::{
    ColdStart, Condition, ConditionStatus, ModelStatus, ReplicaCounts, VariantStatus, WarmPoolStatus, condition_type,
    reason,
};

/// API group of the resources.
pub const GROUP: &str = "kferving.dev";
/// API version of the resources.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` as it stands in YAML.
pub const API_VERSION: &str = "kferving.dev/v1alpha1";
