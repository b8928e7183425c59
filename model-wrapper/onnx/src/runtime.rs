//! The ONNX Runtime library of this process.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::logging::LogLevel;
use tracing::subscriber::NoSubscriber;

use crate::RuntimeError;

/// Environment variable that names the shared library.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Looked up by the dynamic loader where [`LIBRARY_VARIABLE`] is not set.
pub const DEFAULT_LIBRARY: &str = "libonnxruntime.so";

/// The loaded library. A process has one; clones share it, and it must outlive what was loaded with it, which holds a clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) environment: Environment,
}

impl Runtime {
    /// Loads the library that `path` names, else the one that the dynamic loader finds. To be called once in a process.
    pub fn load(path: Option<&Path>) -> Result<Self, RuntimeError> {
        let path = path.map_or_else(|| PathBuf::from(DEFAULT_LIBRARY), Path::to_owned);
        // ort and the library comment on every start, also a good one; what matters comes back as an error.
        let environment = tracing::subscriber::with_default(NoSubscriber::default(), || start(&path))?;
        // ort installs its logger at the most talkative level; formatting what is then dropped would cost every run.
        environment.set_log_level(LogLevel::Warning);
        Ok(Self { environment })
    }

    /// What was loaded, in the library's own words.
    pub fn build_info(&self) -> &'static str {
        ort::info()
    }
}

fn start(path: &Path) -> Result<Environment, RuntimeError> {
    let builder = ort::init_from(path)
        .map_err(|error| RuntimeError::Library { path: path.to_owned(), reason: reason(&error) })?;
    builder.with_telemetry(false).build().map_err(|error| RuntimeError::Start(error.message().to_owned()))
}

/// The dynamic loader's own words, which ort leaves out.
fn reason(error: &ort::LoadDynamicError) -> String {
    match error {
        ort::LoadDynamicError::Dlopen { error, .. } => match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("build", &self.build_info()).finish()
    }
}
