//! BYTES elements in binary: each is its length, four bytes little-endian, and its bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::InferError;

/// Elements of the tensor called `name`, as views of `data`; exactly `expected` of them.
pub(crate) fn decode(name: &str, mut data: Bytes, expected: usize, at_most: usize) -> Result<Vec<Bytes>, InferError> {
    let wrong = |index: usize, expected: String, got: usize| InferError::InvalidInput {
        tensor: format!("input '{name}', element {index}"),
        expected,
        got: format!("{got} bytes"),
    };
    if expected > at_most {
        return Err(InferError::input(name, format!("at most {at_most} elements of type BYTES"), expected.to_string()));
    }
    // Each element takes four bytes at least.
    let mut elements = Vec::with_capacity(expected.min(data.len() / 4));
    while !data.is_empty() {
        if elements.len() == expected {
            return Err(InferError::input(
                name,
                format!("{expected} BYTES elements, as its shape says"),
                format!("{} bytes more", data.len()),
            ));
        }
        if data.len() < 4 {
            return Err(wrong(elements.len(), "a length of 4 bytes".into(), data.len()));
        }
        let length = data.get_u32_le() as usize;
        if length > data.len() {
            return Err(wrong(elements.len(), format!("{length} bytes, as its length says"), data.len()));
        }
        elements.push(data.split_to(length));
    }
    if elements.len() < expected {
        return Err(InferError::input(
            name,
            format!("{expected} BYTES elements, as its shape says"),
            elements.len().to_string(),
        ));
    }
    Ok(elements)
}

/// The binary form of `elements`.
pub(crate) fn encode(name: &str, elements: &[Bytes]) -> Result<Bytes, InferError> {
    let mut out = BytesMut::with_capacity(elements.iter().map(|element| 4 + element.len()).sum());
    for element in elements {
        let length = u32::try_from(element.len()).map_err(|_| {
            InferError::Internal(format!("output '{name}' has an element of more than {} bytes", u32::MAX))
        })?;
        out.put_u32_le(length);
        out.put_slice(element);
    }
    Ok(out.freeze())
}
