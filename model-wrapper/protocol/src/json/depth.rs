//! The bound on the nesting of a body.

use super::walk::string_end;
use crate::InferError;

/// Fails where `text`, valid JSON, nests deeper than `max`. The parts in `skip` are left out: they are parts of `text` in its
/// order, walked elsewhere under a tighter bound, and so the large part of a body is not read twice.
pub(crate) fn check_depth<'a>(text: &str, skip: impl Iterator<Item = &'a str>, max: usize) -> Result<(), InferError> {
    let bytes = text.as_bytes();
    let mut skip = skip.map(|part| (part.as_ptr() as usize - text.as_ptr() as usize, part.len())).peekable();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        if let Some((_, length)) = skip.next_if(|&(start, _)| start <= at) {
            at += length;
            continue;
        }
        match bytes[at] {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return Err(InferError::BadRequest(format!("the body nests deeper than {max} levels")));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}
