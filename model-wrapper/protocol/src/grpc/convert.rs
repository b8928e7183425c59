//! From messages to requests, from responses to messages.

use std::collections::HashMap;

use super::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelMetadataResponse, contents,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    model_infer_response::InferOutputTensor,
    model_metadata_response,
};
use crate::{
    DataType, InferError, InferRequest, InferResponse, Limits, ModelMetadata, Tensor, TensorMetadata,
    v2::{binary_form, binary_tensor},
};

/// Which of the two forms of a message's tensors is used: a caller gets the one that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentsForm {
    /// `raw_input_contents` and `raw_output_contents`.
    Raw,
    /// `contents` of each tensor.
    Typed,
}

/// A decoded gRPC request.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcRequest {
    /// What to run.
    pub request: InferRequest,
    /// How to answer.
    pub form: ContentsForm,
}

/// Parameters that would change the answer and are not offered.
const UNSUPPORTED: [&str; 2] = ["shared_memory_region", "classification"];

/// Decodes a gRPC request. Raw tensors are views of the message. The model is not looked at: [`InferRequest::check`] does that.
pub fn decode(message: ModelInferRequest, limits: &Limits) -> Result<GrpcRequest, InferError> {
    for (what, count) in [("inputs", message.inputs.len()), ("outputs", message.outputs.len())] {
        if count > limits.max_tensors {
            return Err(InferError::BadRequest(format!("{count} {what}: expected at most {}", limits.max_tensors)));
        }
    }
    let form = if message.raw_input_contents.is_empty() { ContentsForm::Typed } else { ContentsForm::Raw };
    let inputs = match form {
        ContentsForm::Typed => {
            message.inputs.into_iter().map(|input| typed(input, limits)).collect::<Result<_, _>>()?
        }
        ContentsForm::Raw => {
            if message.raw_input_contents.len() != message.inputs.len() {
                return Err(InferError::BadRequest(format!(
                    "raw_input_contents: expected one for each of the {} inputs, got {}",
                    message.inputs.len(),
                    message.raw_input_contents.len()
                )));
            }
            let pairs = message.inputs.into_iter().zip(message.raw_input_contents);
            pairs.map(|(input, data)| raw(input, data, limits)).collect::<Result<_, _>>()?
        }
    };
    let outputs = message.outputs.into_iter().map(requested).collect::<Result<_, _>>()?;
    let id = Some(message.id).filter(|id| !id.is_empty());
    Ok(GrpcRequest { request: InferRequest { id, inputs, outputs }, form })
}

fn typed(mut input: InferInputTensor, limits: &Limits) -> Result<Tensor, InferError> {
    let contents = input.contents.take().unwrap_or_default();
    let (name, datatype, shape) = describe(input, limits)?;
    if contents.bytes_contents.len() > limits.max_strings {
        return Err(InferError::input(
            &name,
            format!("at most {} elements of type BYTES", limits.max_strings),
            contents.bytes_contents.len().to_string(),
        ));
    }
    contents::decode(name, datatype, shape, contents)
}

fn raw(input: InferInputTensor, data: bytes::Bytes, limits: &Limits) -> Result<Tensor, InferError> {
    if input.contents.is_some() {
        return Err(InferError::input(&input.name, "contents or raw_input_contents", "both"));
    }
    let (name, datatype, shape) = describe(input, limits)?;
    binary_tensor(name, datatype, shape, data, limits)
}

fn describe(input: InferInputTensor, limits: &Limits) -> Result<(String, DataType, Vec<usize>), InferError> {
    let InferInputTensor { name, datatype, shape, parameters, .. } = input;
    refuse(&name, &parameters)?;
    let datatype = DataType::named(&name, &datatype)?;
    if shape.len() > limits.max_dims {
        return Err(InferError::input(
            &name,
            format!("at most {} dimensions", limits.max_dims),
            shape.len().to_string(),
        ));
    }
    let shape = shape
        .iter()
        .map(|&extent| usize::try_from(extent))
        .collect::<Result<_, _>>()
        .map_err(|_| InferError::input(&name, "a shape without negative extents", format!("{shape:?}")))?;
    Ok((name, datatype, shape))
}

fn requested(output: InferRequestedOutputTensor) -> Result<String, InferError> {
    refuse(&output.name, &output.parameters)?;
    Ok(output.name)
}

fn refuse(name: &str, parameters: &HashMap<String, InferParameter>) -> Result<(), InferError> {
    match UNSUPPORTED.iter().find(|key| parameters.contains_key(**key)) {
        Some(key) => Err(InferError::BadRequest(format!(
            "tensor '{name}': the parameter \"{key}\" is not supported by this server"
        ))),
        None => Ok(()),
    }
}

/// Encodes a response in the form wanted; raw all the same where one of the tensors has no typed form.
pub fn encode(
    response: &InferResponse,
    model: &ModelMetadata,
    id: Option<String>,
    form: ContentsForm,
) -> Result<ModelInferResponse, InferError> {
    let typed: Option<Vec<_>> = match form {
        ContentsForm::Typed => response.outputs.iter().map(contents::encode).collect(),
        ContentsForm::Raw => None,
    };
    let raw_output_contents = match &typed {
        Some(_) => Vec::new(),
        None => response.outputs.iter().map(binary_form).collect::<Result<_, _>>()?,
    };
    let mut typed = typed.unwrap_or_default().into_iter();
    let outputs = response.outputs.iter().map(|tensor| InferOutputTensor {
        name: tensor.name.clone(),
        datatype: tensor.datatype.name().to_owned(),
        shape: tensor.shape.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)).collect(),
        parameters: HashMap::new(),
        contents: typed.next(),
    });
    Ok(ModelInferResponse {
        model_name: model.name.clone(),
        model_version: model.versions.first().cloned().unwrap_or_default(),
        id: id.unwrap_or_default(),
        parameters: HashMap::new(),
        outputs: outputs.collect(),
        raw_output_contents,
    })
}

/// A model's metadata as a message.
pub fn metadata(model: &ModelMetadata) -> ModelMetadataResponse {
    let tensors = |tensors: &[TensorMetadata]| {
        tensors
            .iter()
            .map(|tensor| model_metadata_response::TensorMetadata {
                name: tensor.name.clone(),
                datatype: tensor.datatype.name().to_owned(),
                shape: tensor.told_shape().to_vec(),
            })
            .collect()
    };
    ModelMetadataResponse {
        name: model.name.clone(),
        versions: model.versions.clone(),
        platform: model.platform.clone(),
        inputs: tensors(&model.inputs),
        outputs: tensors(&model.outputs),
    }
}
