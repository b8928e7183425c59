//! What the gateway and the autoscaler are told about a model: pure.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use autoscaler_policy::{Batching, Digest, ModelKey, Placement, Resources, Revision, RevisionKey, Source};
use gateway::{ModelRoute, Unavailable, VariantRoute};
use gateway_policy::Device;
use poolctl_api::{Condition, ConditionStatus, VariantDefinition, condition_type, reason};
use poolctl_cluster::local::CONTRACT;

use super::catalog::Entry;
use super::inspect::Inspection;
use crate::pool::PoolSpec;

/// `kferving-reason` of a model whose source cannot be loaded.
const LOAD_FAILED: &str = "load-failed";
/// `kferving-reason` of a model that has a variant for devices only that are not there.
const DEVICE_UNAVAILABLE: &str = "device-unavailable";

/// The device classes of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices(pub BTreeSet<Device>);

impl Devices {
    /// Why a variant for `device` cannot run here; `None` where it can.
    #[must_use]
    pub fn lacks(&self, device: Device) -> Option<String> {
        if self.0.contains(&device) {
            return None;
        }
        let known = self.0.iter().map(|device| device.as_str()).collect::<Vec<_>>().join(", ");
        Some(format!("replicas of this machine run on: {known}; nothing runs for the {device} variant"))
    }
}

/// A variant and what became of its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// As written.
    pub definition: VariantDefinition,
    /// What became of it.
    pub resolved: Resolved,
}

/// What became of a variant's source.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// The runtime loads it.
    Loadable {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        inspection: Inspection,
    },
    /// It cannot be loaded, for people.
    LoadFailed(String),
    /// The machine has no device for it, for people.
    DeviceUnavailable(String),
}

/// Name of a revision: `digits-cpu-00001`.
#[must_use]
pub fn revision_name(model: &str, device: Device, generation: u64) -> String {
    format!("{model}-{device}-{generation:05}")
}

impl Entry {
    /// What the gateway routes.
    #[must_use]
    pub fn route(&self, generation: u64) -> ModelRoute {
        let definition = &self.definition;
        let variants = self.loadable().map(|(variant, inspection)| VariantRoute {
            device: variant.device,
            revision: self.revision_key(variant.device, generation),
            digest: inspection.digest.clone(),
            cost: variant.cost,
            concurrency: variant.concurrency,
        });
        ModelRoute {
            namespace: definition.namespace.clone(),
            name: definition.name.clone(),
            generation,
            timeout: definition.timeout,
            objective: definition.objective,
            variants: variants.collect(),
            metadata: self.metadata(),
            unavailable: self.unavailable(),
            replicas: Vec::new(),
        }
    }

    /// What the autoscaler scales: a revision for each variant that can be loaded, and for each whose device is not
    /// there, so that its plan can say so.
    #[must_use]
    pub fn revisions(&self, generation: u64, pools: &[PoolSpec]) -> Vec<Revision> {
        let revision = |variant: &Variant| {
            let (path, digest, unavailable) = match &variant.resolved {
                Resolved::Loadable { path, inspection } => (path.clone(), inspection.digest.clone(), None),
                Resolved::DeviceUnavailable(message) => {
                    (PathBuf::new(), String::new(), Some(Arc::from(message.as_str())))
                }
                Resolved::LoadFailed(_) => return None,
            };
            Some(self.revision(&variant.definition, generation, Loaded { path, digest, unavailable }, pools))
        };
        self.variants.iter().filter_map(revision).collect()
    }

    /// Ready, and one condition for each variant, as they became true or false at `since`.
    #[must_use]
    pub fn conditions(&self, since: SystemTime) -> Vec<Condition> {
        let of_variant = |type_: &str, variant: &Variant| match &variant.resolved {
            Resolved::Loadable { .. } => Condition::new(type_, ConditionStatus::True, reason::LOADABLE, since),
            Resolved::LoadFailed(message) => {
                Condition::new(type_, ConditionStatus::False, reason::LOAD_FAILED, since).with_message(message)
            }
            Resolved::DeviceUnavailable(message) => {
                Condition::new(type_, ConditionStatus::False, reason::DEVICE_UNAVAILABLE, since).with_message(message)
            }
        };
        let ready = match self.worst() {
            None => Condition::new(condition_type::READY, ConditionStatus::True, reason::LOADABLE, since),
            Some(variant) => of_variant(condition_type::READY, variant),
        };
        let variants = self.variants.iter().map(|variant| {
            let type_ = match variant.definition.device {
                Device::Cpu => condition_type::CPU_READY,
                Device::Gpu => condition_type::GPU_READY,
            };
            of_variant(type_, variant)
        });
        std::iter::once(ready).chain(variants).collect()
    }

    /// `NAMESPACE/REVISION` of the variant for `device`.
    #[must_use]
    pub fn revision_key(&self, device: Device, generation: u64) -> String {
        format!("{}/{}", self.definition.namespace, revision_name(&self.definition.name, device, generation))
    }

    fn loadable(&self) -> impl Iterator<Item = (&VariantDefinition, &Inspection)> {
        self.variants.iter().filter_map(|variant| match &variant.resolved {
            Resolved::Loadable { inspection, .. } => Some((&variant.definition, inspection)),
            Resolved::LoadFailed(_) | Resolved::DeviceUnavailable(_) => None,
        })
    }

    /// The variant that keeps the model from being ready: none as long as one can serve. A source that cannot be loaded
    /// says more than a device that is not there.
    fn worst(&self) -> Option<&Variant> {
        if self.loadable().next().is_some() {
            return None;
        }
        let failed = self.variants.iter().find(|variant| matches!(variant.resolved, Resolved::LoadFailed(_)));
        failed.or(self.variants.first())
    }

    /// Why no variant can serve; `None` where one can.
    #[must_use]
    pub fn unavailable(&self) -> Option<Unavailable> {
        let (reason, message) = match &self.worst()?.resolved {
            Resolved::LoadFailed(message) => (LOAD_FAILED, message),
            Resolved::DeviceUnavailable(message) => (DEVICE_UNAVAILABLE, message),
            Resolved::Loadable { .. } => return None,
        };
        Some(Unavailable { reason: reason.to_owned(), message: message.clone() })
    }

    /// The recorded metadata, under the model's name: the runtime knows only the file's.
    fn metadata(&self) -> Option<serde_json::Value> {
        let (_, inspection) = self.loadable().next()?;
        let mut metadata = inspection.metadata.clone();
        if let Some(fields) = metadata.as_object_mut() {
            fields.insert("name".to_owned(), self.definition.name.clone().into());
        }
        Some(metadata)
    }

    fn revision(&self, variant: &VariantDefinition, generation: u64, loaded: Loaded, pools: &[PoolSpec]) -> Revision {
        let definition = &self.definition;
        let device = variant.device;
        let key = self.revision_key(device, generation);
        let pool = pools.iter().find(|pool| {
            pool.key.namespace == definition.namespace && pool.key.name == definition.warm_pool && pool.device == device
        });
        let threads = variant.threads.map(|threads| ("intraThreads".to_owned(), threads.to_string()));
        Revision {
            model: ModelKey::new(&definition.namespace, &definition.name),
            uid: Arc::from(format!("{key}@{}", loaded.digest)),
            key: RevisionKey::from(key),
            service: Arc::from(format!("{}-{device}", definition.name)),
            device,
            unavailable: loaded.unavailable,
            digest: Digest::from(loaded.digest),
            source: Source {
                uri: Arc::from(format!("file://{}", loaded.path.display())),
                format: Arc::from(variant.format.as_str()),
                name: Arc::from(definition.name.as_str()),
                config: threads.into_iter().collect::<BTreeMap<_, _>>(),
            },
            container_concurrency: variant.concurrency,
            min_replicas: variant.min_replicas,
            max_replicas: variant.max_replicas,
            placement: Placement {
                pool: pool.map(|pool| Arc::from(pool.key.name.as_str())),
                service_account: pool.map_or_else(
                    || Arc::from(poolctl_api::defaults::SERVICE_ACCOUNT),
                    |pool| Arc::from(pool.service_account.as_str()),
                ),
                contract: Arc::from(CONTRACT),
                resources: resources(variant),
            },
            cost: variant.cost,
            objective: definition.objective,
            timeout: definition.timeout,
            scale_to_zero_after: definition.scale_to_zero_after,
            batching: definition.batching.map(|batching| Batching {
                max_batch_size: batching.max_batch_size,
                max_latency: batching.max_latency,
            }),
            scaling: definition.scaling.clone(),
        }
    }
}

/// What a revision needs of a source that was resolved.
struct Loaded {
    path: PathBuf,
    digest: String,
    unavailable: Option<Arc<str>>,
}

fn resources(variant: &VariantDefinition) -> Resources {
    let quantities: Vec<_> = variant.requests.iter().map(|(name, amount)| (name, amount.to_string())).collect();
    Resources::parse(quantities.iter().map(|(name, amount)| (name.as_str(), amount.as_str())))
        .expect("an amount is written in the simplest form of a quantity, and is below the limit of both parsers")
}
