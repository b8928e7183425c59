//! From tensors to a V1 body.

use bytes::Bytes;

use super::V1Layout;
use crate::{InferError, InferResponse, Tensor, json};

/// Encodes a V1 response: `predictions`.
///
/// A model of one output gives it as it is. One of several gives an object per row, or for a request by column one object of
/// whole tensors.
pub fn encode(response: &InferResponse, layout: V1Layout) -> Result<Bytes, InferError> {
    response.outputs.iter().try_for_each(json::check_lists)?;
    let mut out = Vec::from(*b"{\"predictions\":");
    match (layout, response.outputs.as_slice()) {
        (V1Layout::Rows(0), _) => out.extend_from_slice(b"[]"),
        (_, [output]) => json::encode(&mut out, output, &output.shape)?,
        (V1Layout::Columns, outputs) => object(&mut out, outputs)?,
        (V1Layout::Rows(rows), outputs) => by_row(&mut out, outputs, rows)?,
    }
    out.push(b'}');
    Ok(out.into())
}

/// What the text of a V1 response is made of, about: bytes of elements and lists.
#[must_use]
pub fn extent(response: &InferResponse) -> usize {
    let of = |output: &Tensor| output.data.bytes().saturating_add(json::lists(&output.shape));
    response.outputs.iter().map(of).fold(0, usize::saturating_add)
}

fn by_row(out: &mut Vec<u8>, outputs: &[Tensor], rows: usize) -> Result<(), InferError> {
    if let Some(output) = outputs.iter().find(|output| output.shape.first() != Some(&rows)) {
        return Err(InferError::BadRequest(format!(
            "output '{}' has shape {:?} and not one row for each of the {rows} instances: send \"inputs\" instead, or use the V2 protocol",
            output.name, output.shape
        )));
    }
    for row in 0..rows {
        out.push(if row == 0 { b'[' } else { b',' });
        let outputs: Vec<Tensor> = outputs.iter().filter_map(|output| output.row(row)).collect();
        object(out, &outputs)?;
    }
    out.push(b']');
    Ok(())
}

fn object(out: &mut Vec<u8>, outputs: &[Tensor]) -> Result<(), InferError> {
    out.push(b'{');
    for (index, output) in outputs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::string(out, &output.name);
        out.push(b':');
        json::encode(out, output, &output.shape)?;
    }
    out.push(b'}');
    Ok(())
}
