//! Errors of JSON's syntax.

use serde::Deserialize;

use crate::InferError;

/// Reads a body that must be a JSON object. serde would take an array for one, its elements for the members in order.
pub(crate) fn object<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, InferError> {
    if text.trim_start().starts_with('[') {
        return Err(InferError::BadRequest(format!("the body is not {what}: expected a JSON object, got an array")));
    }
    serde_json::from_str(text).map_err(|error| syntax_error(what, text, &error))
}

/// The error of a body that is not `what`. Python's `json` writes NaN and infinity as they are, which is not JSON; the error of a
/// body that has them says so.
fn syntax_error(what: &str, text: &str, error: &serde_json::Error) -> InferError {
    let line = error.line().checked_sub(1).and_then(|line| text.split('\n').nth(line)).unwrap_or_default();
    let at = error.column().saturating_sub(1);
    let near = line.as_bytes().get(at.saturating_sub(1)..line.len().min(at + 1)).unwrap_or_default();
    let advice = if error.is_syntax() && near.iter().any(|byte| matches!(byte, b'N' | b'I')) {
        " (JSON has no NaN and no infinity: send such a tensor as binary data)"
    } else {
        ""
    };
    InferError::BadRequest(format!("the body is not {what}: {error}{advice}"))
}
