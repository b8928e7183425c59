//! ONNX models on ONNX Runtime.
//!
//! The library is loaded at run time, so one binary serves with whatever build of ONNX Runtime the image holds. A model is
//! loaded from memory, never from a path: what was hashed is what runs, and nothing outside the model's folder is opened.

mod convert;
mod element;
mod error;
mod external;
mod failure;
mod lent;
mod model;
mod rank;
mod runtime;
mod strings;
mod trim;

pub use error::{LoadError, RuntimeError};
pub use external::{MAX_EXTERNAL_FILES, external_files};
pub use model::{LoadOptions, ModelFiles, OnnxModel, Optimization};
pub use runtime::{DEFAULT_LIBRARY, LIBRARY_VARIABLE, Runtime};
pub use trim::release_unused_memory;
