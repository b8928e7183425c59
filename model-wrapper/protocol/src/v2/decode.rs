//! From a V2 body to tensors.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::OutputForms;
use crate::{DataType, InferError, InferRequest, Limits, Tensor, TensorData, check::checked_elements, json, strings};

/// A decoded V2 request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct V2Request {
    /// What to run.
    pub request: InferRequest,
    /// How to answer.
    pub forms: OutputForms,
}

/// Optional members may be absent or null: some clients write every member of their types.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    parameters: Option<RequestParameters>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize)]
struct RequestParameters {
    binary_data_output: Option<bool>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    shape: &'a RawValue,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    parameters: Option<InputParameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct InputParameters {
    binary_data_size: Option<usize>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<IgnoredAny>,
    shared_memory_region: Option<IgnoredAny>,
}

/// Decodes a V2 body. `header_length` is the value of [`super::HEADER_LENGTH`], where the request has one. Binary tensors are
/// views of `body`. The model is not looked at: [`InferRequest::check`] does that.
pub fn decode(body: &Bytes, header_length: Option<usize>, limits: &Limits) -> Result<V2Request, InferError> {
    let header_length = header_length.unwrap_or(body.len());
    if header_length > body.len() {
        return Err(InferError::BadRequest(format!(
            "Inference-Header-Content-Length is {header_length}, but the body has {} bytes",
            body.len()
        )));
    }
    let mut binary = body.slice(header_length..);
    let text = std::str::from_utf8(&body[..header_length]).map_err(|error| {
        InferError::BadRequest(format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    let header: Body<'_> = json::object("a V2 inference request", text)?;
    json::check_depth(
        text,
        header.inputs.iter().filter_map(|input| input.data.map(RawValue::get)),
        limits.max_json_depth,
    )?;
    let outputs = header.outputs.unwrap_or_default();
    for (what, count) in [("inputs", header.inputs.len()), ("outputs", outputs.len())] {
        if count > limits.max_tensors {
            return Err(InferError::BadRequest(format!("{count} {what}: expected at most {}", limits.max_tensors)));
        }
    }

    let inputs = header.inputs.into_iter().map(|input| input.decode(&mut binary, limits)).collect::<Result<_, _>>()?;
    if !binary.is_empty() {
        return Err(InferError::BadRequest(format!(
            "the body has {} bytes after its last tensor: \"binary_data_size\" and Inference-Header-Content-Length must add up to the body",
            binary.len()
        )));
    }
    let rest = header.parameters.and_then(|parameters| parameters.binary_data_output).unwrap_or_default();
    let mut forms = OutputForms { named: Vec::with_capacity(outputs.len()), rest };
    for output in &outputs {
        let binary = output.parameters.as_ref().map_or(Ok(None), |parameters| parameters.binary(&output.name))?;
        forms.named.push(binary.unwrap_or(rest));
    }
    let outputs = outputs.into_iter().map(|output| output.name.into_owned()).collect();
    Ok(V2Request { request: InferRequest { id: header.id.map(Cow::into_owned), inputs, outputs }, forms })
}

impl Input<'_> {
    fn decode(self, binary: &mut Bytes, limits: &Limits) -> Result<Tensor, InferError> {
        let name = self.name.into_owned();
        let datatype = DataType::named(&name, &self.datatype)?;
        let shape = json::integers(&name, "shape", self.shape.get(), limits.max_dims)?;
        let parameters = self.parameters.unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            return Err(InferError::input(
                &name,
                "\"data\" or \"binary_data_size\"",
                "shared memory, which this server does not offer",
            ));
        }
        match (self.data, parameters.binary_data_size) {
            (Some(data), None) => {
                let elements = checked_elements(&name, &shape)?;
                let (data, nesting) = json::decode(&name, datatype, data.get(), elements, limits)?;
                if nesting.elements != elements {
                    return Err(InferError::input(
                        &name,
                        format!("{elements} elements for shape {shape:?}"),
                        nesting.elements.to_string(),
                    ));
                }
                Ok(Tensor { name, datatype, shape, data })
            }
            (None, Some(size)) => {
                if size > binary.len() {
                    return Err(InferError::input(
                        &name,
                        format!("{size} bytes of binary data"),
                        format!("{} left in the body", binary.len()),
                    ));
                }
                binary_tensor(name, datatype, shape, binary.split_to(size), limits)
            }
            (None, None) => Err(InferError::input(&name, "\"data\" or the parameter \"binary_data_size\"", "neither")),
            (Some(_), Some(_)) => {
                Err(InferError::input(&name, "\"data\" or the parameter \"binary_data_size\"", "both"))
            }
        }
    }
}

/// A tensor from the wire's binary form, which V2 REST and gRPC share.
pub(crate) fn binary_tensor(
    name: String,
    datatype: DataType,
    shape: Vec<usize>,
    data: Bytes,
    limits: &Limits,
) -> Result<Tensor, InferError> {
    if datatype != DataType::Bytes {
        return Tensor::fixed(name, datatype, shape, data);
    }
    let elements = checked_elements(&name, &shape)?;
    let data = strings::decode(&name, data, elements, limits.max_strings)?;
    Ok(Tensor { name, datatype, shape, data: TensorData::Strings(data) })
}

impl OutputParameters {
    /// Whether the output is wanted in binary. Refuses what would change the answer and is not offered.
    fn binary(&self, name: &str) -> Result<Option<bool>, InferError> {
        let unsupported = match self {
            Self { classification: Some(_), .. } => "classification",
            Self { shared_memory_region: Some(_), .. } => "shared_memory_region",
            Self { binary_data, .. } => return Ok(*binary_data),
        };
        Err(InferError::BadRequest(format!(
            "output '{name}': the parameter \"{unsupported}\" is not supported by this server"
        )))
    }
}
