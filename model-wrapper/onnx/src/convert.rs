//! Tensors of the protocol to and from values of ONNX Runtime.

use std::fmt::Debug;

use bytemuck::{NoUninit, Pod};
use bytes::Bytes;
use half::{bf16, f16};
use model_wrapper_protocol::{DataType, InferError, Tensor, TensorData};
use ort::session::SessionInputValue;
use ort::value::{DynTensorRef, PrimitiveTensorElementType, TensorRef};

use crate::{element, strings};

/// A value for the runtime. It borrows the tensor's bytes where they are aligned for their type; else they are copied once.
pub(crate) fn input(tensor: &Tensor) -> Result<SessionInputValue<'_>, InferError> {
    // The front has checked the request, but ort multiplies extents without care and the runtime would read past the bytes.
    let expected = tensor.shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
    let bytes = match &tensor.data {
        TensorData::Fixed(bytes) => bytes,
        TensorData::Strings(elements) => {
            if expected != Some(elements.len()) {
                return Err(mismatch(tensor, elements.len(), "elements"));
            }
            return strings::make(&tensor.shape, elements).map(Into::into).map_err(|error| refused(tensor, &error));
        }
    };
    if expected.zip(tensor.datatype.width()).and_then(|(count, width)| count.checked_mul(width)) != Some(bytes.len()) {
        return Err(mismatch(tensor, bytes.len(), "bytes"));
    }
    match tensor.datatype {
        DataType::Bool => booleans(tensor, bytes),
        DataType::Uint8 => fixed::<u8>(tensor, bytes),
        DataType::Uint16 => fixed::<u16>(tensor, bytes),
        DataType::Uint32 => fixed::<u32>(tensor, bytes),
        DataType::Uint64 => fixed::<u64>(tensor, bytes),
        DataType::Int8 => fixed::<i8>(tensor, bytes),
        DataType::Int16 => fixed::<i16>(tensor, bytes),
        DataType::Int32 => fixed::<i32>(tensor, bytes),
        DataType::Int64 => fixed::<i64>(tensor, bytes),
        DataType::Fp16 => fixed::<f16>(tensor, bytes),
        DataType::Bf16 => fixed::<bf16>(tensor, bytes),
        DataType::Fp32 => fixed::<f32>(tensor, bytes),
        DataType::Fp64 => fixed::<f64>(tensor, bytes),
        DataType::Bytes => {
            Err(InferError::input(&tensor.name, "strings", format!("{} bytes of fixed-width elements", bytes.len())))
        }
    }
}

fn fixed<'t, T>(tensor: &'t Tensor, bytes: &'t Bytes) -> Result<SessionInputValue<'t>, InferError>
where
    T: PrimitiveTensorElementType + Pod + Debug,
{
    let value = match bytemuck::try_cast_slice::<u8, T>(bytes) {
        Ok(view) => TensorRef::from_array_view((tensor.shape.as_slice(), view)).map(Into::into),
        Err(_) => {
            let copy = bytemuck::pod_collect_to_vec::<u8, T>(bytes);
            ort::value::Tensor::from_array((tensor.shape.as_slice(), copy)).map(Into::into)
        }
    };
    value.map_err(|error| refused(tensor, &error))
}

fn booleans<'t>(tensor: &'t Tensor, bytes: &'t Bytes) -> Result<SessionInputValue<'t>, InferError> {
    let view = bytemuck::checked::try_cast_slice::<u8, bool>(bytes)
        .map_err(|_| InferError::input(&tensor.name, "0 or 1 as every BOOL", "another byte"))?;
    TensorRef::from_array_view((tensor.shape.as_slice(), view)).map(Into::into).map_err(|error| refused(tensor, &error))
}

fn mismatch(tensor: &Tensor, given: usize, unit: &str) -> InferError {
    InferError::input(&tensor.name, format!("data for the shape {:?}", tensor.shape), format!("{given} {unit}"))
}

fn refused(tensor: &Tensor, error: &ort::Error) -> InferError {
    InferError::input(&tensor.name, "a tensor that ONNX Runtime takes", error.message().to_owned())
}

/// A copy of an output in the protocol's terms. The runtime's memory goes back to its arena at once, so that a slow reader of
/// the response holds none of it.
pub(crate) fn output(name: &str, value: &DynTensorRef<'_>) -> Result<Tensor, InferError> {
    let datatype = element::datatype(*value.data_type())
        .ok_or_else(|| InferError::Internal(format!("output '{name}' has the type {}", value.data_type())))?;
    let shape = value
        .shape()
        .iter()
        .map(|&extent| usize::try_from(extent))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| InferError::Internal(format!("output '{name}' has the shape {}", value.shape())))?;
    let data = match datatype {
        DataType::Bytes => strings::read(value, value.shape().num_elements()).map(TensorData::Strings),
        DataType::Bool => copy::<bool>(value),
        DataType::Uint8 => copy::<u8>(value),
        DataType::Uint16 => copy::<u16>(value),
        DataType::Uint32 => copy::<u32>(value),
        DataType::Uint64 => copy::<u64>(value),
        DataType::Int8 => copy::<i8>(value),
        DataType::Int16 => copy::<i16>(value),
        DataType::Int32 => copy::<i32>(value),
        DataType::Int64 => copy::<i64>(value),
        DataType::Fp16 => copy::<f16>(value),
        DataType::Bf16 => copy::<bf16>(value),
        DataType::Fp32 => copy::<f32>(value),
        DataType::Fp64 => copy::<f64>(value),
    };
    let data =
        data.map_err(|error| InferError::Internal(format!("output '{name}' cannot be read: {}", error.message())))?;
    Ok(Tensor { name: name.to_owned(), datatype, shape, data })
}

fn copy<T: PrimitiveTensorElementType + NoUninit>(value: &DynTensorRef<'_>) -> ort::Result<TensorData> {
    let (_, elements) = value.try_extract_tensor::<T>()?;
    Ok(TensorData::Fixed(Bytes::copy_from_slice(bytemuck::cast_slice(elements))))
}

// The protocol's bytes are little-endian and are handed to the runtime as they are.
const _: () = assert!(cfg!(target_endian = "little"), "only little-endian machines are supported");
