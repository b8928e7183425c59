//! Tensors of the protocol to and from values of ONNX Runtime.

use std::fmt::Debug;

use bytemuck::{NoUninit, Pod};
use bytes::Bytes;
use half::{bf16, f16};
use model_wrapper_protocol::{DataType, InferError, Tensor, TensorData};
use ort::session::SessionInputValue;
use ort::value::{DynTensor, PrimitiveTensorElementType, TensorRef};

use crate::lent::{self, Lender};
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

/// An output in the protocol's terms. Its elements are lent where there is a `lender`, else copied.
pub(crate) fn output(name: &str, value: DynTensor, lender: Option<&Lender>) -> Result<Tensor, InferError> {
    let datatype = element::datatype(*value.data_type())
        .ok_or_else(|| InferError::Internal(format!("output '{name}' has the type {}", value.data_type())))?;
    let shape = value
        .shape()
        .iter()
        .map(|&extent| usize::try_from(extent))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| InferError::Internal(format!("output '{name}' has the shape {}", value.shape())))?;
    let data = match datatype {
        DataType::Bytes => strings::read(&value, value.shape().num_elements()).map(TensorData::Strings),
        DataType::Bool => elements::<bool>(value, lender),
        DataType::Uint8 => elements::<u8>(value, lender),
        DataType::Uint16 => elements::<u16>(value, lender),
        DataType::Uint32 => elements::<u32>(value, lender),
        DataType::Uint64 => elements::<u64>(value, lender),
        DataType::Int8 => elements::<i8>(value, lender),
        DataType::Int16 => elements::<i16>(value, lender),
        DataType::Int32 => elements::<i32>(value, lender),
        DataType::Int64 => elements::<i64>(value, lender),
        DataType::Fp16 => elements::<f16>(value, lender),
        DataType::Bf16 => elements::<bf16>(value, lender),
        DataType::Fp32 => elements::<f32>(value, lender),
        DataType::Fp64 => elements::<f64>(value, lender),
    };
    let data =
        data.map_err(|error| InferError::Internal(format!("output '{name}' cannot be read: {}", error.message())))?;
    Ok(Tensor { name: name.to_owned(), datatype, shape, data })
}

fn elements<T: PrimitiveTensorElementType + NoUninit>(
    value: DynTensor,
    lender: Option<&Lender>,
) -> ort::Result<TensorData> {
    match lender {
        Some(lender) => lender.bytes::<T>(value),
        None => lent::copy::<T>(&value),
    }
    .map(TensorData::Fixed)
}

// The protocol's bytes are little-endian and are handed to the runtime as they are.
const _: () = assert!(cfg!(target_endian = "little"), "only little-endian machines are supported");
