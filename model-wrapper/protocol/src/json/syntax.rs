//! Errors of JSON's syntax.

use crate::InferError;

/// The error of a body that is not `what`. Python's `json` writes NaN and infinity as they are, which is not JSON; the error of a
/// body that has them says so.
pub(crate) fn syntax_error(what: &str, text: &str, error: &serde_json::Error) -> InferError {
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
