//! Element types of ONNX Runtime and of the Open Inference Protocol.

use std::collections::BTreeSet;

use model_wrapper_protocol::{ANY_RANK, DataType, TensorMetadata};
use ort::value::{TensorElementType, ValueType};

use crate::LoadError;

/// What the protocol has names for.
const SUPPORTED: &str = "BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32, FP64 and strings";

/// The protocol's name for an element type, if it has one.
pub(crate) fn datatype(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// Describes an input or output; `role` is the word for it in an error, and `without_shape` has those of any rank.
pub(crate) fn describe(
    role: &str,
    (name, kind): (&str, &ValueType),
    without_shape: &BTreeSet<String>,
) -> Result<TensorMetadata, LoadError> {
    let refuse = || LoadError::Type { tensor: format!("{role} '{name}'"), got: kind.to_string(), supported: SUPPORTED };
    let ValueType::Tensor { ty, shape, .. } = kind else { return Err(refuse()) };
    let shape = if shape.is_empty() && without_shape.contains(name) {
        vec![ANY_RANK]
    } else {
        shape.iter().map(|&extent| if extent < 0 { -1 } else { extent }).collect()
    };
    Ok(TensorMetadata { name: name.to_owned(), datatype: datatype(*ty).ok_or_else(refuse)?, shape })
}
