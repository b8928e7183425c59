//! The Open Inference Protocol: tensors, V1 and V2 bodies, the binary tensor extension, gRPC messages.
//!
//! Spec: <https://github.com/kserve/open-inference-protocol>; the binary extension and its header
//! `Inference-Header-Content-Length` are Triton's. This crate decodes and encodes and checks; it runs nothing.

mod tensor;

pub use tensor::{DataType, InferRequest, InferResponse, ModelMetadata, Tensor, TensorData, TensorMetadata};
