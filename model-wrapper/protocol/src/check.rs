//! Agreement of tensors with their own description and of requests with the model.

use bytes::Bytes;

use crate::{
    ANY_RANK, DataType, InferError, InferRequest, ModelMetadata, Tensor, TensorData, TensorMetadata, error::shorten,
};

/// Elements of a tensor of that shape; none where their number overflows.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent))
}

/// Elements of the tensor called `name`, or an error that names it.
pub(crate) fn checked_elements(name: &str, shape: &[usize]) -> Result<usize, InferError> {
    elements(shape).ok_or_else(|| overflow(name, shape))
}

fn overflow(name: &str, shape: &[usize]) -> InferError {
    InferError::InvalidInput {
        tensor: format!("tensor '{}'", shorten(name)),
        expected: format!("a shape of at most {} bytes", usize::MAX),
        got: format!("{shape:?}"),
    }
}

impl Tensor {
    /// A tensor of fixed-width elements, little-endian and row-major. Fails where `data` is not as long as shape and type say,
    /// and where a BOOL is neither 0 nor 1.
    pub fn fixed(
        name: impl Into<String>,
        datatype: DataType,
        shape: Vec<usize>,
        data: Bytes,
    ) -> Result<Self, InferError> {
        let name = name.into();
        let Some(width) = datatype.width() else {
            return Err(InferError::Internal(format!("tensor '{name}': {datatype} has no fixed width")));
        };
        let expected = checked_elements(&name, &shape)?.checked_mul(width).ok_or_else(|| overflow(&name, &shape))?;
        if data.len() != expected {
            return Err(InferError::InvalidInput {
                tensor: format!("tensor '{}'", shorten(&name)),
                expected: format!("{expected} bytes for {datatype} {shape:?}"),
                got: format!("{} bytes", data.len()),
            });
        }
        if datatype == DataType::Bool
            && let Some(index) = data.iter().position(|&byte| byte > 1)
        {
            return Err(InferError::InvalidInput {
                tensor: format!("tensor '{}', element {index}", shorten(&name)),
                expected: "a BOOL of 0 or 1".into(),
                got: data[index].to_string(),
            });
        }
        Ok(Self { name, datatype, shape, data: TensorData::Fixed(data) })
    }

    /// A tensor of byte strings. Fails where there are not as many as the shape says.
    pub fn strings(name: impl Into<String>, shape: Vec<usize>, data: Vec<Bytes>) -> Result<Self, InferError> {
        let name = name.into();
        let expected = checked_elements(&name, &shape)?;
        if data.len() != expected {
            return Err(InferError::InvalidInput {
                tensor: format!("tensor '{}'", shorten(&name)),
                expected: format!("{expected} elements for BYTES {shape:?}"),
                got: data.len().to_string(),
            });
        }
        Ok(Self { name, datatype: DataType::Bytes, shape, data: TensorData::Strings(data) })
    }

    /// The part of the tensor at `row` of its first dimension, without that dimension. None where there is no such row.
    pub fn row(&self, row: usize) -> Option<Self> {
        let (&rows, shape) = self.shape.split_first()?;
        if row >= rows {
            return None;
        }
        let data = match &self.data {
            TensorData::Fixed(data) => {
                let length = data.len() / rows;
                TensorData::Fixed(data.slice(row * length..(row + 1) * length))
            }
            TensorData::Strings(data) => {
                let length = data.len() / rows;
                TensorData::Strings(data[row * length..(row + 1) * length].to_vec())
            }
        };
        Some(Self { name: self.name.clone(), datatype: self.datatype, shape: shape.to_vec(), data })
    }
}

impl TensorData {
    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Fixed(data) => data.len(),
            Self::Strings(data) => data.iter().map(Bytes::len).sum(),
        }
    }
}

impl TensorMetadata {
    /// The shape as the protocol tells it, which has no word for any rank.
    pub fn told_shape(&self) -> &[i64] {
        if self.shape == [ANY_RANK] { &[-1] } else { &self.shape }
    }

    /// Whether a tensor of that shape fits.
    pub fn admits(&self, shape: &[usize]) -> bool {
        if self.shape == [ANY_RANK] {
            return true;
        }
        self.shape.len() == shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(&wanted, &got)| usize::try_from(wanted).map_or(true, |wanted| wanted == got))
    }

    fn describe(&self) -> String {
        format!("'{}' ({} {:?})", self.name, self.datatype, self.told_shape())
    }
}

impl ModelMetadata {
    /// The input of that name, or an error that says which there are.
    pub(crate) fn known_input(&self, name: &str) -> Result<&TensorMetadata, InferError> {
        self.input(name).ok_or_else(|| {
            let optionally = if self.optional_inputs.is_empty() { "" } else { ", and optionally " };
            InferError::BadRequest(format!(
                "unknown input '{}': model '{}' takes {}{optionally}{}",
                shorten(name),
                self.name,
                list(&self.inputs),
                list(&self.optional_inputs)
            ))
        })
    }
}

impl InferRequest {
    /// Checks that the request has each input of the model once, of the right type and shape, and wants outputs that it has.
    pub fn check(&self, model: &ModelMetadata) -> Result<(), InferError> {
        for (index, tensor) in self.inputs.iter().enumerate() {
            let wanted = model.known_input(&tensor.name)?;
            if self.inputs[..index].iter().any(|other| other.name == tensor.name) {
                return Err(InferError::BadRequest(format!("input '{}' is given twice", shorten(&tensor.name))));
            }
            if tensor.datatype != wanted.datatype {
                return Err(InferError::input(&tensor.name, wanted.datatype.name(), tensor.datatype.name()));
            }
            if !wanted.admits(&tensor.shape) {
                return Err(InferError::input(
                    &tensor.name,
                    format!("shape {:?} (-1 is any)", wanted.shape),
                    format!("{:?}", tensor.shape),
                ));
            }
        }
        if let Some(missing) =
            model.inputs.iter().find(|wanted| self.inputs.iter().all(|tensor| tensor.name != wanted.name))
        {
            return Err(InferError::BadRequest(format!("missing input {}", missing.describe())));
        }
        for (index, name) in self.outputs.iter().enumerate() {
            if model.outputs.iter().all(|output| output.name != *name) {
                return Err(InferError::BadRequest(format!(
                    "unknown output '{}': model '{}' gives {}",
                    shorten(name),
                    model.name,
                    list(&model.outputs)
                )));
            }
            if self.outputs[..index].contains(name) {
                return Err(InferError::BadRequest(format!("output '{name}' is requested twice")));
            }
        }
        Ok(())
    }
}

fn list(tensors: &[TensorMetadata]) -> String {
    tensors.iter().map(TensorMetadata::describe).collect::<Vec<_>>().join(", ")
}
