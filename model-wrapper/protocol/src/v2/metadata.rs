//! A model's metadata as V2 REST says it.

use serde_json::{Value, json};

use crate::{ModelMetadata, TensorMetadata};

/// The answer to `GET /v2/models/NAME`. The protocol has no word for inputs that may be left out: they are not among `inputs`,
/// from which clients make their requests, but under `optional_inputs`. The model file's own metadata is under `properties`.
/// Both are left out where there are none.
pub fn metadata_json(model: &ModelMetadata) -> Value {
    let mut value = json!({
        "name": model.name,
        "versions": model.versions,
        "platform": model.platform,
        "inputs": tensors(&model.inputs),
        "outputs": tensors(&model.outputs),
    });
    if !model.optional_inputs.is_empty() {
        value["optional_inputs"] = tensors(&model.optional_inputs);
    }
    if !model.properties.is_empty() {
        value["properties"] =
            model.properties.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str()))).collect();
    }
    value
}

fn tensors(tensors: &[TensorMetadata]) -> Value {
    tensors
        .iter()
        .map(|tensor| json!({"name": tensor.name, "datatype": tensor.datatype.name(), "shape": tensor.told_shape()}))
        .collect()
}
