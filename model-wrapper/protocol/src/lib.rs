//! The Open Inference Protocol: tensors, V1 and V2 bodies, the binary tensor extension, gRPC messages.
//!
//! Spec: <https://github.com/kserve/open-inference-protocol>; the binary extension and its header
//! `Inference-Header-Content-Length` are Triton's. This crate decodes and encodes and checks; it runs nothing.

mod backend;
mod check;
mod datatype;
mod error;
pub mod grpc;
mod json;
mod limits;
mod strings;
mod tensor;
pub mod v1;
pub mod v2;

pub use backend::{Backend, Cancel};
pub use check::elements;
pub use error::{InferError, Unavailable};
pub use limits::Limits;
pub use tensor::{ANY_RANK, DataType, InferRequest, InferResponse, ModelMetadata, Tensor, TensorData, TensorMetadata};
pub use v2::metadata_json;
