//! What must be there before anything is started, and what to do where it is not.

#[cfg(test)]
mod tests;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use poolctl_api::strict::{self, Located};
use poolctl_api::{ModelDefinition, defaults};

use crate::cli::{ClaimOrder, UpArgs};
use crate::pool::PoolSpec;
use crate::pool::placement::place;

/// Namespace where neither a file nor the command line names one: the one that Kubernetes uses.
const DEFAULT_NAMESPACE: &str = "default";

/// The models directory where the command line names none.
const DEFAULT_MODELS: &str = "models";

/// The program that serves one model.
const WRAPPER: &str = "model-wrapper";

/// The shared library that model servers load, and the variable that names it.
const RUNTIME_LIBRARY: &str = "libonnxruntime.so";
const RUNTIME_VARIABLE: &str = "ORT_DYLIB_PATH";

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
        wrapper: wrapper(arguments.wrapper)?,
        runtime_library: runtime_library()?,
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

fn wrapper(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        if !path.is_file() {
            bail!("the model server {} is not there: --wrapper (or KFERVING_WRAPPER) names it", path.display());
        }
        return Ok(path);
    }
    let beside = executable_directory()?.join(WRAPPER);
    if !beside.is_file() {
        bail!(
            "the model server {} is not there: build it with `cargo build -p model-wrapper` (the same --release as this \
             program), or name it with --wrapper PATH",
            beside.display()
        );
    }
    Ok(beside)
}

/// The library that `ORT_DYLIB_PATH` names, else one beside this program or in the cache of the source tree, else none:
/// then the dynamic loader must know one.
fn runtime_library() -> anyhow::Result<Option<PathBuf>> {
    if let Some(named) = env::var_os(RUNTIME_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(named);
        // a bare name is the dynamic loader's to find
        if path.components().count() > 1 && !path.is_file() {
            bail!(
                "the ONNX Runtime library {} is not there: {RUNTIME_VARIABLE} names it. {}",
                path.display(),
                how_to_get_the_library()
            );
        }
        return Ok(Some(path.canonicalize().unwrap_or(path)));
    }
    let beside = executable_directory()?;
    let found = library_places(&beside).into_iter().find(|place| place.is_file());
    if found.is_none() && !loader_knows_library() {
        bail!("the ONNX Runtime library {RUNTIME_LIBRARY} was not found. {}", how_to_get_the_library());
    }
    Ok(found.map(|path| path.canonicalize().unwrap_or(path)))
}

/// In an installation it is beside the program or in `lib`; in a source tree the program is in `target/PROFILE`.
fn library_places(executables: &Path) -> Vec<PathBuf> {
    let cache = Path::new(".cache/onnxruntime").join(RUNTIME_LIBRARY);
    vec![
        executables.join(RUNTIME_LIBRARY),
        executables.join("../lib").join(RUNTIME_LIBRARY),
        executables.join("../..").join(&cache),
        cache,
    ]
}

/// Whether the dynamic loader's usual folders hold the library.
fn loader_knows_library() -> bool {
    let listed = env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = ["/usr/local/lib", "/usr/lib", "/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let folders = listed.split(':').filter(|folder| !folder.is_empty()).chain(usual);
    folders.into_iter().any(|folder| Path::new(folder).join(RUNTIME_LIBRARY).is_file())
}

fn how_to_get_the_library() -> String {
    format!(
        "Get it with `make models` in the source tree, or from the onnxruntime package of PyPI, and name it with \
         {RUNTIME_VARIABLE}=/path/to/{RUNTIME_LIBRARY}"
    )
}

fn executable_directory() -> anyhow::Result<PathBuf> {
    let executable = env::current_exe().context("this program's own path is not known")?;
    Ok(executable.parent().map(Path::to_owned).unwrap_or_default())
}
