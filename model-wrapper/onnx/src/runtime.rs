//! The ONNX Runtime library of this process.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use model_wrapper_protocol::{Backend as _, DataType, Tensor, TensorData};
use ort::environment::Environment;
use ort::logging::LogLevel;
use tracing::subscriber::NoSubscriber;

use crate::{LoadOptions, ModelFiles, OnnxModel, Optimization, RuntimeError};

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

    /// Loads and runs a small model of common operators, and drops it.
    ///
    /// The first session of a process pays for what all later ones share: pages of a 29 MB library, operator schemas, kernel
    /// tables. An idle replica has the time; a claim has not.
    pub fn warm(&self) -> Result<(), RuntimeError> {
        let failed = |error: &dyn std::fmt::Display| RuntimeError::Start(error.to_string());
        let files = ModelFiles { model: include_bytes!("warm.onnx").to_vec(), ..ModelFiles::default() };
        let options = LoadOptions { name: "warm".to_owned(), intra_threads: 1, optimization: Optimization::default() };
        let mut model = OnnxModel::load(self, &files, &options).map_err(|error| failed(&error))?;
        let input = Tensor {
            name: "x".to_owned(),
            datatype: DataType::Fp32,
            shape: vec![1, 3, 4, 4],
            data: TensorData::Fixed(Bytes::from_static(&[0; 3 * 4 * 4 * 4])),
        };
        model.run(&[input], &[]).map_err(|error| failed(&error))?;
        Ok(())
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
