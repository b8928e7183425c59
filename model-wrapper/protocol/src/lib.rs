//! The Open Inference Protocol: tensors, V1 and V2 bodies, the binary tensor extension, gRPC messages.
//!
//! Spec: <https://github.com/kserve/open-inference-protocol>; the binary extension and its header
//! `Inference-Header-Content-Length` are Triton's. This crate decodes and encodes and checks; it runs nothing.

mod backend;
mod error;
mod tensor;

pub use backend::{Backend, Cancel};
pub use error::{InferError, Unavailable};
pub use tensor::{DataType, InferRequest, InferResponse, ModelMetadata, Tensor, TensorData, TensorMetadata};
