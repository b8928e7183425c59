//! A model that is served: its executor, its bounds, its metadata.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model_wrapper_admin::Phases;
use model_wrapper_onnx::{LoadOptions, OnnxModel, Runtime};
use model_wrapper_protocol::{Backend, InferError, InferRequest, InferResponse, ModelMetadata};

use super::gate::{Gate, Slot};
use super::memory::{Held, Memory};
use super::source::{self, SourceError, Unloadable};
use super::spec::{Format, ModelSpec};
use crate::executor::{self, Executor, ExecutorSettings, Timings};
use crate::metrics::WrapperMetrics;

/// A model that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its bytes could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is not the model that was meant.
    #[error("'{path}' has the digest {got}, expected {expected}")]
    Digest {
        /// The file.
        path: String,
        /// What was asked for.
        expected: String,
        /// What the file has.
        got: String,
    },
    /// The runtime does not take it.
    #[error(transparent)]
    Load(#[from] Unloadable),
    /// Batching was asked for and cannot be.
    #[error("batching needs a dynamic first dimension of every input and output, but {0}")]
    Batching(String),
    /// The system gives no thread for it.
    #[error("no thread for the model: {0}")]
    Thread(std::io::Error),
}

/// A model in memory, its digest and how long getting it took.
pub struct Loaded {
    pub(super) backend: Box<dyn Backend>,
    /// `sha256:HEX`
    pub digest: String,
    /// Files beside the model that it is made of too, relative to its folder.
    pub external: Vec<String>,
    /// How long it took.
    pub phases: Phases,
    /// Bytes of its files.
    pub(super) size: usize,
}

/// A model that is served.
pub struct ServedModel {
    metadata: ModelMetadata,
    executor: Executor,
    gate: Arc<Gate>,
    memory: Arc<Memory>,
    places: usize,
    timeout: Duration,
    max_body: usize,
}

/// Reads, checks and loads a model. Blocking.
pub fn load(runtime: &Runtime, spec: &ModelSpec) -> Result<Loaded, ModelError> {
    let started = Instant::now();
    let fetched = source::fetch(&spec.path)?;
    if let Some(expected) = spec.digest.as_ref().filter(|expected| **expected != fetched.digest) {
        return Err(ModelError::Digest {
            path: spec.path.display().to_string(),
            expected: expected.clone(),
            got: fetched.digest,
        });
    }
    let read = started.elapsed();
    let size = fetched.files.size();
    let backend: Box<dyn Backend> = match spec.format {
        Format::Onnx => {
            let options = LoadOptions {
                name: spec.name.clone(),
                intra_threads: spec.intra_threads,
                optimization: spec.optimization,
            };
            let model = OnnxModel::load(runtime, &fetched.files, &options);
            Box::new(model.map_err(|error| Unloadable { path: spec.path.clone(), error })?)
        }
    };
    if spec.batching.is_some()
        && let Some(obstacle) = executor::obstacle(backend.metadata())
    {
        return Err(ModelError::Batching(obstacle));
    }
    let total = started.elapsed();
    let phases = Phases { fetch_us: micros(read), load_us: micros(total - read), total_us: micros(total) };
    let external = fetched.files.external.into_keys().collect();
    Ok(Loaded { backend, digest: fetched.digest, external, phases, size })
}

// === impl Loaded ===

impl Loaded {
    /// What the model takes and gives.
    pub fn metadata(&self) -> &ModelMetadata {
        self.backend.metadata()
    }
}

// === impl ServedModel ===

impl ServedModel {
    pub(super) fn start(
        loaded: Loaded,
        spec: &ModelSpec,
        gate: Arc<Gate>,
        metrics: WrapperMetrics,
    ) -> Result<Self, ModelError> {
        let metadata = loaded.backend.metadata().clone();
        let settings = ExecutorSettings { queue_length: spec.queue_length, batching: spec.batching };
        let memory = Arc::new(Memory::new(spec.memory, metrics.request_bytes.clone()));
        let executor = Executor::start(loaded.backend, settings, metrics).map_err(ModelError::Thread)?;
        // One runs while the queue is full.
        let places = spec.concurrency.unwrap_or(spec.queue_length.saturating_add(1));
        Ok(Self { metadata, executor, gate, memory, places, timeout: spec.timeout, max_body: spec.max_body })
    }

    /// What the model takes and gives.
    pub fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    /// Longest that a request may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Bytes that a body may have.
    pub fn max_body(&self) -> usize {
        self.max_body
    }

    /// Takes a place, to be held until the response's last byte is out.
    ///
    /// # Errors
    /// All are taken, or no request is taken any more.
    pub fn acquire(&self) -> Result<Slot, InferError> {
        self.gate.take(self.places)
    }

    /// The memory of a request of which nothing has come, to be kept until it has run.
    pub fn memory(&self) -> Held {
        self.memory.nothing()
    }

    /// Resolves once no request is taken any more, with the error of one that comes then.
    pub async fn refused(&self) -> InferError {
        self.gate.refused().await
    }

    /// Runs a request. Dropping the future takes it out of the queue or cancels its run.
    ///
    /// # Errors
    /// The request does not fit the model, its deadline passed, or the model failed.
    pub async fn infer(
        &self,
        request: InferRequest,
        deadline: tokio::time::Instant,
    ) -> Result<(InferResponse, Timings), InferError> {
        let (outputs, timings) = self.executor.infer(request, deadline.into_std()).await?;
        Ok((InferResponse { outputs }, timings))
    }
}

impl std::fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedModel")
            .field("name", &self.metadata.name)
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
