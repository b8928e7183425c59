//! Resources with defaults filled in, values parsed and every rule checked.

mod checks;
pub mod defaults;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use autoscaler_policy::Scaling;
use gateway_policy::Device;

use crate::field::{FieldError, FieldPath};
use crate::model::{CpuVariant, GpuVariant, Model, ModelFormat, Resources};
use crate::pool::WarmPool;
use crate::quantity::Amount;
pub use checks::check_namespace;

use checks::Checks;

/// A model that follows every rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDefinition {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Deadline of a request whose caller sets none, and the longest that a caller may ask for.
    pub timeout: Duration,
    /// What scoring aims at, per request; `None` aims at the deadline alone.
    pub objective: Option<Duration>,
    /// How long after the last request the last replica goes.
    pub scale_to_zero_after: Duration,
    /// The WarmPool whose replicas it claims.
    pub warm_pool: String,
    /// How requests are put together into batches; `None`: they are not.
    pub batching: Option<Batching>,
    /// How demand becomes a number of replicas, from `autoscaling.knative.dev` annotations.
    pub scaling: Scaling,
    /// Its variants, at most one for each device, at least one.
    pub variants: Vec<VariantDefinition>,
}

/// A model on one class of devices.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantDefinition {
    /// The class of devices.
    pub device: Device,
    /// Format of the source.
    pub format: ModelFormat,
    /// Where the source is, as written.
    pub storage_uri: String,
    /// Digest that the source must have, 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// What one replica is given, by resource name.
    pub requests: BTreeMap<String, Amount>,
    /// Threads that the runtime may start for one replica, from the cpu limit; `None` leaves it to the runtime.
    pub threads: Option<u32>,
    /// Requests at a time on one replica.
    pub concurrency: u32,
    /// Replicas that stay without any request.
    pub min_replicas: u32,
    /// Most replicas.
    pub max_replicas: u32,
    /// Relative cost of one replica for one second.
    pub cost: f64,
    /// The share of a GPU, of a gpu variant.
    pub gpu: Option<GpuShare>,
}

/// Part of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuShare {
    /// Thousandths of one GPU, 1 to 1000.
    pub milli: u16,
    /// Memory of one replica.
    pub memory: Option<Amount>,
}

/// How requests are put together into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most rows in one batch.
    pub max_batch_size: u32,
    /// Longest that the first request of a batch waits for others.
    pub max_latency: Duration,
}

/// A pool that follows every rule.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolDefinition {
    /// Its namespace. A pool in a models directory may leave it out: then every namespace whose models claim from a pool
    /// of this name has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Class of devices of its replicas.
    pub device: Device,
    /// What one replica is given, by resource name.
    pub requests: BTreeMap<String, Amount>,
    /// Idle replicas that it keeps at least.
    pub min_size: u32,
    /// Idle replicas that it keeps at most.
    pub max_size: u32,
    /// Service account that its replicas run as.
    pub service_account: String,
}

impl ModelDefinition {
    /// The definition of `model`; one that names no namespace is in `namespace`.
    ///
    /// # Errors
    /// Every problem, each with its field.
    pub fn of(model: &Model, namespace: &str) -> Result<Self, Vec<FieldError>> {
        let mut checks = Checks::default();
        let name = model.metadata.name.clone().unwrap_or_default();
        let namespace = model.metadata.namespace.clone().unwrap_or_else(|| namespace.to_owned());
        checks.name(&name, checks::MAX_MODEL_NAME);
        checks.namespace(&namespace);

        let spec = &model.spec;
        let root = FieldPath::of(&["spec"]);
        let mut variants = Vec::new();
        for source in [spec.cpu.as_ref().map(VariantSource::Cpu), spec.gpu.as_ref().map(VariantSource::Gpu)] {
            variants.extend(source.and_then(|source| variant(&mut checks, model, &source)));
        }
        if spec.cpu.is_none() && spec.gpu.is_none() {
            checks.fail(root.clone(), checks::NO_VARIANT);
        }
        let objective = spec.objective.as_ref().and_then(|objective| objective.latency.as_deref());
        let definition = Self {
            namespace,
            name,
            timeout: checks
                .positive_duration(root.child("timeout"), spec.timeout.as_deref())
                .unwrap_or(defaults::TIMEOUT),
            objective: checks.positive_duration(root.child("objective").child("latency"), objective),
            scale_to_zero_after: checks
                .duration(root.child("scaleToZeroAfter"), spec.scale_to_zero_after.as_deref())
                .unwrap_or(defaults::SCALE_TO_ZERO_AFTER),
            warm_pool: spec.warm_pool.clone().unwrap_or_else(|| defaults::WARM_POOL.to_owned()),
            batching: spec.batching.as_ref().map(|batching| {
                let path = root.child("batching");
                Batching {
                    max_batch_size: checks
                        .integer(path.child("maxBatchSize"), batching.max_batch_size, 1..=65_536)
                        .unwrap_or(defaults::MAX_BATCH_SIZE),
                    max_latency: checks
                        .duration(path.child("maxLatency"), batching.max_latency.as_deref())
                        .unwrap_or(defaults::MAX_BATCH_LATENCY),
                }
            }),
            scaling: checks.scaling(model.metadata.annotations.as_ref()),
            variants,
        };
        checks.finish(definition)
    }

    /// The variant for `device`.
    #[must_use]
    pub fn variant(&self, device: Device) -> Option<&VariantDefinition> {
        self.variants.iter().find(|variant| variant.device == device)
    }
}

impl PoolDefinition {
    /// The definition of `pool`.
    ///
    /// # Errors
    /// Every problem, each with its field.
    pub fn of(pool: &WarmPool) -> Result<Self, Vec<FieldError>> {
        let mut checks = Checks::default();
        let name = pool.metadata.name.clone().unwrap_or_default();
        let namespace = pool.metadata.namespace.clone();
        checks.name(&name, checks::MAX_NAME);
        if let Some(namespace) = &namespace {
            checks.namespace(namespace);
        }

        let spec = &pool.spec;
        let root = FieldPath::of(&["spec"]);
        let device = spec.device.parse().unwrap_or_else(|error: gateway_policy::ParseDeviceError| {
            checks.fail(root.child("device"), error.to_string());
            Device::Cpu
        });
        let sizes = 0..=1000;
        let min_size = checks.integer(root.child("minSize"), Some(spec.min_size), sizes.clone()).unwrap_or(0);
        let max_size = checks
            .integer(root.child("maxSize"), spec.max_size, sizes)
            .unwrap_or(defaults::MAX_POOL_SIZE.max(min_size));
        if min_size > max_size {
            checks.fail(root.clone(), checks::POOL_BOUNDS);
        }
        let (requests, _) = checks.resources(&root.child("resources"), spec.resources.as_ref());
        let definition = Self {
            namespace,
            name,
            device,
            requests,
            min_size,
            max_size,
            service_account: spec.service_account_name.clone().unwrap_or_else(|| defaults::SERVICE_ACCOUNT.to_owned()),
        };
        checks.finish(definition)
    }

    /// The pool called `default` where nobody describes it, with this many idle replicas.
    #[must_use]
    pub fn implied(size: u32) -> Self {
        Self {
            namespace: None,
            name: defaults::WARM_POOL.to_owned(),
            device: Device::Cpu,
            requests: BTreeMap::new(),
            min_size: size,
            max_size: size,
            service_account: defaults::SERVICE_ACCOUNT.to_owned(),
        }
    }
}

/// The variants' wire types have most fields in common.
enum VariantSource<'a> {
    Cpu(&'a CpuVariant),
    Gpu(&'a GpuVariant),
}

/// The fields that variants of every device have.
struct CommonFields<'a> {
    resources: Option<&'a Resources>,
    container_concurrency: Option<i32>,
    min_replicas: Option<i32>,
    max_replicas: Option<i32>,
    storage_uri: Option<&'a str>,
    sha256: Option<&'a str>,
}

impl VariantSource<'_> {
    const fn device(&self) -> Device {
        match self {
            Self::Cpu(_) => Device::Cpu,
            Self::Gpu(_) => Device::Gpu,
        }
    }

    fn common(&self) -> CommonFields<'_> {
        macro_rules! fields {
            ($variant:expr) => {
                CommonFields {
                    resources: $variant.resources.as_ref(),
                    container_concurrency: $variant.container_concurrency,
                    min_replicas: $variant.min_replicas,
                    max_replicas: $variant.max_replicas,
                    storage_uri: $variant.storage_uri.as_deref(),
                    sha256: $variant.sha256.as_deref(),
                }
            };
        }
        match self {
            Self::Cpu(variant) => fields!(variant),
            Self::Gpu(variant) => fields!(variant),
        }
    }
}

fn variant(checks: &mut Checks, model: &Model, source: &VariantSource<'_>) -> Option<VariantDefinition> {
    let spec = &model.spec;
    let (device, fields) = (source.device(), source.common());
    let root = FieldPath::of(&["spec"]);
    let path = root.child(device.as_str());

    let (uri_path, storage_uri) = match (fields.storage_uri, spec.storage_uri.as_deref()) {
        (Some(own), _) => (path.child("storageUri"), own),
        (None, Some(shared)) => (root.child("storageUri"), shared),
        (None, None) => {
            checks.fail(root.clone(), checks::NO_STORAGE_URI);
            return None;
        }
    };
    if storage_uri.is_empty() {
        checks.fail(uri_path.clone(), "expected a path or a URI, got nothing");
    }
    let format = checks.format(&root.child("modelFormat"), spec.model_format.as_deref(), storage_uri);
    // a digest of the shared source says nothing about a source of the variant's own
    let sha256 = match (fields.sha256, fields.storage_uri) {
        (Some(own), _) => checks.sha256(path.child("sha256"), own),
        (None, Some(_)) => None,
        (None, None) => spec.sha256.as_deref().and_then(|shared| checks.sha256(root.child("sha256"), shared)),
    };

    let replicas = 0..=10_000;
    let min_replicas =
        checks.integer(path.child("minReplicas"), fields.min_replicas, replicas).unwrap_or(defaults::MIN_REPLICAS);
    let max_replicas = checks
        .integer(path.child("maxReplicas"), fields.max_replicas, 1..=10_000)
        .unwrap_or(defaults::MAX_REPLICAS.max(min_replicas));
    if min_replicas > max_replicas {
        checks.fail(path.clone(), checks::REPLICA_BOUNDS);
    }
    let cost = spec.cost.as_ref();
    let cost = match device {
        Device::Cpu => cost.and_then(|cost| cost.cpu),
        Device::Gpu => cost.and_then(|cost| cost.gpu),
    };
    let (requests, threads) = checks.resources(&path.child("resources"), fields.resources);
    Some(VariantDefinition {
        device,
        format: format?,
        storage_uri: storage_uri.to_owned(),
        sha256,
        requests,
        threads,
        concurrency: checks
            .integer(path.child("containerConcurrency"), fields.container_concurrency, 1..=1000)
            .unwrap_or(defaults::CONTAINER_CONCURRENCY),
        min_replicas,
        max_replicas,
        cost: checks.cost(root.child("cost").child(device.as_str()), cost).unwrap_or(device.default_cost()),
        gpu: match source {
            VariantSource::Cpu(_) => None,
            VariantSource::Gpu(variant) => Some(checks.gpu_share(&path, variant)),
        },
    })
}
