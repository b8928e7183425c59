//! From a V1 body to tensors.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{InferError, InferRequest, Limits, ModelMetadata, Tensor, TensorMetadata, json};

/// How a V1 request lays its tensors out, and so how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V1Layout {
    /// `instances`: that many rows.
    Rows(usize),
    /// `inputs`: whole tensors.
    Columns,
}

/// A decoded V1 request.
#[derive(Clone, Debug, PartialEq)]
pub struct V1Request {
    /// What to run; nothing where the layout is `Rows(0)`.
    pub request: InferRequest,
    /// How to answer.
    pub layout: V1Layout,
}

/// `signature_name` and whatever else comes is ignored, as KServe does.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// Decodes a V1 body by the metadata of the model that it is for. Optional inputs go with `inputs` alone: they are no rows of
/// instances.
pub fn decode(body: &[u8], model: &ModelMetadata, limits: &Limits) -> Result<V1Request, InferError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        InferError::BadRequest(format!("the body is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    let body: Body<'_> = json::object("a V1 prediction request", text)?;
    let data = body.instances.or(body.inputs);
    json::check_depth(text, data.into_iter().map(RawValue::get), limits.max_json_depth)?;
    let (inputs, layout) = match (body.instances, body.inputs) {
        (Some(rows), None) => by_row(rows.get(), model, limits)?,
        (None, Some(columns)) => (by_column(columns.get(), model, limits)?, V1Layout::Columns),
        (None, None) => {
            return Err(InferError::BadRequest("expected \"instances\" or \"inputs\" in the body, got neither".into()));
        }
        (Some(_), Some(_)) => {
            return Err(InferError::BadRequest("expected \"instances\" or \"inputs\" in the body, got both".into()));
        }
    };
    let request = InferRequest { id: None, inputs, outputs: Vec::new() };
    if layout != V1Layout::Rows(0) {
        request.check(model)?;
    }
    Ok(V1Request { request, layout })
}

fn by_row(text: &str, model: &ModelMetadata, limits: &Limits) -> Result<(Vec<Tensor>, V1Layout), InferError> {
    if !text.starts_with('[') {
        return Err(InferError::BadRequest("expected an array of instances in \"instances\"".into()));
    }
    if let Some(input) = sole_input(model)
        && !is_object_of_inputs(text[1..].trim_start(), model)
    {
        let tensor = tensor(input, text, limits)?;
        let rows = tensor.shape.first().copied().unwrap_or_default();
        return Ok((vec![tensor], V1Layout::Rows(rows)));
    }
    let instances: Vec<Named<'_>> = serde_json::from_str(text).map_err(|error| {
        InferError::BadRequest(format!(
            "\"instances\": expected objects with the inputs {} of model '{}': {error}",
            names(&model.inputs),
            model.name
        ))
    })?;
    if instances.is_empty() {
        return Ok((Vec::new(), V1Layout::Rows(0)));
    }
    // Every input is needed, and so an instance has as many members as the model has inputs: that bounds the search below.
    let mut tensors = Vec::with_capacity(model.inputs.len());
    for input in &model.inputs {
        let mut column = String::from("[");
        for (row, instance) in instances.iter().enumerate() {
            let member = instance.0.iter().take(model.inputs.len()).find(|(name, _)| *name == input.name);
            let Some((_, value)) = member.filter(|_| instance.0.len() == model.inputs.len()) else {
                return Err(unfit(row, instance, model));
            };
            if row > 0 {
                column.push(',');
            }
            column.push_str(value.get());
        }
        column.push(']');
        tensors.push(tensor(input, &column, limits)?);
    }
    Ok((tensors, V1Layout::Rows(instances.len())))
}

fn by_column(text: &str, model: &ModelMetadata, limits: &Limits) -> Result<Vec<Tensor>, InferError> {
    if let Some(input) = sole_input(model)
        && !is_object_of_inputs(text, model)
    {
        return Ok(vec![tensor(input, text, limits)?]);
    }
    let columns: Named<'_> = serde_json::from_str(text).map_err(|error| {
        InferError::BadRequest(format!(
            "\"inputs\": expected an object with the inputs {} of model '{}': {error}",
            names(&model.inputs),
            model.name
        ))
    })?;
    columns.0.iter().map(|(name, value)| tensor(model.known_input(name)?, value.get(), limits)).collect()
}

/// The model's input, where it has but one: then instances may be bare.
fn sole_input(model: &ModelMetadata) -> Option<&TensorMetadata> {
    match model.inputs.as_slice() {
        [input] => Some(input),
        _ => None,
    }
}

/// Whether `text` begins with an object of tensors, and not with the object that says a byte string in base64.
fn is_object_of_inputs(text: &str, model: &ModelMetadata) -> bool {
    let Some(inside) = text.strip_prefix('{') else { return false };
    !inside.trim_start().starts_with("\"b64\"") || model.input("b64").is_some()
}

fn tensor(input: &TensorMetadata, text: &str, limits: &Limits) -> Result<Tensor, InferError> {
    if input.shape.is_empty() && !text.starts_with('[') {
        let (data, _) = json::decode(&input.name, input.datatype, &format!("[{text}]"), 1, limits)?;
        return Ok(Tensor { name: input.name.clone(), datatype: input.datatype, shape: Vec::new(), data });
    }
    let (data, nesting) = json::decode(&input.name, input.datatype, text, usize::MAX, limits)?;
    Ok(Tensor { name: input.name.clone(), datatype: input.datatype, shape: nesting.shape, data })
}

fn names(inputs: &[TensorMetadata]) -> String {
    let mut names = String::new();
    for input in inputs {
        let comma = if names.is_empty() { "" } else { ", " };
        write!(names, "{comma}'{}'", input.name).expect("a string takes any text");
    }
    names
}

fn unfit(row: usize, instance: &Named<'_>, model: &ModelMetadata) -> InferError {
    const SHOWN: usize = 16;
    let mut got: Vec<_> = instance.0.iter().take(SHOWN).map(|(name, _)| format!("'{name}'")).collect();
    if instance.0.len() > SHOWN {
        got.push("…".into());
    }
    let elsewhere = if model.optional_inputs.is_empty() { "" } else { " (optional ones go with \"inputs\")" };
    InferError::InvalidInput {
        tensor: format!("instance {row}"),
        expected: format!("the inputs {}{elsewhere}", names(&model.inputs)),
        got: if got.is_empty() { "none".into() } else { got.join(", ") },
    }
}

/// An object's members in their order, values as text.
struct Named<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Named<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Named<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                #[derive(Deserialize)]
                struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

                let mut members = Vec::new();
                while let Some((Key(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Named(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
