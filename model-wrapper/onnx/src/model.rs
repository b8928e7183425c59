//! One loaded model.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model_wrapper_protocol::{Backend, Cancel, InferError, ModelMetadata, Tensor};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{NoSelectedOutputs, RunOptions, Session, SessionInputValue};
use ort::value::{DynTensor, DynTensorValueType, Outlet};

use crate::failure::{self, without_paths};
use crate::lent::Lender;
use crate::rank::without_shape;
use crate::{LoadError, Runtime, convert, element, external_files};

/// What the platform is called in metadata, as KServe and Triton name it.
const PLATFORM: &str = "onnx_onnxv1";

/// A model's bytes: the `.onnx` file and the external data it refers to.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    /// The `.onnx` file.
    pub model: Vec<u8>,
    /// External data by the location that the model gives it.
    pub external: BTreeMap<String, Arc<[u8]>>,
}

/// How much ONNX Runtime rewrites a graph before it runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimization {
    /// Not at all.
    Disabled,
    /// Constant folding and redundant nodes.
    Basic,
    /// And fusions.
    Extended,
    /// And layouts: ONNX Runtime's own default.
    #[default]
    All,
}

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Name it is served under.
    pub name: String,
    /// Threads that one operator may use.
    pub intra_threads: usize,
    /// Graph rewriting.
    pub optimization: Optimization,
}

/// A model in a session of its own.
pub struct OnnxModel {
    session: Session,
    lender: Lender,
    metadata: ModelMetadata,
    run: Arc<Run>,
}

/// What a run and its cancellation share.
struct Run {
    options: RunOptions<NoSelectedOutputs>,
    cancelled: AtomicBool,
}

// === impl ModelFiles ===

impl ModelFiles {
    /// Bytes of all files.
    pub fn size(&self) -> usize {
        self.model.len() + self.external.values().map(|content| content.len()).sum::<usize>()
    }
}

// === impl OnnxModel ===

impl OnnxModel {
    /// Loads a model. It is refused where its inputs or outputs are not tensors of the protocol's types.
    pub fn load(runtime: &Runtime, files: &ModelFiles, options: &LoadOptions) -> Result<Self, LoadError> {
        let mut builder = builder(runtime, options).map_err(|error| refused(&error))?;
        for location in external_files(&files.model)? {
            let Some(content) = files.external.get(&location) else {
                return Err(LoadError::MissingExternalData(location));
            };
            builder = builder
                .with_external_initializer_file_in_memory(Path::new(&location), content.clone())
                .map_err(|error| refused(&error))?;
        }
        let session = builder.commit_from_memory(&files.model).map_err(|error| refused(&error))?;
        let metadata = describe(&session, &files.model, &options.name)?;
        let mut options = RunOptions::new().map_err(|error| refused(&error))?;
        // A failed run says so in its error; were it logged too, callers could fill the log.
        options.set_log_level(LogLevel::Fatal).map_err(|error| refused(&error))?;
        let lender = Lender::new(session.inner());
        let run = Arc::new(Run { options, cancelled: AtomicBool::new(false) });
        Ok(Self { session, lender, metadata, run })
    }
}

impl Backend for OnnxModel {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn arm(&mut self) {
        if self.run.cancelled.swap(false, Ordering::SeqCst) {
            // It fails for a null pointer only.
            let _ = self.run.options.unterminate();
        }
    }

    fn run(&mut self, inputs: &[Tensor], outputs: &[String]) -> Result<Vec<Tensor>, InferError> {
        if let Some(missing) =
            self.metadata.inputs.iter().find(|input| inputs.iter().all(|given| given.name != input.name))
        {
            return Err(InferError::input(&missing.name, "a tensor", "none"));
        }
        let values = inputs
            .iter()
            .map(|tensor| Ok((tensor.name.as_str(), convert::input(tensor)?)))
            .collect::<Result<Vec<_>, InferError>>()?;
        // Views: what an input is in may be an output too, and must live until that was read.
        let views: Vec<_> = values.iter().map(|(name, value)| (*name, SessionInputValue::from(value.view()))).collect();
        let mut answered = self
            .session
            .run_with_options(views, &self.run.options)
            .map_err(|error| failed(&error, self.run.cancelled.load(Ordering::SeqCst)))?;
        let mut read = |name: &str| {
            let value = answered.remove(name).ok_or_else(|| unknown_output(name, &self.metadata))?;
            let tensor = value
                .downcast::<DynTensorValueType>()
                .map_err(|_| InferError::Internal(format!("the model gave no tensor as output '{name}'")))?;
            let lender = (!is_an_input(&tensor, &values)).then_some(&self.lender);
            convert::output(name, tensor, lender)
        };
        if outputs.is_empty() {
            self.metadata.outputs.iter().map(|output| read(&output.name)).collect()
        } else {
            outputs.iter().map(|name| read(name)).collect()
        }
    }

    fn canceller(&self) -> Arc<dyn Cancel> {
        self.run.clone()
    }
}

impl Cancel for Run {
    /// ONNX Runtime looks at the flag between two operators: a single long one is finished first.
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        // It fails for a null pointer only.
        let _ = self.options.terminate();
    }
}

fn builder(runtime: &Runtime, options: &LoadOptions) -> ort::Result<SessionBuilder> {
    let level = match options.optimization {
        Optimization::Disabled => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    };
    Ok(SessionBuilder::new(&runtime.environment)?
        .with_intra_threads(options.intra_threads)?
        .with_inter_threads(1)?
        .with_optimization_level(level)?
        .with_log_level(LogLevel::Error)?
        // Threads may spin within a run, where the next operator comes at once, but not between runs: an idle replica costs no
        // CPU.
        .with_config_entry("session.force_spinning_stop", "1")?)
}

/// Whether an output is the memory of an input, which ends with the run: so it is where the graph names one as the other.
fn is_an_input(output: &DynTensor, inputs: &[(&str, SessionInputValue<'_>)]) -> bool {
    inputs.iter().any(|(_, input)| {
        input.view().downcast::<DynTensorValueType>().is_ok_and(|input| input.data_ptr() == output.data_ptr())
    })
}

fn describe(session: &Session, model: &[u8], name: &str) -> Result<ModelMetadata, LoadError> {
    let without_shape = without_shape(model)?;
    let all = |role: &str, outlets: &[Outlet]| {
        let named = outlets.iter().map(|outlet| (outlet.name(), outlet.dtype()));
        named.map(|outlet| element::describe(role, outlet, &without_shape)).collect::<Result<Vec<_>, _>>()
    };
    let (inputs, outputs) = (all("input", session.inputs())?, all("output", session.outputs())?);
    // One of a type that cannot be served keeps its own value.
    let optional = session.overridable_initializers();
    let optional = optional.iter().map(|initializer| (initializer.name(), initializer.dtype()));
    let optional_inputs =
        optional.filter_map(|initializer| element::describe("input", initializer, &without_shape).ok()).collect();
    let own = session.metadata().map_err(|error| refused(&error))?;
    let mut properties: Vec<_> = own
        .custom_keys()
        .map_err(|error| refused(&error))?
        .into_iter()
        .filter_map(|key| own.custom(&key).map(|value| (key, value)))
        .collect();
    properties.sort();
    Ok(ModelMetadata {
        name: name.to_owned(),
        versions: vec!["1".to_owned()],
        platform: PLATFORM.to_owned(),
        inputs,
        optional_inputs,
        outputs,
        properties,
    })
}

fn refused<R>(error: &ort::Error<R>) -> LoadError {
    LoadError::Runtime(without_paths(error.message()))
}

fn failed(error: &ort::Error, cancelled: bool) -> InferError {
    if cancelled {
        return InferError::Cancelled;
    }
    failure::of_run(error.code(), error.message())
}

fn unknown_output(name: &str, metadata: &ModelMetadata) -> InferError {
    let known: Vec<_> = metadata.outputs.iter().map(|output| output.name.as_str()).collect();
    InferError::BadRequest(format!("no output '{name}': the model has {}", known.join(", ")))
}
