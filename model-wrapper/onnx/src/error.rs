//! Why a library or a model cannot be used.

use std::path::PathBuf;

use crate::runtime::LIBRARY_VARIABLE;

/// ONNX Runtime itself cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The shared library was not found, is not ONNX Runtime, or is too old.
    #[error(
        "ONNX Runtime cannot be loaded from '{}': {reason}. Set {LIBRARY_VARIABLE} to libonnxruntime.so of version 1.{} or \
         newer; `pip install onnxruntime` brings one as onnxruntime/capi/libonnxruntime.so.*",
        path.display(),
        ort::MINOR_VERSION
    )]
    Library {
        /// What was tried.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// The library was loaded and refused to start.
    #[error("ONNX Runtime does not start: {0}")]
    Start(String),
}

/// A model cannot be loaded, on this replica or any other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Malformed(&'static str),
    /// External data that would be read from outside the model's folder.
    #[error("external data '{location}' is refused: {reason}")]
    ExternalData {
        /// The location that the model names.
        location: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// External data that was not given.
    #[error("the model needs the external data file '{0}', which is missing")]
    MissingExternalData(String),
    /// An input or output that the Open Inference Protocol cannot carry.
    #[error("{tensor} has the type {got}; only dense tensors of {supported} can be served")]
    Type {
        /// Which one: `input 'x'`.
        tensor: String,
        /// Its type in ONNX Runtime's words.
        got: String,
        /// The element types that can be served.
        supported: &'static str,
    },
    /// ONNX Runtime refused the model.
    #[error("ONNX Runtime refused the model: {0}")]
    Runtime(String),
}
