//! Several requests as one: which fit together, how their tensors are joined and how the outputs are parted.

use bytes::{Bytes, BytesMut};
use model_wrapper_protocol::{InferRequest, ModelMetadata, Tensor, TensorData};

#[cfg(test)]
mod tests;

/// The first input or output of a model that stands in the way of batching: its first dimension is not dynamic.
pub(crate) fn obstacle(metadata: &ModelMetadata) -> Option<String> {
    let describe = |role: &str, name: &str, shape: &[i64]| format!("{role} '{name}' has the shape {shape:?}");
    let fixed = |shape: &[i64]| shape.first() != Some(&-1);
    let input =
        metadata.inputs.iter().find(|input| fixed(&input.shape)).map(|t| describe("input", &t.name, t.told_shape()));
    input.or_else(|| {
        metadata.outputs.iter().find(|output| fixed(&output.shape)).map(|t| describe("output", &t.name, t.told_shape()))
    })
}

/// Rows of a request for a model that needs so many inputs: the first extent that all its inputs share. None where they differ,
/// there are no rows, or the request has optional inputs, which are for all its rows.
pub(crate) fn rows(request: &InferRequest, needed: usize) -> Option<usize> {
    let rows = *request.inputs.first()?.shape.first()?;
    let same = request.inputs.iter().all(|input| input.shape.first() == Some(&rows));
    (same && rows > 0 && request.inputs.len() <= needed).then_some(rows)
}

/// Whether two requests can run as one: the same inputs but for the number of rows, and the same outputs wanted.
pub(crate) fn compatible(one: &InferRequest, other: &InferRequest) -> bool {
    one.outputs == other.outputs
        && one.inputs.len() == other.inputs.len()
        && one
            .inputs
            .iter()
            .zip(&other.inputs)
            .all(|(a, b)| a.name == b.name && a.datatype == b.datatype && a.shape.get(1..) == b.shape.get(1..))
}

/// Positions in a queue of the requests to run as one with its head, `(request, rows)` each, oldest first. Never more rows
/// than `max_rows`, but a head that alone has more runs alone.
pub(crate) fn pick<'q>(
    mut queue: impl Iterator<Item = (&'q InferRequest, Option<usize>)>,
    max_rows: usize,
) -> (Vec<usize>, usize) {
    let Some((head, head_rows)) = queue.next() else { return (Vec::new(), 0) };
    let mut picked = vec![0];
    let Some(mut total) = head_rows else { return (picked, 1) };
    for (index, (request, rows)) in queue.enumerate() {
        if total >= max_rows {
            break;
        }
        let Some(rows) = rows else { continue };
        if total.saturating_add(rows) <= max_rows && compatible(head, request) {
            picked.push(index + 1);
            total += rows;
        }
    }
    (picked, total)
}

/// The inputs of compatible requests, joined along the first dimension.
pub(crate) fn join(requests: &[&InferRequest]) -> Vec<Tensor> {
    let Some(first) = requests.first() else { return Vec::new() };
    first
        .inputs
        .iter()
        .enumerate()
        .map(|(index, model)| {
            let parts = || requests.iter().map(|request| &request.inputs[index]);
            let mut shape = model.shape.clone();
            shape[0] = parts().map(|part| part.shape[0]).sum();
            let data = match &model.data {
                TensorData::Fixed(_) => TensorData::Fixed(join_bytes(parts())),
                TensorData::Strings(_) => TensorData::Strings(parts().flat_map(strings).cloned().collect()),
            };
            Tensor { name: model.name.clone(), datatype: model.datatype, shape, data }
        })
        .collect()
}

fn join_bytes<'t>(parts: impl Iterator<Item = &'t Tensor> + Clone) -> Bytes {
    let bytes = parts.filter_map(|part| match &part.data {
        TensorData::Fixed(bytes) => Some(bytes),
        TensorData::Strings(_) => None,
    });
    let mut joined = BytesMut::with_capacity(bytes.clone().map(Bytes::len).sum());
    bytes.for_each(|part| joined.extend_from_slice(part));
    joined.freeze()
}

fn strings(tensor: &Tensor) -> &[Bytes] {
    match &tensor.data {
        TensorData::Strings(elements) => elements,
        TensorData::Fixed(_) => &[],
    }
}

/// The outputs of each request, given how many rows each put in. None where an output does not have one row for each row that
/// went in: then the model mixes rows and cannot be batched, whatever its shapes say.
pub(crate) fn part(outputs: &[Tensor], rows: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    let total: usize = rows.iter().sum();
    if outputs.iter().any(|output| output.shape.first() != Some(&total)) {
        return None;
    }
    let mut start = 0;
    let parted = rows.iter().map(|&count| {
        let range = start..start + count;
        start += count;
        outputs.iter().map(|output| slice(output, range.clone(), total)).collect()
    });
    Some(parted.collect())
}

/// Rows `range` of a tensor of `total` rows, as a view.
fn slice(tensor: &Tensor, range: std::ops::Range<usize>, total: usize) -> Tensor {
    let mut shape = tensor.shape.clone();
    shape[0] = range.len();
    let data = match &tensor.data {
        TensorData::Fixed(bytes) => {
            let width = bytes.len() / total;
            TensorData::Fixed(bytes.slice(range.start * width..range.end * width))
        }
        TensorData::Strings(elements) => {
            let width = elements.len() / total;
            TensorData::Strings(elements[range.start * width..range.end * width].to_vec())
        }
    };
    Tensor { name: tensor.name.clone(), datatype: tensor.datatype, shape, data }
}
