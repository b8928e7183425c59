//! Walks the scalars of a nested JSON array.

use crate::InferError;

/// The nesting of an array as it came: extent by depth.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Nesting {
    pub(crate) shape: Vec<usize>,
    pub(crate) elements: usize,
}

/// Calls `visit` with index and text of each scalar of `text`, an array nested to any regular depth up to `max_depth`.
///
/// `text` must be valid JSON. A string comes with its quotes and escapes; an object counts as a scalar. `name` is the tensor
/// that errors name.
pub(crate) fn walk<'a>(
    name: &str,
    text: &'a str,
    max_depth: usize,
    mut visit: impl FnMut(usize, &'a str) -> Result<(), InferError>,
) -> Result<Nesting, InferError> {
    let bytes = text.as_bytes();
    let ragged = |index: usize| {
        InferError::input(name, "rows of equal length", format!("another length before element {index}"))
    };
    let mut extents: Vec<Option<usize>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut scalars_at = None;
    let mut index = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => at += 1,
            b'[' => {
                if open.len() == max_depth {
                    return Err(InferError::input(name, format!("at most {max_depth} dimensions"), "more"));
                }
                if scalars_at == Some(open.len()) {
                    return Err(ragged(index));
                }
                if let Some(count) = open.last_mut() {
                    *count += 1;
                }
                open.push(0);
                if extents.len() < open.len() {
                    extents.push(None);
                }
                at += 1;
            }
            b']' => {
                let count = open.pop().unwrap_or_default();
                match &mut extents[open.len()] {
                    Some(extent) if *extent != count => return Err(ragged(index)),
                    extent => *extent = Some(count),
                }
                at += 1;
            }
            _ => {
                let end = scalar_end(bytes, at);
                let Some(count) = open.last_mut() else {
                    return Err(InferError::input(name, "an array", shorten(&text[at..end])));
                };
                *count += 1;
                if extents.len() > open.len() || scalars_at.is_some_and(|depth| depth != open.len()) {
                    return Err(ragged(index));
                }
                scalars_at = Some(open.len());
                visit(index, &text[at..end])?;
                index += 1;
                at = end;
            }
        }
    }
    Ok(Nesting { shape: extents.into_iter().map(Option::unwrap_or_default).collect(), elements: index })
}

/// Where the scalar that begins at `start` ends.
fn scalar_end(bytes: &[u8], start: usize) -> usize {
    match bytes[start] {
        b'"' => string_end(bytes, start),
        b'{' => {
            let mut depth = 0_usize;
            let mut at = start;
            while at < bytes.len() {
                match bytes[at] {
                    b'"' => {
                        at = string_end(bytes, at);
                        continue;
                    }
                    b'{' => depth += 1,
                    b'}' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            at
        }
        _ => bytes[start..]
            .iter()
            .position(|byte| matches!(byte, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
            .map_or(bytes.len(), |length| start + length),
    }
}

/// One past the closing quote of the string that begins at `start`.
pub(super) fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A scalar as an error shows it.
pub(super) fn shorten(token: &str) -> String {
    const SHOWN: usize = 40;
    match token.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &token[..end]),
        None => token.to_owned(),
    }
}
