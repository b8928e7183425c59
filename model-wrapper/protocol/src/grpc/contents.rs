//! Typed tensor contents.

use bytes::Bytes;

use super::InferTensorContents;
use crate::{DataType, InferError, Tensor, TensorData, check::checked_elements};

/// A tensor from typed contents.
pub(super) fn decode(
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    contents: InferTensorContents,
) -> Result<Tensor, InferError> {
    let expected = checked_elements(&name, &shape)?;
    let field = Field { name: &name, datatype, expected };
    let data = match datatype {
        DataType::Bool => field.fixed(&contents.bool_contents, |value| Some([u8::from(value)]))?,
        DataType::Int8 => field.fixed(&contents.int_contents, |value| i8::try_from(value).ok().map(i8::to_le_bytes))?,
        DataType::Int16 => {
            field.fixed(&contents.int_contents, |value| i16::try_from(value).ok().map(i16::to_le_bytes))?
        }
        DataType::Int32 => field.fixed(&contents.int_contents, |value| Some(value.to_le_bytes()))?,
        DataType::Int64 => field.fixed(&contents.int64_contents, |value| Some(value.to_le_bytes()))?,
        DataType::Uint8 => {
            field.fixed(&contents.uint_contents, |value| u8::try_from(value).ok().map(u8::to_le_bytes))?
        }
        DataType::Uint16 => {
            field.fixed(&contents.uint_contents, |value| u16::try_from(value).ok().map(u16::to_le_bytes))?
        }
        DataType::Uint32 => field.fixed(&contents.uint_contents, |value| Some(value.to_le_bytes()))?,
        DataType::Uint64 => field.fixed(&contents.uint64_contents, |value| Some(value.to_le_bytes()))?,
        DataType::Fp32 => field.fixed(&contents.fp32_contents, |value| Some(value.to_le_bytes()))?,
        DataType::Fp64 => field.fixed(&contents.fp64_contents, |value| Some(value.to_le_bytes()))?,
        DataType::Bytes => {
            field.count(contents.bytes_contents.len())?;
            TensorData::Strings(contents.bytes_contents)
        }
        DataType::Fp16 | DataType::Bf16 => {
            return Err(InferError::input(
                &name,
                format!("raw_input_contents: {datatype} has no typed contents"),
                "contents",
            ));
        }
    };
    Ok(Tensor { name, datatype, shape, data })
}

struct Field<'a> {
    name: &'a str,
    datatype: DataType,
    expected: usize,
}

impl Field<'_> {
    fn count(&self, got: usize) -> Result<(), InferError> {
        if got == self.expected {
            return Ok(());
        }
        Err(InferError::input(
            self.name,
            format!("{} elements in the contents for {}", self.expected, self.datatype),
            got.to_string(),
        ))
    }

    fn fixed<T: Copy + std::fmt::Display, const WIDTH: usize>(
        &self,
        values: &[T],
        convert: impl Fn(T) -> Option<[u8; WIDTH]>,
    ) -> Result<TensorData, InferError> {
        self.count(values.len())?;
        let mut data = Vec::with_capacity(values.len() * WIDTH);
        for (index, &value) in values.iter().enumerate() {
            let element = convert(value).ok_or_else(|| InferError::InvalidInput {
                tensor: format!("input '{}', element {index}", self.name),
                expected: format!("an integer in the range of {}", self.datatype),
                got: value.to_string(),
            })?;
            data.extend_from_slice(&element);
        }
        Ok(TensorData::Fixed(data.into()))
    }
}

/// Typed contents of a tensor; none for a type that has none.
pub(super) fn encode(tensor: &Tensor) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    let data = match &tensor.data {
        TensorData::Strings(data) => {
            contents.bytes_contents.clone_from(data);
            return Some(contents);
        }
        TensorData::Fixed(data) => data,
    };
    match tensor.datatype {
        DataType::Bool => contents.bool_contents = data.iter().map(|&byte| byte != 0).collect(),
        DataType::Int8 => contents.int_contents = read(data, |bytes| i8::from_le_bytes(bytes).into()),
        DataType::Int16 => contents.int_contents = read(data, |bytes| i16::from_le_bytes(bytes).into()),
        DataType::Int32 => contents.int_contents = read(data, i32::from_le_bytes),
        DataType::Int64 => contents.int64_contents = read(data, i64::from_le_bytes),
        DataType::Uint8 => contents.uint_contents = read(data, |bytes| u8::from_le_bytes(bytes).into()),
        DataType::Uint16 => contents.uint_contents = read(data, |bytes| u16::from_le_bytes(bytes).into()),
        DataType::Uint32 => contents.uint_contents = read(data, u32::from_le_bytes),
        DataType::Uint64 => contents.uint64_contents = read(data, u64::from_le_bytes),
        DataType::Fp32 => contents.fp32_contents = read(data, f32::from_le_bytes),
        DataType::Fp64 => contents.fp64_contents = read(data, f64::from_le_bytes),
        DataType::Fp16 | DataType::Bf16 | DataType::Bytes => return None,
    }
    Some(contents)
}

fn read<T, const WIDTH: usize>(data: &Bytes, from_bytes: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|&chunk| from_bytes(chunk)).collect()
}
