//! From tensors to a V2 body.

use bytes::Bytes;

use super::OutputForms;
use crate::{InferError, InferResponse, ModelMetadata, Tensor, TensorData, json, strings};

/// A V2 response body in the parts that it is sent in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Body {
    /// JSON.
    pub json: Bytes,
    /// Binary tensors, which follow it. Where there are any, the response says the JSON's length in [`super::HEADER_LENGTH`].
    pub binary: Vec<Bytes>,
}

/// Bytes of JSON around a tensor and around a response, roughly; saves growing a small body.
const ENVELOPE: usize = 160;

/// Encodes a V2 response. The answer's id is that of the request.
pub fn encode(
    response: &InferResponse,
    model: &ModelMetadata,
    id: Option<&str>,
    forms: &OutputForms,
) -> Result<V2Body, InferError> {
    let mut out = Vec::with_capacity(
        ENVELOPE
            + response
                .outputs
                .iter()
                .enumerate()
                .map(|(index, tensor)| estimate(tensor, forms.is_binary(index)))
                .sum::<usize>(),
    );
    let mut binary = Vec::new();
    out.extend_from_slice(b"{\"model_name\":");
    json::string(&mut out, &model.name);
    if let Some(version) = model.versions.first() {
        out.extend_from_slice(b",\"model_version\":");
        json::string(&mut out, version);
    }
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        json::string(&mut out, id);
    }
    out.extend_from_slice(b",\"outputs\":[");
    for (index, tensor) in response.outputs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        json::string(&mut out, &tensor.name);
        out.extend_from_slice(b",\"datatype\":\"");
        out.extend_from_slice(tensor.datatype.name().as_bytes());
        out.extend_from_slice(b"\",\"shape\":");
        out.extend_from_slice(format!("{:?}", tensor.shape).as_bytes());
        if forms.is_binary(index) {
            let data = binary_form(tensor)?;
            out.extend_from_slice(format!(",\"parameters\":{{\"binary_data_size\":{}}}", data.len()).as_bytes());
            binary.push(data);
        } else {
            out.extend_from_slice(b",\"data\":");
            json::encode(&mut out, tensor, &[elements(tensor)])?;
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(V2Body { json: out.into(), binary })
}

/// The wire's binary form of a tensor, which V2 REST and gRPC share.
pub(crate) fn binary_form(tensor: &Tensor) -> Result<Bytes, InferError> {
    match &tensor.data {
        TensorData::Fixed(data) => Ok(data.clone()),
        TensorData::Strings(data) => strings::encode(&tensor.name, data),
    }
}

fn elements(tensor: &Tensor) -> usize {
    match &tensor.data {
        TensorData::Fixed(data) => tensor.datatype.width().map_or(0, |width| data.len() / width),
        TensorData::Strings(data) => data.len(),
    }
}

fn estimate(tensor: &Tensor, binary: bool) -> usize {
    const DIGITS: usize = 12;
    ENVELOPE + if binary { 0 } else { elements(tensor) * DIGITS }
}
