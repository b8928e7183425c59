//! A model's metadata as V2 REST says it.

use serde_json::{Value, json};

use crate::{ModelMetadata, TensorMetadata};

/// The answer to `GET /v2/models/NAME`. The model file's own metadata is under `properties`, left out where it has none.
pub fn metadata_json(model: &ModelMetadata) -> Value {
    let mut value = json!({
        "name": model.name,
        "versions": model.versions,
        "platform": model.platform,
        "inputs": tensors(&model.inputs),
        "outputs": tensors(&model.outputs),
    });
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
