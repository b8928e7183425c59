//! Which inputs and outputs have no shape at all.
//!
//! ONNX may leave the number of a tensor's dimensions open. ONNX Runtime then tells none, as it does of a scalar, so the model
//! itself is asked.

use std::collections::BTreeSet;

use crate::LoadError;
use crate::external::Fields;

/// Field numbers of onnx.proto that lead from a model to the shapes of its inputs and outputs.
mod field {
    pub(super) const MODEL_GRAPH: u64 = 7;
    pub(super) const GRAPH_INPUT: u64 = 11;
    pub(super) const GRAPH_OUTPUT: u64 = 12;
    pub(super) const VALUE_NAME: u64 = 1;
    pub(super) const VALUE_TYPE: u64 = 2;
    pub(super) const TYPE_TENSOR: u64 = 1;
    pub(super) const TENSOR_SHAPE: u64 = 2;
}

/// Names of the inputs and outputs for which `model` gives no shape.
pub(crate) fn without_shape(model: &[u8]) -> Result<BTreeSet<String>, LoadError> {
    let mut names = BTreeSet::new();
    let mut of_model = Fields::of(model);
    while let Some((number, graph)) = of_model.next()? {
        if number != field::MODEL_GRAPH {
            continue;
        }
        let mut of_graph = Fields::of(graph);
        while let Some((number, value)) = of_graph.next()? {
            if matches!(number, field::GRAPH_INPUT | field::GRAPH_OUTPUT)
                && !at(value, &[field::VALUE_TYPE, field::TYPE_TENSOR, field::TENSOR_SHAPE])?
            {
                names.extend(name(value)?);
            }
        }
    }
    Ok(names)
}

/// Whether there is a field at that path of fields.
fn at(message: &[u8], path: &[u64]) -> Result<bool, LoadError> {
    let Some((&wanted, rest)) = path.split_first() else { return Ok(true) };
    let mut fields = Fields::of(message);
    let mut found = false;
    while let Some((number, inner)) = fields.next()? {
        found |= number == wanted && at(inner, rest)?;
    }
    Ok(found)
}

fn name(value: &[u8]) -> Result<Option<String>, LoadError> {
    let mut fields = Fields::of(value);
    let mut name = None;
    while let Some((number, text)) = fields.next()? {
        if number == field::VALUE_NAME {
            name = std::str::from_utf8(text).ok().map(str::to_owned);
        }
    }
    Ok(name)
}
