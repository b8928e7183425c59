//! Which pools there are, and of what size.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use gateway_policy::Device;
use poolctl_api::{ModelDefinition, PoolDefinition, defaults};

/// Idle replicas of the pool `default` where neither a file nor the command line says how many: one for the next model
/// that is asked from zero, and one for the model after it while the first is being replaced.
pub const DEFAULT_POOL_SIZE: u32 = 2;

/// A pool, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// Namespace of its replicas, and of the models that may claim them.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a pool's replicas are, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The pool.
    pub key: PoolKey,
    /// Device class of its replicas.
    pub device: Device,
    /// Service account that they run as.
    pub service_account: String,
    /// Resource requests of a replica as Kubernetes quantities, by resource name.
    pub resources: BTreeMap<String, String>,
    /// Bounds of its size.
    pub sizing: Sizing,
}

/// Bounds of a pool's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// Idle replicas that it keeps at least.
    pub min: u32,
    /// Idle replicas that it keeps at most.
    pub max: u32,
}

impl Sizing {
    /// Exactly `size`.
    #[must_use]
    pub const fn exactly(size: u32) -> Self {
        Self { min: size, max: size }
    }
}

/// The pools of one machine: the ones that files describe, and the one called `default` where none does.
///
/// Replicas are claimed within their namespace only, so a pool that names no namespace exists in each whose models claim
/// from it, and in `namespace` where no model does. `default_size` is the size of every pool called `default`, whatever
/// its own bounds: who starts the program knows better than a file.
#[must_use]
pub fn place(
    models: &[&ModelDefinition],
    pools: &[&PoolDefinition],
    namespace: &str,
    default_size: Option<u32>,
) -> Vec<PoolSpec> {
    let implied = PoolDefinition::implied(DEFAULT_POOL_SIZE);
    let describes_default = pools.iter().any(|pool| pool.name == defaults::WARM_POOL && pool.namespace.is_none());
    let everywhere = pools.iter().copied().filter(|pool| pool.namespace.is_none());
    let everywhere = everywhere.chain((!describes_default).then_some(&implied));

    let mut placed = BTreeMap::new();
    for pool in pools {
        if let Some(own) = &pool.namespace {
            placed.insert(PoolKey { namespace: own.clone(), name: pool.name.clone() }, *pool);
        }
    }
    for pool in everywhere {
        let users = models.iter().filter(|model| model.warm_pool == pool.name);
        let mut namespaces: BTreeSet<&str> = users.map(|model| model.namespace.as_str()).collect();
        if namespaces.is_empty() {
            namespaces.insert(namespace);
        }
        for namespace in namespaces {
            let key = PoolKey { namespace: namespace.to_owned(), name: pool.name.clone() };
            // a pool of that very namespace comes first
            placed.entry(key).or_insert(pool);
        }
    }
    placed.into_iter().map(|(key, pool)| spec(key, pool, default_size)).collect()
}

fn spec(key: PoolKey, pool: &PoolDefinition, default_size: Option<u32>) -> PoolSpec {
    let asked = default_size.filter(|_| key.name == defaults::WARM_POOL);
    PoolSpec {
        device: pool.device,
        service_account: pool.service_account.clone(),
        resources: pool.requests.iter().map(|(name, amount)| (name.clone(), amount.to_string())).collect(),
        sizing: asked.map_or(Sizing { min: pool.min_size, max: pool.max_size }, Sizing::exactly),
        key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use poolctl_api::{Model, WarmPool};
    use serde_json::json;

    fn model(namespace: &str, name: &str, pool: &str) -> ModelDefinition {
        let model: Model = serde_json::from_value(json!({
            "apiVersion": poolctl_api::API_VERSION, "kind": "Model", "metadata": {"name": name, "namespace": namespace},
            "spec": {"storageUri": "a.onnx", "cpu": {}, "warmPool": pool},
        }))
        .unwrap();
        ModelDefinition::of(&model, "unused").unwrap()
    }

    fn pool(namespace: Option<&str>, name: &str, min: u32, max: u32) -> PoolDefinition {
        let pool: WarmPool = serde_json::from_value(json!({
            "apiVersion": poolctl_api::API_VERSION, "kind": "WarmPool", "metadata": {"name": name, "namespace": namespace},
            "spec": {"minSize": min, "maxSize": max, "resources": {"requests": {"cpu": "500m"}}},
        }))
        .unwrap();
        PoolDefinition::of(&pool).unwrap()
    }

    fn placed(
        models: &[ModelDefinition],
        pools: &[PoolDefinition],
        default_size: Option<u32>,
    ) -> Vec<(String, u32, u32)> {
        let (models, pools): (Vec<_>, Vec<_>) = (models.iter().collect(), pools.iter().collect());
        let specs = place(&models, &pools, "here", default_size);
        specs.into_iter().map(|spec| (spec.key.to_string(), spec.sizing.min, spec.sizing.max)).collect()
    }

    #[test]
    fn the_default_pool_is_there_without_a_file() {
        assert_eq!(placed(&[], &[], None), [("here/default".to_owned(), 2, 2)]);
        assert_eq!(placed(&[], &[], Some(0)), [("here/default".to_owned(), 0, 0)]);
    }

    #[test]
    fn a_pool_is_where_its_models_are() {
        let models = [model("vision", "a", "default"), model("text", "b", "default"), model("vision", "c", "big")];
        let pools = [pool(None, "default", 1, 10), pool(None, "big", 3, 3), pool(Some("text"), "big", 1, 1)];
        assert_eq!(
            placed(&models, &pools, None),
            [
                ("text/big".to_owned(), 1, 1),
                ("text/default".to_owned(), 1, 10),
                ("vision/big".to_owned(), 3, 3),
                ("vision/default".to_owned(), 1, 10),
            ]
        );
    }

    #[test]
    fn the_command_line_sizes_the_pool_called_default() {
        let models = [model("here", "a", "default"), model("here", "b", "big")];
        let pools = [pool(None, "default", 1, 10), pool(None, "big", 1, 1)];
        assert_eq!(
            placed(&models, &pools, Some(20)),
            [("here/big".to_owned(), 1, 1), ("here/default".to_owned(), 20, 20)]
        );
    }

    #[test]
    fn a_pool_of_the_namespace_comes_before_one_of_none() {
        let models = [model("vision", "a", "default")];
        let pools = [pool(None, "default", 1, 1), pool(Some("vision"), "default", 4, 4)];
        assert_eq!(placed(&models, &pools, None), [("vision/default".to_owned(), 4, 4)]);
    }
}
