//! What a model is served with, checked before anything is loaded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use model_wrapper_admin::{SpecializeRequest, check_model_name};
use model_wrapper_onnx::Optimization;
use model_wrapper_protocol::Limits;

use super::source;
use crate::executor::Batching;

#[cfg(test)]
mod tests;

/// Requests that may be in the wrapper at a time where no concurrency is given. Each may hold a body of `max_body` bytes.
const DEFAULT_QUEUE_LENGTH: usize = 256;

/// Bytes of all requests: enough for a full queue of images as tensors.
const DEFAULT_MEMORY: usize = 512 << 20;

/// Longest that a request may take where nothing else is said.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Threads an operator may use: beyond that, none of ONNX Runtime's CPU operators gets faster.
const MAX_INTRA_THREADS: u64 = 256;

/// A runtime that models are loaded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ONNX Runtime.
    Onnx,
}

/// A model to load and how to serve it.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Name it is served under.
    pub name: String,
    /// Runtime.
    pub format: Format,
    /// The file.
    pub path: PathBuf,
    /// `sha256:HEX` that it must have; none: any.
    pub digest: Option<String>,
    /// Requests at a time; none: as many as the queue takes.
    pub concurrency: Option<usize>,
    /// Longest that a request may take.
    pub timeout: Duration,
    /// Bytes of a body.
    pub max_body: usize,
    /// Bytes that all requests may have in memory until they have run.
    pub memory: usize,
    /// Requests that may wait for the model.
    pub queue_length: usize,
    /// Several requests as one.
    pub batching: Option<Batching>,
    /// Threads that one operator may use.
    pub intra_threads: usize,
    /// Graph rewriting.
    pub optimization: Optimization,
}

/// A specialize request that asks for something this wrapper does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(String);

// === impl Format ===

impl FromStr for Format {
    type Err = SpecError;

    fn from_str(name: &str) -> Result<Self, SpecError> {
        match name {
            "onnx" => Ok(Self::Onnx),
            other => Err(SpecError(format!("model format '{other}' is not in this build; it has onnx"))),
        }
    }
}

// === impl ModelSpec ===

impl ModelSpec {
    /// A model with nothing but defaults.
    pub fn new(name: String, path: PathBuf) -> Self {
        Self {
            name,
            format: Format::Onnx,
            path,
            digest: None,
            concurrency: None,
            timeout: DEFAULT_TIMEOUT,
            max_body: Limits::default().max_body,
            memory: DEFAULT_MEMORY,
            queue_length: DEFAULT_QUEUE_LENGTH,
            batching: None,
            intra_threads: default_intra_threads(),
            optimization: Optimization::default(),
        }
    }

    /// What a specialize request asks for. Everything it names is used or refused, nothing is ignored.
    pub fn of_request(request: &SpecializeRequest) -> Result<Self, SpecError> {
        let path = source::path_of(&request.model.uri).map_err(|error| SpecError(error.to_string()))?;
        check_model_name(&request.model.name).map_err(|error| SpecError(error.to_string()))?;
        if request.timeout_ms == 0 {
            return Err(SpecError("timeoutMs must be above 0".to_owned()));
        }
        check_digest(&request.digest)?;
        let mut spec = Self {
            format: request.model.format.parse()?,
            digest: Some(request.digest.clone()),
            concurrency: usize::try_from(request.container_concurrency).ok().filter(|&limit| limit > 0),
            timeout: Duration::from_millis(request.timeout_ms),
            ..Self::new(request.model.name.clone(), path)
        };
        spec.apply_limits(&request.limits)?;
        spec.apply_config(&request.model.config)?;
        Ok(spec)
    }

    fn apply_limits(&mut self, limits: &BTreeMap<String, u64>) -> Result<(), SpecError> {
        let (mut rows, mut window) = (1, Duration::ZERO);
        for (name, &value) in limits {
            let number = || {
                usize::try_from(value)
                    .ok()
                    .filter(|&number| number > 0)
                    .ok_or_else(|| SpecError(format!("limit {name} must be above 0, got {value}")))
            };
            match name.as_str() {
                "maxBodyBytes" => self.max_body = number()?,
                "memoryBytes" => self.memory = number()?,
                "maxBatchSize" => rows = number()?,
                "maxBatchLatencyUs" => window = Duration::from_micros(value),
                "queueLength" => self.queue_length = number()?,
                "intraThreads" if value <= MAX_INTRA_THREADS => self.intra_threads = number()?,
                "intraThreads" => {
                    return Err(SpecError(format!("limit intraThreads is at most {MAX_INTRA_THREADS}, got {value}")));
                }
                other => {
                    return Err(SpecError(format!(
                        "unknown limit '{other}': known are maxBodyBytes, memoryBytes, maxBatchSize, maxBatchLatencyUs, \
                         queueLength, intraThreads"
                    )));
                }
            }
        }
        if window > self.timeout {
            return Err(SpecError(format!(
                "limit maxBatchLatencyUs ({window:?}) is longer than the timeout ({:?})",
                self.timeout
            )));
        }
        self.batching = (rows > 1).then_some(Batching { max_rows: rows, window });
        Ok(())
    }

    fn apply_config(&mut self, config: &BTreeMap<String, String>) -> Result<(), SpecError> {
        for (name, value) in config {
            if name != "graphOptimization" {
                return Err(SpecError(format!("unknown configuration '{name}' for onnx: known is graphOptimization")));
            }
            self.optimization = match value.as_str() {
                "disabled" => Optimization::Disabled,
                "basic" => Optimization::Basic,
                "extended" => Optimization::Extended,
                "all" => Optimization::All,
                other => {
                    return Err(SpecError(format!(
                        "configuration graphOptimization is disabled, basic, extended or all, got '{other}'"
                    )));
                }
            };
        }
        Ok(())
    }
}

/// Refuses what is not `sha256:` and 64 lower-case hexadecimal digits.
pub(crate) fn check_digest(digest: &str) -> Result<(), SpecError> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(())
    } else {
        Err(SpecError(format!("a digest is sha256: and 64 lower-case hexadecimal digits, got '{digest}'")))
    }
}

/// The processors that this process may use: its cgroup's quota counts.
fn default_intra_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
