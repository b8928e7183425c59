//! From elements to JSON text.

use bytes::Bytes;
use half::f16;
use serde::Serialize;

use crate::{DataType, InferError, Tensor, TensorData};

/// Lists that a tensor without elements is written as at most. Its shape takes no memory, so a model whose outputs' extents a caller
/// chooses would have text of any length written for it.
const MAX_EMPTY_LISTS: usize = 1 << 20;

/// Lists that arrays nested by `shape` are made of; saturates. An extent of 0 ends the nesting: nothing is in its list.
pub(crate) fn lists(shape: &[usize]) -> usize {
    let depth = shape.iter().position(|extent| *extent == 0).unwrap_or(shape.len().saturating_sub(1));
    let (_, lists) = shape[..depth].iter().fold((1, 1), |(inner, lists): (usize, usize), extent| {
        let inner = inner.saturating_mul(*extent);
        (inner, lists.saturating_add(inner))
    });
    lists
}

/// Refuses an output that would be written as more lists than it is worth.
pub(crate) fn check_lists(tensor: &Tensor) -> Result<(), InferError> {
    let lists = lists(&tensor.shape);
    if !tensor.shape.contains(&0) || lists <= MAX_EMPTY_LISTS {
        return Ok(());
    }
    Err(InferError::BadRequest(format!(
        "output '{}' has no element, but shape {:?}: nested arrays would be {lists} lists of nothing, more than {MAX_EMPTY_LISTS}. Use the V2 protocol, which has the shape beside the data",
        tensor.name, tensor.shape
    )))
}

/// Appends the tensor's elements as arrays nested by `shape`, which must hold as many; `[elements]` makes the array flat and
/// `[]` makes it a scalar.
pub(crate) fn encode(out: &mut Vec<u8>, tensor: &Tensor, shape: &[usize]) -> Result<(), InferError> {
    let data = match &tensor.data {
        TensorData::Strings(data) => {
            let texts = data
                .iter()
                .map(|bytes| std::str::from_utf8(bytes))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| no_json(tensor, "bytes that are not UTF-8"))?;
            nest(out, shape, &mut texts.into_iter());
            return Ok(());
        }
        TensorData::Fixed(data) => data,
    };
    match tensor.datatype {
        DataType::Bool => nest(out, shape, &mut data.iter().map(|&byte| byte != 0)),
        DataType::Uint8 => numbers(out, shape, data, u8::from_le_bytes),
        DataType::Uint16 => numbers(out, shape, data, u16::from_le_bytes),
        DataType::Uint32 => numbers(out, shape, data, u32::from_le_bytes),
        DataType::Uint64 => numbers(out, shape, data, u64::from_le_bytes),
        DataType::Int8 => numbers(out, shape, data, i8::from_le_bytes),
        DataType::Int16 => numbers(out, shape, data, i16::from_le_bytes),
        DataType::Int32 => numbers(out, shape, data, i32::from_le_bytes),
        DataType::Int64 => numbers(out, shape, data, i64::from_le_bytes),
        DataType::Fp16 => floats(out, tensor, shape, data, |bytes| f16::from_le_bytes(bytes).to_f32())?,
        DataType::Fp32 => floats(out, tensor, shape, data, f32::from_le_bytes)?,
        DataType::Fp64 => floats(out, tensor, shape, data, f64::from_le_bytes)?,
        DataType::Bf16 => return Err(no_json(tensor, "BF16")),
        DataType::Bytes => {
            return Err(InferError::Internal(format!("output '{}' has BYTES of fixed width", tensor.name)));
        }
    }
    Ok(())
}

/// Appends a JSON string.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    scalar(out, &text);
}

fn no_json(tensor: &Tensor, what: &str) -> InferError {
    InferError::BadRequest(format!(
        "output '{}' holds {what}, which JSON cannot say: request it with the V2 protocol and \"binary_data\": true",
        tensor.name
    ))
}

fn numbers<T: Serialize, const WIDTH: usize>(
    out: &mut Vec<u8>,
    shape: &[usize],
    data: &Bytes,
    from_bytes: impl Fn([u8; WIDTH]) -> T,
) {
    nest(out, shape, &mut data.as_chunks().0.iter().map(|&chunk| from_bytes(chunk)));
}

fn floats<T: Serialize + Copy + Into<f64>, const WIDTH: usize>(
    out: &mut Vec<u8>,
    tensor: &Tensor,
    shape: &[usize],
    data: &Bytes,
    from_bytes: impl Fn([u8; WIDTH]) -> T,
) -> Result<(), InferError> {
    if data.as_chunks().0.iter().any(|&chunk| !from_bytes(chunk).into().is_finite()) {
        return Err(no_json(tensor, "NaN or infinity"));
    }
    numbers(out, shape, data, from_bytes);
    Ok(())
}

fn nest<T: Serialize>(out: &mut Vec<u8>, shape: &[usize], elements: &mut impl Iterator<Item = T>) {
    let Some((&extent, inner)) = shape.split_first() else {
        if let Some(element) = elements.next() {
            scalar(out, &element);
        }
        return;
    };
    out.push(b'[');
    for index in 0..extent {
        if index > 0 {
            out.push(b',');
        }
        nest(out, inner, elements);
    }
    out.push(b']');
}

fn scalar<T: Serialize>(out: &mut Vec<u8>, element: &T) {
    serde_json::to_writer(out, element).expect("a scalar serializes into memory");
}
