//! What must be there before anything is started, and what to do where it is not.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use poolctl_api::strict::{self, Located};
use poolctl_api::{ModelDefinition, defaults};

use crate::cli::{ClaimOrder, UpArgs};
use crate::model_server;
use crate::pool::PoolSpec;
use crate::pool::placement::place;

/// Namespace where neither a file nor the command line names one: the one that Kubernetes uses.
const DEFAULT_NAMESPACE: &str = "default";

/// The models directory where the command line names none.
const DEFAULT_MODELS: &str = "models";

/// Everything that the stack is started from.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) models: Vec<Located<ModelDefinition>>,
    pub(super) pools: Vec<PoolSpec>,
    /// Namespace of requests whose host names none; `None`: the only model of that name, whatever its namespace.
    pub(super) namespace: Option<String>,
    pub(super) wrapper: PathBuf,
    /// The runtime's shared library, where it is not left to the dynamic loader.
    pub(super) runtime_library: Option<PathBuf>,
    pub(super) listen: std::net::SocketAddr,
    pub(super) admin: std::net::SocketAddr,
    pub(super) claim_order: ClaimOrder,
}

/// Reads the models and looks for everything that they need.
///
/// # Errors
/// What is missing or wrong, and what to do.
pub(super) fn check(arguments: UpArgs) -> anyhow::Result<Plan> {
    let namespace = arguments.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let directory = models_directory(arguments.models.as_deref())?;
    let resources = strict::load_directory(&directory, namespace)
        .with_context(|| format!("the models in {} cannot be served", directory.display()))?;
    if resources.models.is_empty() {
        tracing::warn!("there is no Model in {}: every request will be answered 404", directory.display());
    }
    let models: Vec<_> = resources.models.iter().map(|model| &model.value).collect();
    let pools: Vec<_> = resources.pools.iter().map(|pool| &pool.value).collect();
    let pools = place(&models, &pools, namespace, arguments.pool);
    if let Some(size) = arguments.pool {
        warn_outside_bounds(size, &resources);
    }
    Ok(Plan {
        pools,
        models: resources.models,
        namespace: arguments.namespace,
        wrapper: model_server::program(arguments.wrapper)?,
        runtime_library: model_server::runtime_library()?,
        listen: arguments.listen,
        admin: arguments.admin,
        claim_order: arguments.claim_order,
    })
}

fn warn_outside_bounds(size: u32, resources: &strict::Resources) {
    for pool in resources.pools.iter().filter(|pool| pool.value.name == defaults::WARM_POOL) {
        let (min, max) = (pool.value.min_size, pool.value.max_size);
        if !(min..=max).contains(&size) {
            tracing::warn!(
                "--pool {size} takes the place of minSize {min} and maxSize {max} in {}:{}",
                pool.file.display(),
                pool.line
            );
        }
    }
}

fn models_directory(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let directory = named.unwrap_or(Path::new(DEFAULT_MODELS));
    if directory.is_dir() {
        return Ok(directory.to_owned());
    }
    match named {
        Some(directory) if directory.exists() => {
            bail!("--models {}: expected a directory of Model YAML files, got a file", directory.display())
        }
        Some(directory) => bail!("--models {}: there is no such directory", directory.display()),
        None => bail!(
            "there is no directory `{DEFAULT_MODELS}` here: name the one that holds your Model YAML files with --models DIR"
        ),
    }
}
